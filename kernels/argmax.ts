// Greedy decoding: the token with the largest logit, the lowest index on ties.

import { CURSOR, CURSOR_COLUMNS, cursorWgsl, ID_RING } from "../engine/cursor.ts";
import { defineKernel, read, update } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { best, bestOfRuns, bestOfWorkgroup, drawFill, take } from "./draw.ts";

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
    runs: {
      suits: "cpu",
      scratch: { tops: ["B", 2, 64] },
      passes: bestOfRuns("", "", "logits[b * V4 * 4u + i]"),
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
  let b = workgroupIndex(wg);${bestOfWorkgroup("logits[b * V4 * 4u + i]")}
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
