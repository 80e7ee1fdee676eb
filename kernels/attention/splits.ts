// What the variants of decode share: where its keys and values lie, splits of their slots, and the combination of the splits.

import { type Derived, derived, type Pass, type Sizes } from "../../engine/kernel.ts";
import { ceilDiv } from "../../engine/tensor.ts";
import type { Letter } from "../attention.ts";
import {
  isPaged,
  isSparse,
  NEVER,
  pageSources,
  prelude,
  range,
  ringSource,
  type Source,
  sinkSlots,
  sinksSource,
} from "./cache.ts";
import {
  gather,
  gatheredScratch,
  gatheredSlots,
  gatheredSource,
  gatheredTileWgsl,
  gatheredWgsl,
} from "./gather.ts";
import type { Kind } from "./pattern.ts";

type S = Sizes<Letter>;

/** Query heads that a thread serves at once: the largest divisor of H / K up to eight, a multiple of `of`. */
export function headsAtOnce({ H, K }: { H: number; K: number }, of = 1): number {
  const group = H / K;
  return range(8)
    .map((i) => 8 - i)
    .find((n) => group % n === 0 && n % of === 0)!;
}

/** Patterns that decode has variants for. */
export type Decoded = Exclude<Kind, "materialised">;

/** Slots that scores are kept for. */
const slotsOf: Record<Decoded, Derived<Letter>> = {
  full: derived("N", ["N"], ({ N }) => N),
  window: derived("W", ["W"], ({ W }) => W),
  sinks: sinkSlots,
  ...gatheredSlots,
};

/** Names and counts that depend on where keys and values lie and on how many slots make a split. */
export function layout(kind: Decoded, split: number) {
  const slots = slotsOf[kind];
  const splits = derived<Letter>(`(${slots.text})/${split}`, slots.letters, (s) =>
    ceilDiv(slots.size(s), split),
  );
  /** Else there is one source, and `page` is 0. */
  const overPages = kind === "full";
  const sparse = isSparse(kind) ? kind : null;
  const ring = kind === "sinks" ? { ...sinksSource, filled: "4u * S4 + " } : { ...ringSource, filled: "" };
  return {
    overPages,
    scores: ["B", "H", slots] as const,
    stats: ["B", "H", splits, 2] as const,
    partial: ["B", "H", splits, "D"] as const,
    /** What stands before the passes: its scratch, how its bindings are seen, and itself. */
    before: (workgroup: number, lanes: boolean) =>
      sparse
        ? {
            scratch: { gathered: gatheredScratch(sparse) },
            views: { gathered: "vec4f" } as const,
            passes: [gather(sparse, workgroup, lanes)],
          }
        : { scratch: {}, views: {}, passes: [] },
    /** Slots of the source that a pass sees. */
    slots: (s: S & { PAGE: number }) => (overPages ? s.PAGE : slots.size(s)),
    /** All slots make one split, whose sums are the result. */
    one: (s: S) => slots.size(s) <= split,
    /** Splits of a plane of that source. */
    splits: (s: S & { PAGE: number }) => (overPages ? s.PAGE / split : splits.size(s)),
    sources: (s: { PAGES: number }): Source[] =>
      overPages ? pageSources(s.PAGES) : [sparse ? gatheredSource(sparse) : ring],
    /** WGSL: tiles of a plane of that source. */
    tiles: overPages ? "(PAGE / 4u)" : sparse ? "slots4()" : ring.tiles,
    pages: (s: { PAGES: number }) => (overPages ? s.PAGES : 1),
    wgsl: (s: S) => `${prelude(kind, s)}
const SPLIT = ${split}u;
const SPLIT4 = ${split / 4}u;
${sparse ? gatheredWgsl(sparse, s) : `fn slots4() -> u32 { return ${overPages ? "params.N >> 2u" : ring.tiles}; }`}
fn splits() -> u32 { return (slots4() + SPLIT4 - 1u) >> ${Math.log2(split / 4)}u; }
// slots that hold something to see; none in a frozen stream
fn filled(b: u32) -> u32 {
  return select(0u, ${sparse ? "reached(position(b))" : overPages ? "position(b) + 1u" : `${ring.filled}min(position(b), W)`}, count(b) > 0u);
}`,
    /** Of passes that read keys or values. */
    reading: sparse ? gatheredTileWgsl : "",
    /** WGSL: `slot`, the first of the source's slots, and `origin`. */
    place: overPages
      ? "let start = params.base + page * PAGE; let origin = i32(start);"
      : "let start = 0u; let origin = i32(position(b));",
    missing: overPages ? "page >= params.pages" : "page > 0u",
  };
}

/** WGSL: the token's own key (kind 0) or value (kind 1), which are not in the ring yet, and its score. */
export const ownWgsl = (kind: Decoded): string => `
fn own(kind: u32, plane: u32, d4: u32) -> vec4f {
  let at = ((kind * B * K + plane) * D4 + d4) * 16u;
  return vec4f(chunk[at], chunk[at + 4u], chunk[at + 8u], chunk[at + 12u]);
}
fn ownScore(b: u32, row: u32, plane: u32) -> f32 {
  var sum = 0.0;
  for (var k = 0u; k < D4; k++) { sum += dot(queryAt(row * D4, k), own(0u, plane, k)); }
  return ${kind === "sinks" ? `select(sum * SCALE, ${NEVER}, position(b) < S)` : "sum * SCALE"};
}`;

/** Small enough that both cores of a small launch have work. */
const workgroupOf = (threads: number): number => (threads < 256 ? 4 : 16);
/** One dispatch: y from every split's sums. The token's own key and value, if not in the cache yet, are one more split. */
export const combine = (kind: Decoded, split: number): Pass<Letter> => ({
  workgroup: ({ B, H, D }) => workgroupOf(B * H * ceilDiv(D, 4)),
  grid: ({ B, H, D }) => ceilDiv(B * H * ceilDiv(D, 4), workgroupOf(B * H * ceilDiv(D, 4))),
  wgsl: (s) => `${layout(kind, split).wgsl(s)}
${isPaged(kind) ? "" : ownWgsl(kind)}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let d4 = i % D4;
  let row = i / D4;
  if (row >= B * H) { return; }
  let b = row / H;
  if (count(b) == 0u) { y[i] = vec4f(); return; }
  let used = (filled(b) + SPLIT - 1u) / SPLIT;
  let first = row * splits();
  ${
    !isPaged(kind)
      ? `let plane = b * K + row % H / GROUP;
  let mine = ownScore(b, row, plane);
  var top = mine;`
      : `var top = ${NEVER};`
  }
  for (var j = 0u; j < used; j++) { top = max(top, stats[first + j].x); }
  ${
    !isPaged(kind)
      ? `let weight = exp(mine - top);
  var sum = weight;
  var v = weight * own(1u, plane, d4);`
      : "var sum = 0.0; var v = vec4f();"
  }
  for (var j = 0u; j < used; j++) {
    let weight = exp(stats[first + j].x - top);
    sum += weight * stats[first + j].y;
    v += weight * partial[(first + j) * D4 + d4];
  }
  y[i] = inHead(v / sum, d4);
}`,
});
