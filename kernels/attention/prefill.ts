// A chunk of tokens: each query keeps the largest score so far, the sum of exponents and the weighted sum of values, and
// rescales them as blocks of keys pass by. Groups of pages that one dispatch cannot bind come in successive ones; what
// is kept between them stands in y and in `running`.

import { type Sizes, share, type Variant } from "../../engine/kernel.ts";
import { ceilDiv } from "../../engine/tensor.ts";
import type { Letter } from "../attention.ts";
import { type Cache, inOrder, NEVER, pageSources, prelude, range, ringSource, type Source } from "./cache.ts";

type S = Sizes<Letter>;

const sources = (cache: Cache, s: { PAGES: number }): Source[] =>
  cache === "paged" ? pageSources(s.PAGES) : [ringSource, inOrder("chunk", "T4")];

/** Calls `visit(source, first tile, end, origin)` for what queries from token `first` to position `last` may see. */
const visits = (
  cache: Cache,
  s: { PAGES: number },
  visit: (array: string, tiles: string, origin: string) => string,
) =>
  cache === "paged"
    ? range(s.PAGES)
        .map(
          (page) => `if (${page}u < params.pages) {
    let origin = params.base + ${page}u * PAGE;
    let tiles = vec2u(0u, min(PAGE / 4u, (max(last + 1u, origin) - origin + 3u) / 4u));
    ${visit(`kv${page}`, "tiles", "i32(origin)")}
  }`,
        )
        .join("\n  ")
    : `let start = position(b);
  for (var older = 0u; older < 2u; older++) {
    let tiles = ringTiles(start, first, older == 1u);
    ${visit("ring", "tiles", "i32(start)")}
  }
  let tiles = vec2u(max(first + 1u, W) - W, last - start + 4u) / 4u;
  ${visit("chunk", "tiles", "i32(start)")}`;

/** WGSL conditions: this dispatch is the first, or the last, that matters to queries up to position `last`. */
const isFirst = (cache: Cache) => (cache === "paged" ? "params.base == 0u" : "true");
const isLast = (cache: Cache) => (cache === "paged" ? "last < params.base + params.pages * PAGE" : "true");

const common = (cache: Cache, s: S) => `${prelude(cache, s)}
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

const scratch = (cache: Cache): Pick<Variant<Letter>, "scratch"> =>
  // largest score and sum of four queries
  cache === "paged" ? { scratch: { running: ["B", "H", share("T", 4), 8] } } : {};
const writes = (cache: Cache) => (cache === "paged" ? { writes: ["running"] } : {});

export function prefillVariants(cache: Cache): Record<string, Variant<Letter>> {
  return { quadBlocks: blocks(cache, true), blocks: blocks(cache, false), flash: flash(cache) };
}

/**
 * A thread owns four queries of a head and takes eight keys at a time; its sums of values stand in y. No barrier. With
 * `quad`, four lanes own 16 queries and load a quarter each of every tile of keys and values.
 */
function blocks(cache: Cache, quad: boolean): Variant<Letter> {
  // tiles of four keys a step: more are little faster and take twice as long to compile
  const U = 2;
  const attribute = quad ? "@diagnostic(off, subgroup_uniformity) " : "";
  const rows = range(4);
  const tile = (array: string, index: string) =>
    quad
      ? `let part = ${array}[(${index}) * 4u + lane]; let tile = mat4x4f(${rows.map((r) => `quadBroadcast(part, ${r}u)`).join(", ")});`
      : `let tile = ${array}[${index}];`;
  const each = (code: (u: number) => string) => range(U).map(code).join("\n    ");
  const visit = ({ array, tiles, keys }: Source) => `
${attribute}fn visit_${array}(before: Running, at: Place, first: u32, end: u32, origin: i32, lane: u32) -> Running {
  var run = before;
  for (var n = first; n < end; n += ${U}u) {
    ${each((u) => `var s${u} = mat4x4f(); let n${u} = (at.plane * ${tiles} + ${u ? `min(n + ${u}u, end - 1u)` : "n"}) * D4;`)}
    for (var d4 = 0u; d4 < D4; d4++) {
      let x = mat4x4f(${rows.map((r) => `queryAt(at.rows[${r}], d4)`).join(", ")});
      ${each((u) => `{ ${tile(array, `n${u} + d4`)} s${u} += tile * x; }`)}
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
      ${each((u) => `{ ${tile(array, `B * K * ${tiles} * D4 + n${u} + d4`)} o += mat4x4f(${rows.map((r) => `s${u}[${r}] * tile`).join(", ")}); }`)}
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
      ...(quad ? { kv: "vec4f", ring: "vec4f", chunk: "vec4f" } : {}),
    },
    ...scratch(cache),
    passes: [
      {
        overPages: cache === "paged",
        mostPages: 1,
        ...writes(cache),
        workgroup: 4,
        grid: (s) => ceilDiv(threads(s), 4),
        wgsl: (s) => `${common(cache, s)}
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
${sources(cache, s).map(visit).join("\n")}
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
  if (${isFirst(cache)}) { rescale(at, vec4f()); }
  if (first >= count(b)) { return; }
  let last = position(b) + min(first + SPAN, count(b)) - 1u;
  var run = Running(vec4f(${NEVER}), vec4f());
  ${
    cache === "paged"
      ? `if (last < params.base) { return; }
  let kept = ((b * H + h) * T4 + min(t / 4u, T4 - 1u)) * 2u;
  if (params.base > 0u) { run = Running(running[kept], running[kept + 1u]); }`
      : ""
  }
  ${visits(cache, s, (array, tiles, origin) => `run = visit_${array}(run, at, ${tiles}.x, ${tiles}.y, ${origin}, lane);`)}
  if (${isLast(cache)}) {
    rescale(at, select(vec4f(), 1.0 / run.sum, run.sum > vec4f()));
  }
  ${cache === "paged" ? "else if (t < T) { running[kept] = run.top; running[kept + 1u] = run.sum; }" : ""}
}`,
      },
    ],
  };
}

/** A workgroup owns 32 queries of a head and takes 64 keys at a time; shares pass through workgroup memory. */
function flash(cache: Cache): Variant<Letter> {
  const rows = range(4);
  return {
    suits: "gpu",
    when: ({ T }) => T > 1,
    views: { q: "vec4f", y: "vec4f", running: "vec4f" },
    ...scratch(cache),
    passes: [
      {
        overPages: cache === "paged",
        mostPages: 1,
        ...writes(cache),
        workgroup: 128,
        grid: ({ B, T, H }) => B * H * ceilDiv(T, 32),
        wgsl: (s) => {
          // columns of four that a thread sums: 16 threads share those of a query
          const columns = range(ceilDiv(ceilDiv(s.D, 4), 16));
          const inside = (c: number) => (ceilDiv(s.D, 4) % 16 === 0 ? "" : `if (tk + ${16 * c}u < D4) `);
          const visit = ({ array, tiles, keys }: Source) => `
fn visit_${array}(plane: u32, rows: vec4u, queries: vec4i, first: u32, end: u32, origin: i32, lane: u32) {
  let tq = lane / 16u;
  let tk = lane % 16u;
  for (var n = first; n < end; n += 16u) {
    var s = mat4x4f();
    let row = (plane * ${tiles} + min(n + tk, end - 1u)) * D4;
    for (var d4 = 0u; d4 < D4; d4++) {
      s += ${array}[row + d4] * mat4x4f(${rows.map((r) => `queryAt(rows[${r}], d4)`).join(", ")});
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
      let column = ((B * K + plane) * ${tiles} + n) * D4 + tk + ${16 * c}u;
      var o = scaled(o${c}, fade);
      for (var j = 0u; j < used; j++) {
        let tile = ${array}[column + j * D4];
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
          return `${common(cache, s)}
const BLOCKS = (T + 31u) / 32u;
var<workgroup> exchange: array<vec4f, 128>;
var<workgroup> parts: array<mat4x4f, 128>;
var<private> top = vec4f(${NEVER});
var<private> sum = vec4f();
${columns.map((c) => `var<private> o${c}: mat4x4f;`).join(" ")}
${sources(cache, s).map(visit).join("\n")}
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
    if (${isFirst(cache)}) { ${columns.map((c) => put(c, "none")).join(" ")} }
    return;
  }
  let last = position(b) + min(first + 32u, count(b)) - 1u;
  ${
    cache === "paged"
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
  ${visits(cache, s, (array, tiles, origin) => `visit_${array}(plane, rows, seen, ${tiles}.x, ${tiles}.y, ${origin}, lane);`)}
  workgroupBarrier();
  exchange[lane] = sum;
  workgroupBarrier();
  var all = vec4f();
  for (var j = 0u; j < 16u; j++) { all += exchange[tq * 16u + j]; }
  var scale = select(vec4f(), 1.0 / all, all > vec4f());
  ${
    cache === "paged"
      ? `if (!(${isLast(cache)})) {
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
