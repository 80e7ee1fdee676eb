// y[b, t] = table[tokens[b, t]]. The table is tiled as the head's matrix is, so that tied weights are stored once.

import { defineKernel, read, tiled, write } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";

//   V vocabulary   D model width   M rows (streams x tokens)
export const embedding = defineKernel({
  name: "embedding",
  consts: ["V", "D", "M"],
  bindings: {
    table: tiled(read("f32", "V", "D")),
    tokens: read("u32", "M"),
    y: write("f32", "M", "D"),
  },
  variants: {
    threads: {
      suits: "any",
      views: { y: "vec4f" },
      passes: [
        {
          workgroup: 16,
          grid: ({ M, D }) => ceilDiv(M * ceilDiv(D, 4), 16),
          // a token past the vocabulary would read another row's tile: the host refuses it before it comes here
          wgsl: `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  if (i >= M * D4) { return; }
  let token = tokens[i / D4];
  y[i] = tableRow(token / 4u, i % D4, token % 4u);
}`,
        },
      ],
    },
  },
  reference({ table, tokens, y }, { D, M }) {
    for (let m = 0; m < M; m++) y.set(table.subarray(tokens[m]! * D, (tokens[m]! + 1) * D), m * D);
  },
  flops: () => 0,
  // one row of the table a token, not the table
  bytes: ({ D, M }, each) => M * (D * (each("table") + 4) + 4),
  cases: [
    { V: 7, D: 33, M: 3 },
    { V: 256, D: 128, M: 1 },
    { V: 256, D: 128, M: 64 },
  ],
  fill: {
    tokens: ({ V, M }, random) => Uint32Array.from({ length: M }, () => Math.floor(((random() + 1) / 2) * V)),
  },
});
