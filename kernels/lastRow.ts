// y[b] = x[b, count(b) - 1]: the hidden vector of each stream's last valid token. A frozen stream (count 0) keeps what
// it has, so that its logits stay those of its own last token however long the others run.

import { CURSOR_COLUMNS, cursorWgsl } from "../engine/cursor.ts";
import { defineKernel, read, update } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";

//   B streams   T tokens in the chunk   D model width
export const lastRow = defineKernel({
  name: "lastRow",
  consts: ["B", "T", "D"],
  bindings: {
    cursor: read("u32", "B", CURSOR_COLUMNS),
    x: read("f32", "B", "T", "D"),
    y: update("f32", "B", "D"),
  },
  variants: {
    threads: {
      suits: "any",
      views: { x: "vec4f", y: "vec4f" },
      passes: [
        {
          workgroup: 16,
          grid: ({ B, D }) => ceilDiv(B * ceilDiv(D, 4), 16),
          wgsl: `${cursorWgsl}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  if (i >= B * D4) { return; }
  let b = i / D4;
  if (count(b) > 0u) { y[i] = x[(b * T + count(b) - 1u) * D4 + i % D4]; }
}`,
        },
      ],
    },
  },
  reference({ cursor, x, y }, { B, T, D }) {
    for (let b = 0; b < B; b++) {
      const count = cursor[b * CURSOR_COLUMNS + 1]!;
      if (count === 0) continue;
      const row = (b * T + count - 1) * D;
      y.set(x.subarray(row, row + D), b * D);
    }
  },
  flops: () => 0,
  bytes: ({ B, D }) => 8 * B * D,
  cases: [
    { B: 3, T: 5, D: 33 },
    { B: 1, T: 64, D: 128 },
  ],
  fill: {
    cursor: ({ B, T }) => {
      const cursor = new Uint32Array(B * CURSOR_COLUMNS);
      for (let b = 0; b < B; b++) cursor[b * CURSOR_COLUMNS + 1] = (T + b) % (T + 1);
      return cursor;
    },
  },
});
