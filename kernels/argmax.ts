// Greedy decoding: the token with the largest logit, the lowest index on ties.

import { CURSOR, CURSOR_COLUMNS, cursorWgsl, ID_RING } from "../engine/cursor.ts";
import { defineKernel, read, update } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { best, drawFill, take } from "./draw.ts";

//   B streams   V vocabulary
/** Of a frozen stream (count 0) the token and the ring of ids stay as they are. */
export const argmax = defineKernel({
  name: "argmax",
  consts: ["B", "V"],
  bindings: {
    cursor: read("u32", "B", CURSOR_COLUMNS),
    logits: read("f32", "B", "V"),
    tokens: update("u32", "B"),
    ids: update("u32", ID_RING, "B"),
  },
  variants: {
    // One thread a stream: where the vocabulary is small a second dispatch costs more than the scan.
    thread: {
      suits: "cpu",
      when: ({ V }) => V <= 4096,
      passes: [
        {
          workgroup: 4,
          grid: ({ B }) => ceilDiv(B, 4),
          wgsl: `${cursorWgsl}${best}${take}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = workgroupIndex(wg) * WG + lane;
  if (b >= B) { return; }
  var top = NONE;
  for (var i = 0u; i < V; i++) { top = better(top, Best(logits[b * V4 * 4u + i], i)); }
  take(b, top.index);
}`,
        },
      ],
    },
    // 64 runs a stream, then one thread a stream over the runs: no barrier.
    runs: {
      suits: "cpu",
      scratch: { tops: ["B", 2, 64] },
      passes: [
        {
          workgroup: 16,
          grid: ({ B }) => 4 * B,
          writes: ["tops"],
          wgsl: `${best}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let thread = workgroupIndex(wg) * WG + lane;
  let b = thread / 64u;
  let run = thread % 64u;
  const LENGTH = (V + 63u) / 64u;
  var top = NONE;
  for (var i = run * LENGTH; i < min((run + 1u) * LENGTH, V); i++) { top = better(top, Best(logits[b * V4 * 4u + i], i)); }
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
      ],
    },
    // A workgroup a stream.
    workgroup: {
      suits: "gpu",
      passes: [
        {
          workgroup: 256,
          grid: ({ B }) => B,
          wgsl: `${cursorWgsl}${best}${take}
var<workgroup> tops: array<Best, WG>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = workgroupIndex(wg);
  var top = NONE;
  for (var i = lane; i < V; i += WG) { top = better(top, Best(logits[b * V4 * 4u + i], i)); }
  tops[lane] = top;
  workgroupBarrier();
  for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
    if (lane < stride) { tops[lane] = better(tops[lane], tops[lane + stride]); }
    workgroupBarrier();
  }
  if (lane == 0u) { take(b, tops[0].index); }
}`,
        },
      ],
    },
  },

  reference({ cursor, logits, tokens, ids }, { B, V }) {
    for (let b = 0; b < B; b++) {
      const row = b * CURSOR_COLUMNS;
      if (cursor[row + CURSOR.count] === 0) continue;
      let top = 0;
      for (let i = 1; i < V; i++) if (logits[b * V + i]! > logits[b * V + top]!) top = i;
      tokens[b] = top;
      ids[(cursor[row + CURSOR.position]! % ID_RING) * B + b] = top;
    }
  },

  flops: ({ B, V }) => B * V,
  cases: [
    { B: 3, V: 37 },
    { B: 5, V: 4099 },
    { B: 1, V: 256 },
    { B: 1, V: 32000 },
  ],
  fill: {
    ...drawFill,
    /** In eighths: every row has ties. */
    logits: ({ B, V }, random) => Float32Array.from({ length: B * V }, () => Math.floor(80 * random()) / 8),
  },
});
