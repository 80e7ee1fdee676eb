// A chunk of tokens: each query keeps the largest score so far, the sum of exponents and the weighted sum of values, and
// rescales them as blocks of keys pass by. Groups of pages that one dispatch cannot bind come in successive ones; what
// is kept between them stands in y and in `running`.

import { type Sizes, share, type Variant } from "../../engine/kernel.ts";
import { ceilDiv } from "../../engine/tensor.ts";
import type { Letter } from "../attention.ts";
import {
  chunkSource,
  isPaged,
  isSparse,
  NEVER,
  pageSources,
  prelude,
  range,
  ringSource,
  type Source,
  sinksSource,
} from "./cache.ts";
import type { Kind } from "./pattern.ts";

type S = Sizes<Letter>;

const sources = (kind: Kind, s: { PAGES: number }): Source[] =>
  isPaged(kind) ? pageSources(s.PAGES) : [kind === "sinks" ? sinksSource : ringSource, chunkSource(kind)];

/** WGSL: the next tiles [x, y) from n on with a key that a query from position `first` to `last` sees. */
const nextTiles = (kind: Kind): string =>
  kind === "local"
    ? `fn nextTiles(n: u32, first: u32, last: u32) -> vec2u {
  return vec2u(max(n, (max(first + 1u, W) - W) / 4u), last / 4u + 1u);
}`
    : `fn nextTiles(n: u32, first: u32, last: u32) -> vec2u {
  // whole strides from the tile's first key to the last query: the run of keys there, and then all from one stride on
  let behind = (last - min(4u * n, last)) / W * W;
  let end = last - select(behind, 0u, behind <= W);
  return vec2u(max(n, (max(first, max(behind, W)) - max(behind, W)) / 4u), end / 4u + 1u);
}`;

/**
 * Calls `visit(source, first tile, end, origin, asking)` for what queries from token `first` to position `last` may see.
 * `asking`: where in q the queries stand that ask it, for sinks.
 */
const visits = (
  kind: Kind,
  s: { PAGES: number },
  visit: (array: string, tiles: string, origin: string, asking: string) => string,
) =>
  isPaged(kind)
    ? range(s.PAGES)
        .map(
          (page) => `if (${page}u < params.pages) {
    let origin = params.base + ${page}u * PAGE;
    let all = vec2u(0u, min(PAGE / 4u, (max(last + 1u, origin) - origin + 3u) / 4u));
    ${
      isSparse(kind)
        ? `for (var n = 0u; n < all.y;) {
      let tiles = min(nextTiles(n + origin / 4u, position(b) + first, last) - origin / 4u, all.yy);
      ${visit(`kv${page}`, "tiles", "i32(origin)", "")}
      n = tiles.y;
    }`
        : visit(`kv${page}`, "all", "i32(origin)", "")
    }
  }`,
        )
        .join("\n  ")
    : `let start = position(b);
  for (var part = 0u; part < ${kind === "sinks" ? 3 : 2}u; part++) {
    ${
      kind === "sinks"
        ? `let sinks = part == 2u;
    let tiles = select(ringTiles(start, first, part == 1u) + S4, vec2u(0u, min(S4, last / 4u + 1u)), sinks);`
        : "let tiles = ringTiles(start, first, part == 1u);"
    }
    ${visit("ring", "tiles", "i32(start)", asked(kind, ", select(0u, B * T * H * D4, sinks)"))}
  }
  let tiles = vec2u(max(first + 1u, W) - W, last - start + 4u) / 4u;
  ${visit("chunk", "tiles", "i32(start)", asked(kind, ", 0u"))}`;

/** Of sinks: what asks them stands after all that asks the rest. */
const asked = (kind: Kind, wgsl: string) => (kind === "sinks" ? wgsl : "");

/** WGSL conditions: this dispatch is the first, or the last, that matters to queries up to position `last`. */
const isFirst = (kind: Kind) => (isPaged(kind) ? "params.base == 0u" : "true");
const isLast = (kind: Kind) => (isPaged(kind) ? "last < params.base + params.pages * PAGE" : "true");

const common = (kind: Kind, s: S) => `${prelude(kind, s)}
${isSparse(kind) ? nextTiles(kind) : ""}
// vec4 index of a query's row in q and y; past the chunk's end, of the last
fn rowOf(b: u32, h: u32, t: u32) -> u32 { return ((b * T + min(t, T - 1u)) * H + h) * D4; }
// a query that is not valid sees nothing
fn queries(b: u32, t: u32) -> vec4i {
  let tokens = vec4i(i32(t)) + OFFSETS;
  return select(vec4i(-1), vec4i(i32(position(b))) + tokens, tokens < vec4i(i32(count(b))));
}
fn mask(scores: vec4f, query: i32, keys: vec4i, inside: bool) -> vec4f {
  return select(vec4f(${NEVER}), scores * SCALE, visible(query, keys) & vec4<bool>(inside));
}
fn tops(s: mat4x4f) -> vec4f { return vec4f(largest(s[0]), largest(s[1]), largest(s[2]), largest(s[3])); }
fn totals(p: mat4x4f) -> vec4f { return vec4f(total(p[0]), total(p[1]), total(p[2]), total(p[3])); }
fn sharesOf(s: mat4x4f, top: vec4f) -> mat4x4f {
  return mat4x4f(shares(s[0], top.x), shares(s[1], top.y), shares(s[2], top.z), shares(s[3], top.w));
}
fn scaled(o: mat4x4f, f: vec4f) -> mat4x4f { return mat4x4f(o[0] * f.x, o[1] * f.y, o[2] * f.z, o[3] * f.w); }`;

const scratch = (kind: Kind): Pick<Variant<Letter>, "scratch"> =>
  // largest score and sum of four queries
  isPaged(kind) ? { scratch: { running: ["B", "H", share("T", 4), 8] } } : {};
const writes = (kind: Kind) => (isPaged(kind) ? { writes: ["running"] } : {});

export function prefillVariants(kind: Kind): Record<string, Variant<Letter>> {
  return { quadBlocks: blocks(kind, true), blocks: blocks(kind, false), flash: flash(kind) };
}

/**
 * A thread owns four queries of a head and takes eight keys at a time; its sums of values stand in y. No barrier. With
 * `quad`, four lanes own 16 queries and load a quarter each of every tile of keys and values.
 */
function blocks(kind: Kind, quad: boolean): Variant<Letter> {
  // tiles of four keys a step: more are little faster and take twice as long to compile
  const U = 2;
  const attribute = quad ? "@diagnostic(off, subgroup_uniformity) " : "";
  const rows = range(4);
  const tile = (array: string, row: string) =>
    quad
      ? `let part = ${array}Column(${row}, d4, lane); let tile = mat4x4f(${rows.map((r) => `quadBroadcast(part, ${r}u)`).join(", ")});`
      : `let tile = ${array}Tile(${row}, d4);`;
  const each = (code: (u: number) => string) => range(U).map(code).join("\n    ");
  const visit = ({ array, tiles, keys }: Source) => `
${attribute}fn visit_${array}(before: Running, at: Place, first: u32, end: u32, origin: i32, lane: u32${asked(kind, ", asking: u32")}) -> Running {
  var run = before;
  for (var n = first; n < end; n += ${U}u) {
    ${each((u) => `var s${u} = mat4x4f(); let n${u} = at.plane * ${tiles} + ${u ? `min(n + ${u}u, end - 1u)` : "n"};`)}
    for (var d4 = 0u; d4 < D4; d4++) {
      let x = mat4x4f(${rows.map((r) => `queryAt(at.rows[${r}]${asked(kind, " + asking")}, d4)`).join(", ")});
      ${each((u) => `{ ${tile(array, `n${u}`)} s${u} += tile * x; }`)}
    }
    ${each(
      (u) =>
        `{ let keys = ${keys(`(n + ${u}u)`)}; let inside = n + ${u}u < end; s${u} = mat4x4f(${rows.map((r) => `mask(s${u}[${r}], at.queries[${r}], keys, inside)`).join(", ")}); }`,
    )}
    let top = max(run.top, ${range(U)
      .map((u) => `tops(s${u})`)
      .reduce((a, b) => `max(${a}, ${b})`)});
    let fade = exp(run.top - top);
    ${each((u) => `s${u} = sharesOf(s${u}, top);`)}
    run = Running(top, run.sum * fade + ${range(U)
      .map((u) => `totals(s${u})`)
      .join(" + ")});
    for (var d4 = 0u; d4 < D4; d4++) {
      var o = scaled(mat4x4f(${rows.map((r) => `y[at.rows[${r}] + d4]`).join(", ")}), fade);
      ${each((u) => `{ ${tile(array, `B * K * ${tiles} + n${u}`)} o += mat4x4f(${rows.map((r) => `s${u}[${r}] * tile`).join(", ")}); }`)}
      put(at, d4, o);
    }
  }
  return run;
}`;
  const span = quad ? 16 : 4;
  const threads = ({ B, T, H }: S) => B * H * (quad ? 4 * ceilDiv(T, 16) : ceilDiv(T, 4));

  return {
    suits: "cpu",
    ...(quad ? { needs: ["subgroups" as const] } : {}),
    when: ({ T }) => T > 1,
    views: {
      q: "vec4f",
      y: "vec4f",
      running: "vec4f",
    },
    ...scratch(kind),
    passes: [
      {
        overPages: isPaged(kind),
        mostPages: 1,
        ...writes(kind),
        workgroup: 4,
        grid: (s) => ceilDiv(threads(s), 4),
        wgsl: (s) => `${common(kind, s)}
const SPAN = ${span}u;
const QUERIES4 = (T + SPAN - 1u) / SPAN * (SPAN / 4u);
struct Running { top: vec4f, sum: vec4f }
struct Place { plane: u32, t: u32, rows: vec4u, queries: vec4i }
fn put(at: Place, d4: u32, o: mat4x4f) {
  ${rows.map((r) => `${s.T % span === 0 ? "" : `if (at.t + ${r}u < T) `}{ y[at.rows[${r}] + d4] = o[${r}]; }`).join("\n  ")}
}
// y's rows times their factors; 0 clears what was there, be it no number
fn rescale(at: Place, factors: vec4f) {
  for (var r = 0u; r < 4u; r++) {
    if (at.t + r >= T) { return; }
    for (var d4 = 0u; d4 < D4; d4++) {
      let i = at.rows[r] + d4;
      y[i] = select(vec4f(), inHead(y[i] * factors[r], d4), factors[r] > 0.0);
    }
  }
}
${sources(kind, s).map(visit).join("\n")}
${attribute}@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = workgroupIndex(wg) * WG + local;
  let t = i % QUERIES4 * 4u;
  let h = i / QUERIES4 % H;
  let b = i / QUERIES4 / H;
  if (b >= B) { return; }
  let lane = local % 4u;
  let first = t - t % SPAN;
  let at = Place(b * K + h / GROUP, t, vec4u(${rows.map((r) => `rowOf(b, h, t + ${r}u)`).join(", ")}), queries(b, t));
  if (${isFirst(kind)}) { rescale(at, vec4f()); }
  if (first >= count(b)) { return; }
  let last = position(b) + min(first + SPAN, count(b)) - 1u;
  var run = Running(vec4f(${NEVER}), vec4f());
  ${
    isPaged(kind)
      ? `if (last < params.base) { return; }
  let kept = ((b * H + h) * T4 + min(t / 4u, T4 - 1u)) * 2u;
  if (params.base > 0u) { run = Running(running[kept], running[kept + 1u]); }`
      : ""
  }
  ${visits(kind, s, (array, tiles, origin, asking) => `run = visit_${array}(run, at, ${tiles}.x, ${tiles}.y, ${origin}, lane${asking});`)}
  if (${isLast(kind)}) {
    rescale(at, select(vec4f(), 1.0 / run.sum, run.sum > vec4f()));
  }
  ${isPaged(kind) ? "else if (t < T) { running[kept] = run.top; running[kept + 1u] = run.sum; }" : ""}
}`,
      },
    ],
  };
}

/** A workgroup owns 32 queries of a head and takes 64 keys at a time; shares pass through workgroup memory. */
function flash(kind: Kind): Variant<Letter> {
  const rows = range(4);
  return {
    suits: "gpu",
    when: ({ T }) => T > 1,
    views: { q: "vec4f", y: "vec4f", running: "vec4f" },
    ...scratch(kind),
    passes: [
      {
        overPages: isPaged(kind),
        mostPages: 1,
        ...writes(kind),
        workgroup: 128,
        grid: ({ B, T, H }) => B * H * ceilDiv(T, 32),
        wgsl: (s) => {
          // columns of four that a thread sums: 16 threads share those of a query
          const columns = range(ceilDiv(ceilDiv(s.D, 4), 16));
          const inside = (c: number) => (ceilDiv(s.D, 4) % 16 === 0 ? "" : `if (tk + ${16 * c}u < D4) `);
          const visit = ({ array, tiles, keys }: Source) => `
fn visit_${array}(plane: u32, rows: vec4u, queries: vec4i, first: u32, end: u32, origin: i32, lane: u32${asked(kind, ", asking: u32")}) {
  let tq = lane / 16u;
  let tk = lane % 16u;
  for (var n = first; n < end; n += 16u) {
    var s = mat4x4f();
    let row = plane * ${tiles} + min(n + tk, end - 1u);
    for (var d4 = 0u; d4 < D4; d4++) {
      s += ${array}Tile(row, d4) * mat4x4f(${rows.map((r) => `queryAt(rows[${r}]${asked(kind, " + asking")}, d4)`).join(", ")});
    }
    let keys = ${keys("(n + tk)")};
    s = mat4x4f(${rows.map((r) => `mask(s[${r}], queries[${r}], keys, n + tk < end)`).join(", ")});
    exchange[lane] = tops(s);
    workgroupBarrier();
    var most = top;
    for (var j = 0u; j < 16u; j++) { most = max(most, exchange[tq * 16u + j]); }
    let fade = exp(top - most);
    top = most;
    s = sharesOf(s, most);
    sum = sum * fade + totals(s);
    parts[lane] = s;
    workgroupBarrier();
    let used = min(16u, end - n);
    ${columns
      .map(
        (c) => `${inside(c)}{
      let values = (B * K + plane) * ${tiles} + n;
      var o = scaled(o${c}, fade);
      for (var j = 0u; j < used; j++) {
        let tile = ${array}Tile(values + j, tk + ${16 * c}u);
        let p = parts[tq * 16u + j];
        o += mat4x4f(${rows.map((r) => `p[${r}] * tile`).join(", ")});
      }
      o${c} = o;
    }`,
      )
      .join("\n    ")}
  }
}`;
          const put = (c: number, value: string) =>
            `${inside(c)}{ ${rows.map((r) => `if (t + ${r}u < T) { y[rows[${r}] + tk + ${16 * c}u] = inHead(${value}[${r}], tk + ${16 * c}u); }`).join(" ")} }`;
          return `${common(kind, s)}
const BLOCKS = (T + 31u) / 32u;
var<workgroup> exchange: array<vec4f, 128>;
var<workgroup> parts: array<mat4x4f, 128>;
var<private> top = vec4f(${NEVER});
var<private> sum = vec4f();
${columns.map((c) => `var<private> o${c}: mat4x4f;`).join(" ")}
${sources(kind, s).map(visit).join("\n")}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg);
  let first = i % BLOCKS * 32u;
  let h = i / BLOCKS % H;
  let b = i / BLOCKS / H;
  if (b >= B) { return; }
  let tq = lane / 16u;
  let tk = lane % 16u;
  let t = first + tq * 4u;
  let plane = b * K + h / GROUP;
  let rows = vec4u(${rows.map((r) => `rowOf(b, h, t + ${r}u)`).join(", ")});
  if (first >= count(b)) {
    let none = mat4x4f();
    if (${isFirst(kind)}) { ${columns.map((c) => put(c, "none")).join(" ")} }
    return;
  }
  let last = position(b) + min(first + 32u, count(b)) - 1u;
  ${
    isPaged(kind)
      ? `if (last < params.base) { return; }
  let kept = ((b * H + h) * T4 + min(t / 4u, T4 - 1u)) * 2u;
  if (params.base > 0u) {
    top = running[kept];
    if (tk == 0u) { sum = running[kept + 1u]; }
    ${columns.map((c) => `${inside(c)}{ o${c} = mat4x4f(${rows.map((r) => `y[rows[${r}] + tk + ${16 * c}u]`).join(", ")}); }`).join(" ")}
  }`
      : ""
  }
  let seen = queries(b, t);
  ${visits(kind, s, (array, tiles, origin, asking) => `visit_${array}(plane, rows, seen, ${tiles}.x, ${tiles}.y, ${origin}, lane${asking});`)}
  workgroupBarrier();
  exchange[lane] = sum;
  workgroupBarrier();
  var all = vec4f();
  for (var j = 0u; j < 16u; j++) { all += exchange[tq * 16u + j]; }
  var scale = select(vec4f(), 1.0 / all, all > vec4f());
  ${
    isPaged(kind)
      ? `if (!(${isLast(kind)})) {
    scale = vec4f(1.0);
    if (tk == 0u && t < T) { running[kept] = top; running[kept + 1u] = all; }
  }`
      : ""
  }
  ${columns.map((c) => `{ let o = scaled(o${c}, scale); ${put(c, "o")} }`).join("\n  ")}
}`;
        },
      },
    ],
  };
}
