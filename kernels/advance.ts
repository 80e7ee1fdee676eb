// The last dispatch of a plan: each stream's position moves past the tokens that it has just consumed, and its count
// becomes what the next run of the same plan may consume; 0 freezes the stream.

import { CURSOR_COLUMNS } from "../engine/cursor.ts";
import { defineKernel, update } from "../engine/kernel.ts";

//   B streams   T tokens in the chunk
export const advance = defineKernel({
  name: "advance",
  consts: ["B", "T"],
  bindings: { cursor: update("u32", "B", CURSOR_COLUMNS) },
  variants: {
    threads: {
      suits: "any",
      passes: [
        {
          workgroup: 4,
          grid: ({ B }) => Math.ceil(B / 4),
          wgsl: `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = workgroupIndex(wg) * WG + lane;
  if (b >= B) { return; }
  let row = b * ${CURSOR_COLUMNS}u;
  let done = cursor[row + 1u];
  let remaining = cursor[row + 2u] - done;
  cursor[row] += done;
  cursor[row + 1u] = min(remaining, T);
  cursor[row + 2u] = remaining;
}`,
        },
      ],
    },
  },
  reference({ cursor }, { B, T }) {
    for (let row = 0; row < B * CURSOR_COLUMNS; row += CURSOR_COLUMNS) {
      const done = cursor[row + 1]!;
      const remaining = cursor[row + 2]! - done;
      cursor[row]! += done;
      cursor[row + 1] = Math.min(remaining, T);
      cursor[row + 2] = remaining;
    }
  },
  flops: () => 0,
  cases: [
    { B: 3, T: 5 },
    { B: 1, T: 1 },
  ],
  fill: {
    cursor: ({ B, T }) => {
      const cursor = new Uint32Array(B * CURSOR_COLUMNS);
      for (let b = 0; b < B; b++)
        cursor.set([100 * b, b % (T + 1), (b % (T + 1)) + 2 * b], b * CURSOR_COLUMNS);
      return cursor;
    },
  },
});
