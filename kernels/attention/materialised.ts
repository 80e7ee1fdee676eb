// Attention as the textbook writes it (Vaswani et al. 2017, arXiv 1706.03762, eq. 1): the matrix of all scores is held, one
// row a position. A pass writes the rows of the chunk's queries, one turns them into shares in place, one multiplies them
// with V. It is here to be measured: nothing else holds a matrix that grows with the square of the context.

import type { Pass, Sizes, Variant } from "../../engine/kernel.ts";
import { ceilDiv } from "../../engine/tensor.ts";
import type { Letter } from "../attention.ts";
import { NEVER, onPage, pageSources, prelude, range } from "./cache.ts";

type S = Sizes<Letter>;

/** Each page is compiled in. */
const MOST_PAGES = 2;

/** Queries that a thread serves at once. */
const rowsAtOnce = ({ T }: S) => Math.min(T, 4);
const blocks = (s: S) => ceilDiv(s.T, rowsAtOnce(s));
const each = (s: S, code: (r: number) => string) => range(rowsAtOnce(s)).map(code).join("\n  ");

const common = (s: S) => `${prelude("materialised", s)}
const ROWS = ${rowsAtOnce(s)}u;
const BLOCKS = ${blocks(s)}u;
// vec4 index of a query's row in q and y; past the last valid one's, that one's
fn rowOf(b: u32, h: u32, t: u32) -> u32 { return ((b * T + min(t, count(b) - 1u)) * H + h) * D4; }
// of its row in the matrix
fn scoresOf(b: u32, h: u32, t: u32) -> u32 {
  return ((b * H + h) * params.N + position(b) + min(t, count(b) - 1u)) * (params.N / 4u);
}
// the last position of the block of queries that t is in
fn lastOf(b: u32, t: u32) -> u32 { return position(b) + min(t - t % ROWS + ROWS, count(b)) - 1u; }`;

/** A thread scores a tile of keys for a block of queries. */
const scores = (workgroup: number): Pass<Letter> => ({
  overPages: true,
  mostPages: MOST_PAGES,
  writes: ["scores"],
  workgroup,
  grid: (s) => ceilDiv((s.PAGES * s.B * s.H * blocks(s) * s.PAGE) / 4, workgroup),
  wgsl: (s) => `${common(s)}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  const TILES = PAGE / 4u;
  let n4 = i % TILES;
  let t = i / TILES % BLOCKS * ROWS;
  let h = i / TILES / BLOCKS % H;
  let b = i / TILES / BLOCKS / H % B;
  let page = i / TILES / BLOCKS / H / B;
  let slot = params.base + page * PAGE + 4u * n4;
  if (page >= params.pages || t >= count(b) || slot > lastOf(b, t)) { return; }
  let keysRow = (b * K + h / GROUP) * TILES + n4;
  ${each(s, (r) => `var s${r} = vec4f(); let row${r} = rowOf(b, h, t + ${r}u);`)}
  ${onPage(
    pageSources(s.PAGES),
    ({ array }) =>
      `for (var d4 = 0u; d4 < D4; d4++) { let tile = ${array}Tile(keysRow, d4); ${each(s, (r) => `s${r} += tile * queryAt(row${r}, d4);`)} }`,
  )}
  let keys = vec4i(i32(slot)) + OFFSETS;
  ${each(s, (r) => `if (t + ${r}u < count(b)) { scores[scoresOf(b, h, t + ${r}u) + slot / 4u] = select(vec4f(${NEVER}), s${r} * SCALE, visible(i32(position(b) + t + ${r}u), keys)); }`)}
}`,
});

/** A thread, or a workgroup, turns a row of scores into shares. */
const softmax = (workgroup: number, together: boolean): Pass<Letter> => {
  const reduced = (of: string, value: string, join: (a: string, b: string) => string) =>
    together
      ? `work[lane] = ${value};
  workgroupBarrier();
  for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
    if (lane < stride) { work[lane] = ${join("work[lane]", "work[lane + stride]")}; }
    workgroupBarrier();
  }
  let ${of} = work[0];
  workgroupBarrier();`
      : `let ${of} = ${value};`;
  const every = (code: string) =>
    `for (var j = ${together ? "lane" : "0u"}; j < tiles; j += ${together ? "WG" : "1u"}) { ${code} }`;
  return {
    writes: ["scores"],
    workgroup,
    grid: ({ B, T, H }) => (together ? B * T * H : ceilDiv(B * T * H, workgroup)),
    wgsl: (s) => `${common(s)}
${together ? "var<workgroup> work: array<f32, WG>;" : ""}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg)${together ? "" : " * WG + lane"};
  let t = i % T;
  let h = i / T % H;
  let b = i / T / H;
  if (b >= B || t >= count(b)) { return; }
  let first = scoresOf(b, h, t);
  let tiles = lastOf(b, t) / 4u + 1u;
  var tops = vec4f(${NEVER});
  ${every("tops = max(tops, scores[first + j]);")}
  ${reduced("top", "largest(tops)", (a, b) => `max(${a}, ${b})`)}
  var sums = vec4f();
  ${every("let p = shares(scores[first + j], top); sums += p; scores[first + j] = p;")}
  ${reduced("sum", "total(sums)", (a, b) => `${a} + ${b}`)}
  ${every("scores[first + j] /= sum;")}
}`,
  };
};

/** A thread sums four columns of V for a block of queries; where a dispatch cannot bind all pages, y is added to. */
const product = (workgroup: number): Pass<Letter> => ({
  overPages: true,
  mostPages: MOST_PAGES,
  workgroup,
  grid: (s) => ceilDiv(s.B * s.H * blocks(s) * ceilDiv(s.D, 4), workgroup),
  wgsl: (s) => `${common(s)}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let d4 = i % D4;
  let t = i / D4 % BLOCKS * ROWS;
  let h = i / D4 / BLOCKS % H;
  let b = i / D4 / BLOCKS / H;
  if (b >= B) { return; }
  if (params.base == 0u) {
    for (var r = t; r < min(t + ROWS, T); r++) { y[((b * T + r) * H + h) * D4 + d4] = vec4f(); }
  }
  if (t >= count(b) || params.base > lastOf(b, t)) { return; }
  ${each(s, (r) => `let row${r} = scoresOf(b, h, t + ${r}u); var o${r} = vec4f();`)}
  for (var page = 0u; page < params.pages; page++) {
    let start = params.base + page * PAGE;
    if (start > lastOf(b, t)) { break; }
    let tiles = min(PAGE / 4u, (lastOf(b, t) - start) / 4u + 1u);
    let values = (B * K + b * K + h / GROUP) * (PAGE / 4u);
    ${onPage(
      pageSources(s.PAGES),
      ({ array }) =>
        `for (var n = 0u; n < tiles; n++) { let tile = ${array}Tile(values + n, d4); ${each(s, (r) => `o${r} += scores[row${r} + start / 4u + n] * tile;`)} }`,
    )}
  }
  ${each(s, (r) => `if (t + ${r}u < count(b)) { y[rowOf(b, h, t + ${r}u) + d4] += inHead(o${r}, d4); }`)}
}`,
});

export function materialisedVariants(): Record<string, Variant<Letter>> {
  const variant = (suits: "cpu" | "gpu", workgroup: number): Variant<Letter> => ({
    suits,
    views: { q: "vec4f", y: "vec4f", scores: "vec4f" },
    scratch: { scores: ["B", "H", "N", "N"] },
    passes: [scores(workgroup), softmax(workgroup, suits === "gpu"), product(workgroup)],
  });
  return { rows: variant("cpu", 16), reduced: variant("gpu", 64) };
}
