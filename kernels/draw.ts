// What drawing a token by `argmax` and by `sample` has in common.

import { CURSOR, CURSOR_COLUMNS, cursorWgsl, ID_RING } from "../engine/cursor.ts";
import type { Pass } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";

type S = { readonly B: number; readonly V: number };

/** The larger score wins, the lower index on ties; NaN never does. The index is exact as an f32. */
export const best = /* wgsl */ `
struct Best { score: f32, index: u32 }
const NONE = Best(-3.4e38, 16777216u);
fn better(a: Best, b: Best) -> Best {
  if (b.score > a.score || (b.score == a.score && b.index < a.index)) { return b; }
  return a;
}`;

/** The token that stream b draws, unless it is frozen. */
export const take = /* wgsl */ `
fn take(b: u32, index: u32) {
  if (count(b) == 0u) { return; }
  let token = min(index, V - 1u);
  tokens[b] = token;
  ids[position(b) % ${ID_RING}u * B + b] = token;
}`;

type Letter = "B" | "V";

/** The best of each of 64 runs a stream, then one thread a stream over those: no barrier. `tops` is [B, 2, 64]. */
export const bestOfRuns = (
  declarations: string,
  perStream: string,
  score: string,
): readonly Pass<Letter>[] => [
  {
    workgroup: 16,
    grid: ({ B }) => 4 * B,
    writes: ["tops"],
    wgsl: `${declarations}${best}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = workgroupIndex(wg) * WG + lane;
  let b = thread / 64u;
  let run = thread % 64u;
  if (b >= B) { return; }
  const LENGTH = (V + 63u) / 64u;
  ${perStream}
  var top = NONE;
  for (var i = run * LENGTH; i < min((run + 1u) * LENGTH, V); i++) { top = better(top, Best(${score}, i)); }
  tops[b * 128u + run] = top.score;
  tops[b * 128u + 64u + run] = f32(top.index);
}`,
  },
  {
    workgroup: 4,
    grid: ({ B }) => ceilDiv(B, 4),
    wgsl: `${cursorWgsl}${best}${take}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = workgroupIndex(wg) * WG + lane;
  if (b >= B) { return; }
  var top = NONE;
  for (var run = 0u; run < 64u; run++) { top = better(top, Best(tops[b * 128u + run], u32(tops[b * 128u + 64u + run]))); }
  take(b, top.index);
}`,
  },
];

/** The best of stream b by a whole workgroup, into the token that it draws; `tops` is workgroup memory. */
export const bestOfWorkgroup = (score: string): string => `
  var top = NONE;
  for (var i = lane; i < V; i += WG) { top = better(top, Best(${score}, i)); }
  tops[lane] = top;
  workgroupBarrier();
  for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
    if (lane < stride) { tops[lane] = better(tops[lane], tops[lane + stride]); }
    workgroupBarrier();
  }
  if (lane == 0u) { take(b, tops[0].index); }`;

/** Stream 1 is frozen; what it holds must stay. */
export const drawFill = {
  cursor: ({ B }: S): Uint32Array => {
    const cursor = new Uint32Array(B * CURSOR_COLUMNS);
    for (let b = 0; b < B; b++) {
      cursor[b * CURSOR_COLUMNS + CURSOR.position] = 62 + 7 * b;
      cursor[b * CURSOR_COLUMNS + CURSOR.count] = b === 1 ? 0 : 1;
    }
    return cursor;
  },
  tokens: ({ B }: S): Uint32Array => new Uint32Array(B).fill(1000),
  ids: ({ B }: S): Uint32Array => new Uint32Array(ID_RING * B).fill(2000),
};
