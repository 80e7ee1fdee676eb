// The recurrence that linear attention and gated linear attention share. Per key/value head, with one decay a key row:
//   S_t = diag(a_t) S_{t-1} + f(k_t) v_t^T        o_t = Dk^-1/2 S_t^T f(q_t)
// S [Dk, Dv] is all that a head carries from token to token.

import type { Pass, Variant } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { type FeatureMap, featureMaps, featureWgsl } from "./featureMap.ts";
import { chunked } from "./recurrence/chunked.ts";
import { columnsOf, each, lines, range, type S, sharedWgsl, valueText, when } from "./recurrence/common.ts";

export interface Recurrence {
  /** f, on queries and keys. */
  featureMap: FeatureMap;
  /** Also carry the sum of all f(k_t) in `keySum`, and write its product with each f(q_t) as `denominator`. */
  normalise: boolean;
  /** Multiply each row of the state by the token's decay first. */
  gated: boolean;
}

//   B streams   T tokens in this chunk   Hq query heads   Hk key/value heads, each serving Hq / Hk query heads
//   Dk width of a key   Dv width of a value   W columns of qkv: [q: Hq Dk | k: Hk Dk | v: Hk Dv | anything]
export type RecurrenceLetter = "B" | "T" | "Hq" | "Hk" | "Dk" | "Dv" | "W";
export const RECURRENCE_LETTERS = ["B", "T", "Hq", "Hk", "Dk", "Dv", "W"] as const;

export interface RecurrenceArrays {
  qkv: Float32Array;
  cursor: Uint32Array;
  decay?: Float32Array;
  state: Float32Array;
  keySum?: Float32Array;
  o: Float32Array;
  denominator?: Float32Array;
}

/** Rows of `o` and `denominator` past a stream's count are zero. */
export function recurrenceReference(
  t: RecurrenceArrays,
  s: S,
  { featureMap, normalise, gated }: Recurrence,
): void {
  const { B, T, Hq, Hk, Dk, Dv, W } = s;
  const f = featureMaps[featureMap];
  const scale = 1 / Math.sqrt(Dk);
  t.o.fill(0);
  t.denominator?.fill(0);
  for (let b = 0; b < B; b++)
    for (let i = 0; i < t.cursor[b * 8 + 1]!; i++) {
      const token = b * T + i;
      const row = t.qkv.subarray(token * W, (token + 1) * W);
      for (let hk = 0; hk < Hk; hk++) {
        const k = Array.from(row.subarray((Hq + hk) * Dk, (Hq + hk + 1) * Dk), f);
        const v = row.subarray((Hq + Hk) * Dk + hk * Dv);
        for (let d = 0; d < Dk; d++) {
          const key = (b * Hk + hk) * Dk + d;
          const decay = gated ? t.decay![(token * Hk + hk) * Dk + d]! : 1;
          for (let j = 0; j < Dv; j++) t.state[key * Dv + j] = decay * t.state[key * Dv + j]! + k[d]! * v[j]!;
          if (normalise) t.keySum![key] = t.keySum![key]! + k[d]!;
        }
      }
      for (let h = 0; h < Hq; h++) {
        const first = (b * Hk + Math.floor(h / (Hq / Hk))) * Dk;
        const q = Array.from(row.subarray(h * Dk, (h + 1) * Dk), f);
        for (let j = 0; j < Dv; j++) {
          let sum = 0;
          for (let d = 0; d < Dk; d++) sum += q[d]! * t.state[(first + d) * Dv + j]!;
          t.o[(token * Hq + h) * Dv + j] = scale * sum;
        }
        if (!normalise) continue;
        let sum = 0;
        for (let d = 0; d < Dk; d++) sum += q[d]! * t.keySum![first + d]!;
        t.denominator![token * Hq + h] = scale * sum;
      }
    }
}

export const recurrenceFlops = (s: S, r: Recurrence): number =>
  s.B *
  s.T *
  s.Dk *
  (s.Hk * s.Dv * (r.gated ? 3 : 2) + s.Hq * s.Dv * 2 + (r.normalise ? s.Hk + 2 * s.Hq : 0));

/** Bytes that must move: the columns of qkv that are used, and the state twice. */
export const recurrenceBytes = (s: S, r: Recurrence): number => {
  const perToken =
    s.Hq * s.Dk + s.Hk * (s.Dk + s.Dv) + s.Hq * s.Dv + (r.gated ? s.Hk * s.Dk : 0) + (r.normalise ? s.Hq : 0);
  return 4 * s.B * (s.T * perToken + 2 * s.Hk * s.Dk * (s.Dv + (r.normalise ? 1 : 0)));
};

/** A cursor for tests: a full stream, a frozen one, and one that ends within the chunk. */
export function someCounts({ B, T }: S): Uint32Array {
  const cursor = new Uint32Array(B * 8);
  for (let b = 0; b < B; b++) cursor.set([100 * b, [T, 0, ceilDiv(T, 3)][b % 3]!], b * 8);
  return cursor;
}

/** Activations for tests: most of them small, some past where the feature maps end. */
export const someActivations = ({ B, T, W }: S, random: () => number): Float32Array =>
  Float32Array.from({ length: B * T * W }, () => 20 * random() ** 3);

/** Threads, or quads of threads, with so many columns each. */
const groupsOf = (s: S, columns: number) => (s.B * s.Hk * ceilDiv(s.Dv, 4)) / columns;

/** From here on `first` is the group's first vec4 column, of stream b and head h, and n the stream's count. */
const groupWgsl = (s: S, columns: number) => {
  const tiles = ceilDiv(s.Dv, 4) / columns;
  return `
  if (group >= ${groupsOf(s, columns)}u) { return; }
  let first = group % ${tiles}u * ${columns}u;
  let h = group / ${tiles}u % Hk;
  let b = group / ${tiles}u / Hk;
  let n = count(b);`;
};

/** For one token or a few: the state stays where it is, and each element is read and written once a token. */
function inPlace(r: Recurrence): Variant<RecurrenceLetter> {
  const text = (s: S) => {
    const columns = columnsOf(s, 4);
    const G = s.Hq / s.Hk;
    const outputs = (f: (g: number, c: number) => string) => each(G, (g) => each(columns, (c) => f(g, c)));
    const output = (g: number, c: number) => `o[(token * Hq + h * G + ${g}u) * Dv4 + first + ${c}u]`;
    const denominator = (g: number) => `denominator[token * (Hq4 * 4u) + h * G + ${g}u]`;
    const value = (c: number, l: number) =>
      valueText(s, `values(token, h) + (first + ${c}u) * 4u + ${l}u`, `(first + ${c}u) * 4u + ${l}u`);
    return `${sharedWgsl(r)}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = workgroupIndex(wg) * WG + lane;
  ${groupWgsl(s, columns)}
  for (var token = b * T; token < (b + 1u) * T; token++) {
    ${outputs((g, c) => `var o${g}${c} = vec4f();`)}
    ${when(
      r.normalise,
      each(G, (g) => `var p${g} = 0.0;`),
    )}
    if (token < b * T + n) {
      ${each(columns, (c) => `let v${c} = vec4f(${range(4).map((l) => value(c, l))});`)}
      for (var d = 0u; d < Dk; d++) {
        let at = ((b * Hk + h) * Dk + d) * Dv4 + first;
        let k = feature(qkv[keys(token, h) + d]);
        ${when(r.gated, "let a = decay[(token * Hk + h) * (Dk4 * 4u) + d];")}
        ${each(columns, (c) => `let s${c} = ${when(r.gated, "a * ")}state[at + ${c}u] + k * v${c}; state[at + ${c}u] = s${c};`)}
        ${when(r.normalise, "var z = 0.0; if (first == 0u) { z = keySum[(b * Hk + h) * (Dk4 * 4u) + d] + k; keySum[(b * Hk + h) * (Dk4 * 4u) + d] = z; }")}
        ${each(G, (g) => `{ let q = feature(qkv[queries(token, h) + ${g}u * Dk + d]); ${each(columns, (c) => `o${g}${c} += q * s${c};`)} ${when(r.normalise, `p${g} += q * z;`)} }`)}
      }
    }
    ${outputs((g, c) => `${output(g, c)} = SCALE * o${g}${c};`)}
    ${when(r.normalise, `if (first == 0u) { ${each(G, (g) => `${denominator(g)} = SCALE * p${g};`)} }`)}
  }
}`;
  };
  return {
    suits: "cpu",
    when: ({ T }) => T <= FEW,
    views: { state: "vec4f", o: "vec4f" },
    passes: [{ workgroup: 4, grid: (s) => ceilDiv(groupsOf(s, columnsOf(s, 4)), 4), wgsl: text }],
  };
}
/** Tokens up to which moving the state into registers and back costs more than it saves. */
const FEW = 4;

/** Key rows and vec4 columns that a thread holds at a time: twice either takes SwiftShader's compiler a second. */
const ROWS = 8;
const COLUMNS = 2;

/**
 * The state stays in registers while time runs. A quad of a subgroup, or a single thread, owns a group of columns;
 * lane l of the quad holds key rows l, l + 4, ... Keys too wide for the registers go in blocks of rows, each adding to
 * the outputs of the blocks before it.
 */
function registers(r: Recurrence, lanes: 1 | 4): Variant<RecurrenceLetter> {
  const quad = lanes === 4;
  // made once in a pass of its own, not again by every thread that reads it
  const mapped = r.featureMap === "elu";
  const text = (s: S) => {
    const blocks = ceilDiv(ceilDiv(s.Dk, lanes), ROWS);
    const rows = ceilDiv(ceilDiv(s.Dk, lanes), blocks);
    const columns = columnsOf(s, COLUMNS);
    const G = s.Hq / s.Hk;
    const whole = blocks * rows * lanes === s.Dk;
    // a row past the end reads the last one and counts for nothing
    const row = (i: number) => (whole ? `d${i}` : `min(d${i}, Dk - 1u)`);
    const ifRow = (i: number) => when(!whole, `if (d${i} < Dk) `);
    const counted = (i: number, x: string) => (whole ? x : `select(0.0, ${x}, d${i} < Dk)`);
    const key = (i: number) =>
      counted(i, mapped ? `key[keysAt + ${row(i)}]` : `feature(qkv[keysAt + ${row(i)}])`);
    const query = (g: number, i: number) =>
      counted(
        i,
        mapped
          ? `query[queriesAt + ${g}u * (Dk4 * 4u) + ${row(i)}]`
          : `feature(qkv[queriesAt + ${g}u * Dk + ${row(i)}])`,
      );
    const value = (c: number, l: string) =>
      valueText(s, `valuesAt + ${4 * c}u + ${l}`, `(first + ${c}u) * 4u + ${l}`);
    const loadValue = (c: number) =>
      quad
        ? `let x${c} = ${value(c, "lane")}; let v${c} = vec4f(${range(4).map((l) => `quadBroadcast(x${c}, ${l}u)`)});`
        : `let v${c} = vec4f(${range(4).map((l) => value(c, `${l}u`))});`;
    const outputs = (f: (g: number, c: number) => string) => each(G, (g) => each(columns, (c) => f(g, c)));
    const zero = quad ? "0.0" : "vec4f()";
    const output = (g: number, c: number) => {
      const at = `(token * Hq + h * G + ${g}u) * Dv4 + first + ${c}u`;
      return quad ? `o[(${at}) * 4u + lane]` : `o[${at}]`;
    };
    const denominator = (g: number) => `denominator[token * (Hq4 * 4u) + h * G + ${g}u]`;
    const earlier = (x: string, none: string) => when(blocks > 1, `select(${x}, ${none}, block == 0u) + `);

    return `${sharedWgsl(r)}${when(quad, quadWgsl)}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = workgroupIndex(wg)${when(!quad, " * WG + lane")};
  ${groupWgsl(s, columns)}
  for (var token = b * T + n; token < (b + 1u) * T; token++) {
    ${outputs((g, c) => `${output(g, c)} = ${zero};`)}
    ${when(r.normalise, `if (first == 0u) { ${each(G, (g) => `${denominator(g)} = 0.0;`)} }`)}
  }
  if (n == 0u) { return; }
  for (var block = 0u; block < ${blocks}u; block++) {
    ${each(rows, (i) => `let d${i} = (block * ${rows}u + ${i}u) * ${lanes}u${when(quad, " + lane")};`)}
    ${each(rows, (i) => `let at${i} = ((b * Hk + h) * Dk + ${row(i)}) * Dv4 + first;`)}
    ${each(rows, (i) => each(columns, (c) => `var s${i}_${c} = state[at${i} + ${c}u];`))}
    ${when(
      r.normalise,
      `// every group sums the keys it sees, the first of a head carries the sum on
    let sums = (b * Hk + h) * (Dk4 * 4u);
    ${each(rows, (i) => `var z${i} = 0.0;`)}
    if (first == 0u) { ${each(rows, (i) => `z${i} = keySum[sums + ${row(i)}];`)} }`,
    )}
    for (var token = b * T; token < b * T + n; token++) {
      let queriesAt = ${mapped ? "(token * Hq + h * G) * (Dk4 * 4u)" : "queries(token, h)"};
      let keysAt = ${mapped ? "(token * Hk + h) * (Dk4 * 4u)" : "keys(token, h)"};
      let valuesAt = values(token, h) + first * 4u;
      ${when(r.gated, "let decayAt = (token * Hk + h) * (Dk4 * 4u);")}
      ${each(columns, loadValue)}
      ${outputs((g, c) => `var o${g}_${c} = vec4f();`)}
      ${when(
        r.normalise,
        each(G, (g) => `var p${g} = 0.0;`),
      )}
      ${lines(
        rows,
        (i) => `{
        let k = ${key(i)}; ${when(r.gated, `let a = decay[decayAt + ${row(i)}];`)}
        ${each(columns, (c) => `s${i}_${c} = ${when(r.gated, "a * ")}s${i}_${c} + k * v${c};`)} ${when(r.normalise, `z${i} += k;`)}
        ${each(G, (g) => `{ let q = ${query(g, i)}; ${each(columns, (c) => `o${g}_${c} += q * s${i}_${c};`)} ${when(r.normalise, `p${g} += q * z${i};`)} }`)}
      }`,
      )}
      ${outputs((g, c) => `${output(g, c)} = ${earlier(output(g, c), zero)}SCALE * ${quad ? `quadShare(o${g}_${c}, lane)` : `o${g}_${c}`};`)}
      ${when(
        r.normalise,
        `${each(G, (g) => `let sum${g} = SCALE * ${quad ? `quadSum(p${g})` : `p${g}`};`)}
      if (first == 0u${when(quad, " && lane == 0u")}) { ${each(G, (g) => `${denominator(g)} = ${earlier(denominator(g), "0.0")}sum${g};`)} }`,
      )}
    }
    ${each(rows, (i) => `${ifRow(i)}{ ${each(columns, (c) => `state[at${i} + ${c}u] = s${i}_${c};`)} }`)}
    ${when(r.normalise, `if (first == 0u) { ${each(rows, (i) => `${ifRow(i)}{ keySum[sums + d${i}] = z${i}; }`)} }`)}
  }
}`;
  };

  return {
    suits: "cpu",
    ...(quad ? { needs: ["subgroups"] as const } : {}),
    when: ({ T }) => T > FEW,
    views: { state: "vec4f", ...(quad ? {} : { o: "vec4f" as const }) },
    ...(mapped ? { scratch: { query: ["B", "T", "Hq", "Dk"], key: ["B", "T", "Hk", "Dk"] } as const } : {}),
    passes: [
      ...(mapped ? [mapPass(r)] : []),
      { workgroup: 4, grid: (s) => ceilDiv(groupsOf(s, columnsOf(s, COLUMNS)), quad ? 1 : 4), wgsl: text },
    ],
  };
}

/** The feature map of all queries and keys, one thread a head of a token. */
const mapPass = (r: Recurrence): Pass<RecurrenceLetter> => ({
  workgroup: 16,
  grid: ({ B, T, Hq, Hk }) => ceilDiv(B * T * (Hq + Hk), 16),
  writes: ["query", "key"],
  wgsl: `${featureWgsl[r.featureMap]}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let token = i / (Hq + Hk);
  let h = i % (Hq + Hk);
  if (token >= B * T) { return; }
  let columns = token * (W4 * 4u) + h * Dk;
  let queriesAt = (token * Hq + h) * (Dk4 * 4u);
  let keysAt = (token * Hk + h - Hq) * (Dk4 * 4u);
  for (var d = 0u; d < Dk; d++) {
    let x = feature(qkv[columns + d]);
    if (h < Hq) { query[queriesAt + d] = x; } else { key[keysAt + d] = x; }
  }
}`,
});

/** quadShare: lane l's share of a vector's sum over the quad, component l; lanes exchange halves, then quarters. */
const quadWgsl = `
fn quadShare(v: vec4f, lane: u32) -> f32 {
  let upper = lane >= 2u;
  let pair = select(v.xy, v.zw, upper) + quadSwapY(select(v.zw, v.xy, upper));
  let odd = lane % 2u == 1u;
  return select(pair.x, pair.y, odd) + quadSwapX(select(pair.y, pair.x, odd));
}
fn quadSum(x: f32) -> f32 { let pair = x + quadSwapX(x); return pair + quadSwapY(pair); }`;

/** Vec4 columns of the state that a workgroup owns: 128 bytes of each of its rows. */
const TILE = 8;
/** Workgroup memory that staging aims at: SwiftShader compiles a store for every zero that it starts with. */
const STAGED_BYTES = 4096;
/** WebGPU's default limit. */
const MOST_BYTES = 16384;

/**
 * A workgroup owns a tile of a head's columns; its threads hold every `teams`-th row of a vec4 column in registers.
 * Queries, keys and decays of a few tokens are staged at a time, and the partial outputs of those tokens added up
 * together, so that they share two barriers.
 */
function staged(r: Recurrence): Variant<RecurrenceLetter> {
  const split = ({ T, Hq, Hk, Dk, Dv }: S) => {
    const teams = Dk > 64 ? 16 : 8;
    const columns = Math.min(TILE, ceilDiv(Dv, 4));
    const G = Hq / Hk;
    const perToken =
      4 * Dk * (1 + G + (r.gated ? 1 : 0)) + 4 * G * teams * (4 * columns + (r.normalise ? 1 : 0));
    const chunk = Math.min(T, Math.max(1, Math.floor(STAGED_BYTES / perToken)));
    const bytes = chunk * perToken;
    return {
      teams,
      columns,
      chunk,
      bytes,
      rows: ceilDiv(Dk, teams),
      tiles: ceilDiv(ceilDiv(Dv, 4), columns),
    };
  };

  const text = (s: S) => {
    const { teams, columns, chunk, rows, tiles } = split(s);
    const whole = rows * teams === s.Dk;
    const ifRow = (i: number) => when(!whole && i === rows - 1, `if (team + ${i * teams}u < Dk) `);
    const value = (l: number) => valueText(s, `at + ${l}u`, `c4 * 4u + ${l}u`);
    return `${sharedWgsl(r)}
const CHUNK = ${chunk}u; const TEAMS = ${teams}u; const COLUMNS = ${columns}u; const TILES = ${tiles}u;
var<workgroup> key: array<f32, CHUNK * Dk>;
var<workgroup> query: array<f32, CHUNK * G * Dk>;
${when(r.gated, "var<workgroup> keep: array<f32, CHUNK * Dk>;")}
var<workgroup> partial: array<vec4f, CHUNK * G * TEAMS * COLUMNS>;
${when(r.normalise, "var<workgroup> partialSum: array<f32, CHUNK * G * TEAMS>;")}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  if (workgroupIndex(wg) >= B * Hk * TILES) { return; }
  let tile = workgroupIndex(wg) % TILES;
  let h = workgroupIndex(wg) / TILES % Hk;
  let b = workgroupIndex(wg) / TILES / Hk;
  let team = lane / COLUMNS;
  let c4 = tile * COLUMNS + lane % COLUMNS;
  let inside = c4 < Dv4;
  let n = count(b);
  if (inside) {
    for (var j = n * G + team; j < T * G; j += TEAMS) { o[((b * T + j / G) * Hq + h * G + j % G) * Dv4 + c4] = vec4f(); }
  }
  ${when(
    r.normalise,
    "if (tile == 0u) { for (var j = n * G + lane; j < T * G; j += WG) { denominator[(b * T + j / G) * (Hq4 * 4u) + h * G + j % G] = 0.0; } }",
  )}
  if (n == 0u) { return; }
  let first = ((b * Hk + h) * Dk + team) * Dv4 + min(c4, Dv4 - 1u);
  ${lines(rows, (i) => `var s${i} = vec4f(); ${ifRow(i)}{ s${i} = state[first + ${i * teams}u * Dv4]; }`)}
  ${when(
    r.normalise,
    `let sums = (b * Hk + h) * (Dk4 * 4u) + team;
  let summing = tile == 0u && lane % COLUMNS == 0u;
  ${lines(rows, (i) => `var z${i} = 0.0; if (summing) { ${ifRow(i)}{ z${i} = keySum[sums + ${i * teams}u]; } }`)}`,
  )}
  for (var start = 0u; start < n; start += CHUNK) {
    let tokens = min(CHUNK, n - start);
    let token0 = b * T + start;
    for (var j = lane; j < tokens * Dk; j += WG) {
      key[j] = feature(qkv[keys(token0 + j / Dk, h) + j % Dk]);
      ${when(r.gated, "keep[j] = decay[((token0 + j / Dk) * Hk + h) * (Dk4 * 4u) + j % Dk];")}
    }
    for (var j = lane; j < tokens * G * Dk; j += WG) {
      query[j] = feature(qkv[queries(token0 + j / (G * Dk), h) + j % (G * Dk)]);
    }
    workgroupBarrier();
    for (var t = 0u; t < tokens; t++) {
      let at = values(token0 + t, h) + c4 * 4u;
      let v = vec4f(${range(4).map(value)});
      let k = t * Dk + team;
      ${lines(rows, (i) => `${ifRow(i)}{ s${i} = ${when(r.gated, `keep[k + ${i * teams}u] * `)}s${i} + key[k + ${i * teams}u] * v; }`)}
      ${when(
        r.normalise,
        each(rows, (i) => `${ifRow(i)}{ z${i} += key[k + ${i * teams}u]; }`),
      )}
      for (var j = t * G; j < (t + 1u) * G; j++) {
        let q = j * Dk + team;
        var sum = vec4f();
        ${lines(rows, (i) => `${ifRow(i)}{ sum += query[q + ${i * teams}u] * s${i}; }`)}
        partial[j * WG + lane] = sum;
        ${when(
          r.normalise,
          `if (summing) {
          var product = 0.0;
          ${each(rows, (i) => `${ifRow(i)}{ product += query[q + ${i * teams}u] * z${i}; }`)}
          partialSum[j * TEAMS + team] = product;
        }`,
        )}
      }
    }
    workgroupBarrier();
    if (inside) {
      for (var j = team; j < tokens * G; j += TEAMS) {
        var sum = vec4f();
        for (var i = lane % COLUMNS; i < WG; i += COLUMNS) { sum += partial[j * WG + i]; }
        o[((token0 + j / G) * Hq + h * G + j % G) * Dv4 + c4] = SCALE * sum;
      }
    }
    ${when(
      r.normalise,
      `if (tile == 0u) {
      for (var j = lane; j < tokens * G; j += WG) {
        var sum = 0.0;
        for (var i = 0u; i < TEAMS; i++) { sum += partialSum[j * TEAMS + i]; }
        denominator[(token0 + j / G) * (Hq4 * 4u) + h * G + j % G] = SCALE * sum;
      }
    }`,
    )}
  }
  if (inside) { ${each(rows, (i) => `${ifRow(i)}{ state[first + ${i * teams}u * Dv4] = s${i}; }`)} }
  ${when(r.normalise, `if (summing) { ${each(rows, (i) => `${ifRow(i)}{ keySum[sums + ${i * teams}u] = z${i}; }`)} }`)}
}`;
  };

  return {
    suits: "gpu",
    when: (s) => split(s).bytes <= MOST_BYTES,
    views: { state: "vec4f", o: "vec4f" },
    passes: [
      {
        workgroup: (s) => split(s).teams * split(s).columns,
        grid: (s) => s.B * s.Hk * split(s).tiles,
        wgsl: text,
      },
    ],
  };
}

export const recurrenceVariants = (r: Recurrence): Record<string, Variant<RecurrenceLetter>> => ({
  inPlace: inPlace(r),
  quad: registers(r, 4),
  thread: registers(r, 1),
  chunks: chunked(r),
  staged: staged(r),
});
