// The recurrence by chunks of time (Yang et al. 2023, arXiv 2312.06635, section 4.2): what a token sees of its own chunk
// is a causal product of queries and keys, what it sees of earlier ones comes from the state at the chunk's start.
//   scores[t, s] = q_t . (k_s a_{s+1} ... a_t)     o_t = sum_s scores[t, s] v_s + S_start^T (q_t a_{start} ... a_t)
// Decays stay products of numbers up to 1, taken step by step from a token back to the chunk's start: nothing is divided
// by a decay and no exponent is formed, so that nothing can overflow and strong forgetting ends in zero.

import { cursorWgsl } from "../../engine/cursor.ts";
import { type Pass, share, type Variant } from "../../engine/kernel.ts";
import { ceilDiv } from "../../engine/tensor.ts";
import type { Recurrence, RecurrenceLetter } from "../recurrence.ts";
import { columnsOf, each, largestDivisor, range, type S, sharedWgsl, valueText, when } from "./common.ts";

/** Tokens of a chunk. */
const CHUNK = 32;
const chunks = share("T", CHUNK);
/** Vec4 of key rows that a thread takes at a time where it makes scores, and vec4 columns of values. */
const ROWS = 4;
const COLUMNS = 2;
const WORKGROUP = 32;

type P = Pass<RecurrenceLetter>;
const main = `
const CHUNK = ${CHUNK}u;
const CHUNKS = (T + CHUNK - 1u) / CHUNK;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;`;
const threads = (count: (s: S) => number): Pick<P, "workgroup" | "grid"> => ({
  workgroup: WORKGROUP,
  grid: (s) => ceilDiv(count(s), WORKGROUP),
});
const four = (text: (i: number) => string) => range(4).map(text).join(", ");
const tilesOf = (s: S) => ceilDiv(s.Dv, 4) / columnsOf(s, COLUMNS);
const loadValues = (s: S, columns: number) =>
  each(columns, (c) => {
    const value = (l: number) =>
      valueText(s, `values(token, hk) + (first + ${c}u) * 4u + ${l}u`, `(first + ${c}u) * 4u + ${l}u`);
    return `let v${c} = vec4f(${four(value)});`;
  });

/**
 * The feature map of all keys, zero past the end of a row, and of all queries, four tokens side by side, zero past the
 * end of a stream. A thread makes four numbers.
 */
const features = (r: Recurrence): P => ({
  ...threads(({ B, T, Hq, Hk, Dk }) => B * T * Hk * ceilDiv(Dk, 4) + B * Hq * ceilDiv(T, 4) * Dk),
  writes: ["key", "query"],
  wgsl: `${sharedWgsl(r)}
const KEYS = B * T * Hk * Dk4;${main}
  if (i < KEYS) {
    let d = i % Dk4 * 4u;
    let row = i / Dk4;
    let at = keys(row / Hk, row % Hk);
    key[i] = vec4f(${four((l) => `select(0.0, feature(qkv[at + min(d + ${l}u, Dk - 1u)]), d + ${l}u < Dk)`)});
    return;
  }
  let d = (i - KEYS) % Dk;
  let row = (i - KEYS) / Dk;  // [b, h, t / 4]
  let t = row % T4 * 4u;
  let h = row / T4 % Hq;
  let b = row / T4 / Hq;
  if (b >= B || t >= count(b)) { return; }
  let at = h % G * Dk + d;
  query[i - KEYS] = SCALE * vec4f(${four((l) => `select(0.0, feature(qkv[queries(b * T + min(t + ${l}u, T - 1u), h / G) + at]), t + ${l}u < count(b))`)});
}`,
});

/**
 * A thread owns four tokens of a query head and walks back from the last of them to the chunk's start. A query joins at
 * its own token, and where there are decays ends as what it sees of the state at the chunk's start.
 */
const scores = (r: Recurrence): P => ({
  ...threads(({ B, T, Hq }) => B * Hq * ceilDiv(T, 4)),
  writes: ["scores", ...(r.gated ? ["query"] : [])],
  wgsl: ({ Dk }) => {
    const quads = largestDivisor(ceilDiv(Dk, 4), ROWS);
    const component = (i: number) => `${i >> 2}.${"xyzw"[i & 3]}`;
    const whole = Dk % 4 === 0;
    const row = (d: number) =>
      `i * Dk + ${whole ? `block * 4u + ${d}u` : `min(block * 4u + ${d}u, Dk - 1u)`}`;
    const earlier = ceilDiv(Dk, 4) > quads ? "select(scores[at], vec4f(), block == 0u) + " : "";
    return `${cursorWgsl}
const G = Hq / Hk;${main}
  let t0 = i % T4 * 4u;
  let h = i / T4 % Hq;
  let b = i / T4 / Hq;
  if (b >= B) { return; }
  let n = count(b);
  if (t0 >= n) { return; }
  let start = t0 / CHUNK * CHUNK;
  for (var block = 0u; block < Dk4; block += ${quads}u) {
    ${each(4 * quads, (d) => (r.gated ? `var w${d} = vec4f();` : `let w${d} = query[${row(d)}];`))}
    for (var s = min(t0 + 4u, n); s > start;) {
      s--;
      ${when(
        r.gated,
        `if (s >= t0) {
        let joins = vec4u(0u, 1u, 2u, 3u) == vec4u(s - t0);
        ${each(4 * quads, (d) => `w${d} = select(w${d}, query[${row(d)}], joins);`)}
      }`,
      )}
      let place = ((b * T + s) * Hk + h / G) * Dk4 + block;
      ${each(quads, (j) => `let k${j} = key[place + ${j}u];`)}
      let score = ${range(4 * quads)
        .map((d) => `w${d} * k${component(d)}`)
        .join(" + ")};
      let at = i * CHUNK + s - start;
      scores[at] = ${earlier}${r.gated ? "score" : "select(vec4f(), score, vec4u(0u, 1u, 2u, 3u) + t0 >= vec4u(s))"};
      ${when(r.gated, `${each(quads, (j) => `let a${j} = decay[place + ${j}u];`)} ${each(4 * quads, (d) => `w${d} *= a${component(d)};`)}`)}
    }
    ${when(
      r.gated,
      each(
        4 * quads,
        (d) =>
          `${when(!whole, `if (block * 4u + ${d}u < Dk) `)}{ query[i * Dk + block * 4u + ${d}u] = w${d}; }`,
      ),
    )}
  }
}`;
  },
});

/** What a chunk adds to the state, and what it leaves of the one before: a thread owns 4 rows of a few columns. */
const ends = (r: Recurrence): P => ({
  ...threads((s) => s.B * ceilDiv(s.T, CHUNK) * s.Hk * ceilDiv(s.Dk, 4) * tilesOf(s)),
  writes: ["states", "sums", "fade"],
  wgsl: (s) => {
    const columns = columnsOf(s, COLUMNS);
    const state = (f: (row: number, column: number) => string) =>
      each(4, (row) => each(columns, (column) => f(row, column)));
    return `${sharedWgsl(r)}${main}
  let first = i % ${tilesOf(s)}u * ${columns}u;
  let d4 = i / ${tilesOf(s)}u % Dk4;
  let head = i / ${tilesOf(s)}u / Dk4;  // [b, chunk, hk]
  let hk = head % Hk;
  let start = head / Hk % CHUNKS * CHUNK;
  let b = head / Hk / CHUNKS;
  if (b >= B || start >= count(b)) { return; }
  ${state((d, c) => `var s${d}_${c} = vec4f();`)}
  ${when(r.gated, "var left = vec4f(1.0);")} ${when(r.normalise, "var sum = vec4f();")}
  for (var t = min(start + CHUNK, count(b)); t > start;) {
    t--;
    let token = b * T + t;
    let at = (token * Hk + hk) * Dk4 + d4;
    let k = key[at]${when(r.gated, " * left")};
    ${loadValues(s, columns)}
    ${state((d, c) => `s${d}_${c} += k.${"xyzw"[d]} * v${c};`)}
    ${when(r.gated, "left *= decay[at];")} ${when(r.normalise, "sum += k;")}
  }
  ${each(4, (d) => `if (d4 * 4u + ${d}u < Dk) { ${each(columns, (c) => `states[(head * Dk + d4 * 4u + ${d}u) * Dv4 + first + ${c}u] = s${d}_${c};`)} }`)}
  ${when(r.gated, "if (first == 0u) { fade[head * Dk4 + d4] = left; }")}
  ${when(r.normalise, `if (first == 0u) { ${each(4, (d) => `sums[(head * Dk4 + d4) * 4u + ${d}u] = sum.${"xyzw"[d]};`)} }`)}
}`;
  },
});

/** From the chunks' ends to their starts, and the state from the first token to the last: a thread owns a vec4. */
const link = (r: Recurrence): P => ({
  ...threads(({ B, Hk, Dk, Dv }) => B * Hk * Dk * ceilDiv(Dv, 4)),
  writes: ["states", "sums"],
  wgsl: `${sharedWgsl(r)}${main}
  let c4 = i % Dv4;
  let d = i / Dv4 % Dk;
  let hk = i / Dv4 / Dk % Hk;
  let b = i / Dv4 / Dk / Hk;
  if (b >= B || count(b) == 0u) { return; }
  let used = b * CHUNKS + (count(b) + CHUNK - 1u) / CHUNK;
  var s = state[i];
  for (var chunk = b * CHUNKS; chunk < used; chunk++) {
    let head = chunk * Hk + hk;
    let at = (head * Dk + d) * Dv4 + c4;
    let end = states[at];
    states[at] = s;
    s = ${when(r.gated, "fade[head * Dk4 + d / 4u][d % 4u] * ")}s + end;
  }
  state[i] = s;
  ${when(
    r.normalise,
    `if (c4 > 0u) { return; }
  let row = (b * Hk + hk) * (Dk4 * 4u) + d;
  var z = keySum[row];
  for (var chunk = b * CHUNKS; chunk < used; chunk++) {
    let at = (chunk * Hk + hk) * (Dk4 * 4u) + d;
    let end = sums[at];
    sums[at] = z;
    z += end;
  }
  keySum[row] = z;`,
  )}
}`,
});

/** A thread owns four tokens of a query head and a few columns: scores times values, queries times the state. */
const outputs = (r: Recurrence): P => ({
  ...threads((s) => s.B * s.Hq * ceilDiv(s.T, 4) * tilesOf(s)),
  wgsl: (s) => {
    const columns = columnsOf(s, COLUMNS);
    const tokens = (f: (t: number, column: number) => string) =>
      each(4, (t) => each(columns, (column) => f(t, column)));
    return `${sharedWgsl(r)}${main}
  let first = i % ${tilesOf(s)}u * ${columns}u;
  let row = i / ${tilesOf(s)}u;  // [b, h, t / 4]
  let t0 = row % T4 * 4u;
  let h = row / T4 % Hq;
  let b = row / T4 / Hq;
  if (b >= B) { return; }
  let hk = h / G;
  let start = t0 / CHUNK * CHUNK;
  ${tokens((t, c) => `var o${t}_${c} = vec4f();`)}
  ${when(r.normalise, "var sum = vec4f();")}
  if (t0 < count(b)) {
    for (var t = start; t < min(t0 + 4u, count(b)); t++) {
      let token = b * T + t;
      let x = scores[row * CHUNK + t - start];
      ${loadValues(s, columns)}
      ${tokens((t, c) => `o${t}_${c} += x.${"xyzw"[t]} * v${c};`)}
      ${when(r.normalise, "sum += x;")}
    }
    let head = (b * CHUNKS + start / CHUNK) * Hk + hk;
    for (var d = 0u; d < Dk; d++) {
      let x = query[row * Dk + d];
      ${each(columns, (c) => `let v${c} = states[(head * Dk + d) * Dv4 + first + ${c}u];`)}
      ${tokens((t, c) => `o${t}_${c} += x.${"xyzw"[t]} * v${c};`)}
      ${when(r.normalise, "sum += x * sums[head * (Dk4 * 4u) + d];")}
    }
  }
  ${each(4, (t) => `if (t0 + ${t}u < T) { ${each(columns, (c) => `o[((b * T + t0 + ${t}u) * Hq + h) * Dv4 + first + ${c}u] = o${t}_${c};`)} ${when(r.normalise, `if (first == 0u) { denominator[(b * T + t0 + ${t}u) * (Hq4 * 4u) + h] = sum.${"xyzw"[t]}; }`)} }`)}
}`;
  },
});

/** All chunks at once, with a short serial pass over their ends; no barrier. */
export const chunked = (r: Recurrence): Variant<RecurrenceLetter> => ({
  suits: "any",
  when: ({ T }) => T >= 2 * CHUNK,
  views: {
    key: "vec4f",
    scores: "vec4f",
    query: "vec4f",
    states: "vec4f",
    state: "vec4f",
    o: "vec4f",
    ...(r.gated ? { fade: "vec4f", decay: "vec4f" } : {}),
  },
  scratch: {
    key: ["B", "T", "Hk", "Dk"],
    // of four tokens each
    scores: ["B", "Hq", share("T", 4), CHUNK, 4],
    query: ["B", "Hq", share("T", 4), "Dk", 4],
    states: ["B", chunks, "Hk", "Dk", "Dv"],
    ...(r.gated ? { fade: ["B", chunks, "Hk", "Dk"] } : {}),
    ...(r.normalise ? { sums: ["B", chunks, "Hk", "Dk"] } : {}),
  },
  passes: [features(r), scores(r), ends(r), link(r), outputs(r)],
});
