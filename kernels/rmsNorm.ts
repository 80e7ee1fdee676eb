// y = x / sqrt(mean(x^2) + eps) * w, row by row (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4).

import { defineKernel, read, write } from "../engine/kernel.ts";

//   M rows (streams x tokens)   D model width
export const rmsNorm = defineKernel({
  name: "rmsNorm",
  consts: ["M", "D"],
  scalars: ["eps"],
  bindings: { x: read("f32", "M", "D"), w: read("f32", "D"), y: write("f32", "M", "D") },
  variants: {
    rows: {
      suits: "cpu",
      passes: [
        {
          workgroup: 4,
          grid: ({ M }) => Math.ceil(M / 4),
          wgsl: `
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let m = workgroupIndex(wg) * WG + lane;
  if (m >= M) { return; }
  let row = m * D4 * 4u;
  var squares = 0.0;
  for (var d = 0u; d < D; d++) { squares += x[row + d] * x[row + d]; }
  let scale = inverseSqrt(squares / f32(D) + eps);
  for (var d = 0u; d < D; d++) { y[row + d] = x[row + d] * scale * w[d]; }
}`,
        },
      ],
    },
    workgroup: {
      suits: "gpu",
      passes: [
        {
          workgroup: 64,
          grid: ({ M }) => M,
          wgsl: `
var<workgroup> partial: array<f32, WG>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let m = workgroupIndex(wg);
  let row = min(m, M - 1u) * D4 * 4u;
  var squares = 0.0;
  for (var d = lane; d < D; d += WG) { squares += x[row + d] * x[row + d]; }
  partial[lane] = squares;
  workgroupBarrier();
  for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
    if (lane < stride) { partial[lane] += partial[lane + stride]; }
    workgroupBarrier();
  }
  let scale = inverseSqrt(partial[0] / f32(D) + eps);
  if (m >= M) { return; }
  for (var d = lane; d < D; d += WG) { y[row + d] = x[row + d] * scale * w[d]; }
}`,
        },
      ],
    },
  },
  reference({ x, w, y }, { M, D, eps }) {
    for (let m = 0; m < M; m++) {
      let squares = 0;
      for (let d = 0; d < D; d++) squares += x[m * D + d]! ** 2;
      const scale = 1 / Math.sqrt(squares / D + eps);
      for (let d = 0; d < D; d++) y[m * D + d] = x[m * D + d]! * scale * w[d]!;
    }
  },
  flops: ({ M, D }) => 4 * M * D,
  cases: [
    { M: 3, D: 33, eps: 1e-5 },
    { M: 1, D: 128, eps: 1e-6 },
    { M: 64, D: 128, eps: 1e-6 },
  ],
});
