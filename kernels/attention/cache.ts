// What the variants of attention share: where tiles of keys and values lie, and which keys a query sees.

import { cursorWgsl } from "../../engine/cursor.ts";
import { derived } from "../../engine/kernel.ts";
import { ceilDiv, roundUp } from "../../engine/tensor.ts";
import type { Kind } from "./pattern.ts";

/** Every token's keys and values are kept, in pages; else those that can still be seen, in a ring. */
export const isPaged = (kind: Kind): boolean => kind !== "window" && kind !== "sinks";
/** Every token's keys and values are kept, and few are seen. */
export type Sparse = Extract<Kind, "local" | "strided">;
export const isSparse = (kind: Kind): kind is Sparse => kind === "local" || kind === "strided";

/** Slots of a cache of sinks and a ring: S, filled up to a whole tile, and then W. */
export const sinkSlots = derived(
  "4 (S/4) + W",
  ["S", "W"],
  ({ S, W }: { S: number; W: number }) => roundUp(S, 4) + W,
);

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Score of a key that is not seen: finite, since inf - inf is not a number. */
export const NEVER = "-3e38";

/** Tiles of four slots that hold keys (planes 0 .. B K - 1) and values (planes B K .. 2 B K - 1). */
export interface Source {
  /** The WGSL array. */
  array: string;
  /** Tiles of four slots in a plane. */
  tiles: string;
  /** Positions in the slots of tile n4, where `origin` is what the source's slots are counted by. */
  keys(n4: string): string;
  /** Tile d4 of a row of tiles. */
  tile(row: string, d4: string): string;
}

const source = (array: string, tiles: string, keys: Source["keys"]): Source => ({
  array,
  tiles,
  keys,
  tile: (row, d4) => `${array}Tile(${row}, ${d4})`,
});

/** Slot i of these holds position origin + i. */
export const inOrder = (array: string, tiles: string): Source =>
  source(array, tiles, (n4) => `vec4i(origin + 4 * i32(${n4})) + OFFSETS`);

/** Where column d of a slot lies in tiles of four slots. */
export const elementWgsl = `
fn element(plane: u32, slots4: u32, slot: u32, d: u32) -> u32 {
  return ((plane * slots4 + slot / 4u) * D4 + d / 4u) * 16u + d % 4u * 4u + slot % 4u;
}`;

interface Storing {
  /** The WGSL array of the cache's tiles. */
  cache: string;
  /** WGSL: column d of a token in a plane. */
  own(token: string): string;
  /** Tiles of four slots that a plane is visited for. */
  tiles: number;
  /** WGSL: for tile n of these and stream b, `row` of the cache's tiles, `which` of its four slots are stored, and the chunk's `tokens` for them. */
  find: string;
}

/** WGSL of a pass in which a thread owns four slots of a group of columns, and takes what the chunk has for them. */
export const storeWgsl = ({ cache, own, tiles, find }: Storing): string => `${cursorWgsl}
${elementWgsl}
const TILES = ${tiles}u;
const GROUPS = (D4 + ${cache}_GROUP - 1u) / ${cache}_GROUP;
fn owned(plane: u32, tokens: vec4u, d: u32) -> vec4f {
  if (d >= D) { return vec4f(); }
  return vec4f(${range(4)
    .map((j) => own(`tokens[${j}]`))
    .join(", ")});
}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let n = i / GROUPS % TILES;
  let plane = i / GROUPS / TILES;
  if (plane >= 2u * B * K) { return; }
  let b = plane / K % B;
  ${find}
  if (!any(which)) { return; }
  let first = i % GROUPS * ${cache}_GROUP;
  let last = min(first + ${cache}_GROUP, D4);
  var most = vec4f();
  for (var d = 4u * first; ${cache}_GROUP > 1u && d < 4u * last; d++) { most = max(most, abs(owned(plane, tokens, d))); }
  ${cache}Begin(row, first, which, most);
  for (var d = 4u * first; d < 4u * last; d++) { ${cache}Put(row, d / 4u, d % 4u, which, owned(plane, tokens, d)); }
}`;
/** Threads of such a pass: as many groups as there are where each is one tile. */
export const storeThreads = ({ B, K, D }: { B: number; K: number; D: number }, tiles: number): number =>
  2 * B * K * tiles * ceilDiv(D, 4);

/** The chunk's own keys and values, as f32. */
export const ownElement = (token: string): string => `chunk[element(plane, T4, ${token}, d)]`;

/** The pages of a group; `origin` is a page's first slot. */
export const pageSources = (PAGES: number): Source[] =>
  range(PAGES).map((page) => inOrder(`kv${page}`, "(PAGE / 4u)"));

/** The ring as it was before the chunk; `origin` is the chunk's first position. */
export const ringSource = source("ring", "W4", (n4) => `ringKeys(origin, 4u * ${n4})`);

/** Sinks, and the ring after them, as they were before the chunk. */
export const sinksSource = source("ring", "(S4 + W4)", (n4) => `sinkKeys(origin, ${n4})`);

/** The chunk's own; those that are sinks stand among the sinks. */
export const chunkSource = (kind: Kind): Source => {
  const chunk = inOrder("chunk", "T4");
  return kind === "sinks" ? { ...chunk, keys: (n4) => `afterSinks(${chunk.keys(n4)})` } : chunk;
};

/** Runs `statement` for the page whose number in the group is `page`. */
export const onPage = (sources: readonly Source[], statement: (source: Source) => string): string =>
  sources.length === 1
    ? statement(sources[0]!)
    : `switch (page) {
    ${sources.map((source, page) => `case ${page}u: { ${statement(source)} }`).join("\n    ")}
    default: {}
  }`;

/** WGSL: of keys that the query has reached, those that it sees. */
const seen = (kind: Kind): string => {
  const near = "(keys > vec4i(query - i32(W)))";
  switch (kind) {
    case "full":
    case "materialised":
      return "";
    case "window":
    case "local":
      return ` & ${near}`;
    case "strided":
      return ` & (${near} | ((vec4i(query) - keys) % vec4i(i32(W)) == vec4i()))`;
    case "sinks":
      return ` & (${near} | (keys < vec4i(i32(S))))`;
  }
};

/**
 * The start of every pass. `visible` is the pattern: which keys the query at a position sees. Positions are i32, so
 * that what was never written can stand before 0.
 */
export const prelude = (kind: Kind, { D }: { D: number }): string => `${cursorWgsl}
const GROUP = H / K;
const SCALE = inverseSqrt(f32(D));
const OFFSETS = vec4i(0, 1, 2, 3);
fn visible(query: i32, keys: vec4i) -> vec4<bool> {
  return (keys >= vec4i()) & (keys <= vec4i(query))${seen(kind)};
}
fn largest(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn total(v: vec4f) -> f32 { return v.x + v.y + v.z + v.w; }
// exp(scores - top), 0 for keys that are not seen even where none is
fn shares(scores: vec4f, top: f32) -> vec4f {
  return select(exp(scores - top), vec4f(), scores < vec4f(-1e38));
}
// what stands in the padding of D must not count
fn inHead(v: vec4f, d4: u32) -> vec4f {
  ${
    D % 4 === 0
      ? "return v;"
      : `return select(v, vec4f(), vec4<bool>(d4 == D4 - 1u) & vec4<bool>(${range(4).map((c) => c >= D % 4)}));`
  }
}
fn queryAt(i: u32, d4: u32) -> vec4f { return inHead(q[i + d4], d4); }
${isPaged(kind) ? "" : ringWgsl}${kind === "sinks" ? sinksWgsl : ""}`;

const ringWgsl = `
// the positions in four slots, before a chunk that starts at \`start\`; negative where there is none
fn ringKeys(start: i32, slot: u32) -> vec4i {
  let slots = vec4i(i32(slot)) + OFFSETS;
  let last = vec4i(start - 1);
  let window = vec4i(i32(W));
  return select(vec4i(-1), last - ((last - slots) % window + window) % window, slots < window);
}
// The tiles [first, end) that tokens from t on may see: those written since slot 0 was, then those written before.
fn ringTiles(start: u32, t: u32, older: bool) -> vec2u {
  if (t + 1u >= W) { return vec2u(); }
  let turn = start % W;
  let expired = turn + t + 1u;
  let end = (turn + 3u) / 4u;
  if (!older) { return vec2u(select(0u, expired - W, expired > W) / 4u, end); }
  if (start < W) { return vec2u(); }
  return vec2u(max(expired / 4u, end), W4);
}`;

const sinksWgsl = `
fn afterSinks(keys: vec4i) -> vec4i { return select(keys, vec4i(-1), keys < vec4i(i32(S))); }
fn sinkKeys(start: i32, n4: u32) -> vec4i {
  let slots = vec4i(4 * i32(n4)) + OFFSETS;
  if (n4 < S4) { return select(vec4i(-1), slots, slots < vec4i(i32(S))); }
  return afterSinks(ringKeys(start, 4u * (n4 - S4)));
}`;
