// y = silu(Wg n(x)) * (Wu n(x)): SwiGLU's first half (Shazeer 2020, arXiv 2002.05202, eq. 6), both products in one
// pass over x. n is the RMSNorm of `linear`, its weight multiplied into both matrices when they are loaded.

import { defineKernel, read, tiled, write } from "../engine/kernel.ts";
import { productVariants } from "./product.ts";
import { silu } from "./reference/math.ts";

//   M rows of x (streams x tokens)   I input features   O hidden features   eps RMSNorm's epsilon
export const gatedLinear = defineKernel({
  name: "gatedLinear",
  consts: ["M", "I", "O"],
  scalars: ["eps"],
  bindings: {
    wGate: tiled(read("f32", "O", "I")),
    wUp: tiled(read("f32", "O", "I")),
    x: read("f32", "M", "I"),
    y: write("f32", "M", "O"),
  },
  variants: productVariants({
    weights: ["wGate", "wUp"],
    squares: true,
    finish: `fn finish(gate: vec4f, up: vec4f, squares: f32, m: u32, o4: u32) {
  let scale = inverseSqrt(squares / f32(I) + eps);
  let g = gate * scale;
  y[m * O4 + o4] = g / (1.0 + exp(-clamp(g, vec4f(-80.0), vec4f(80.0)))) * up * scale;
}`,
  }),

  reference({ wGate, wUp, x, y }, { M, I, O, eps }) {
    for (let m = 0; m < M; m++) {
      let squares = 0;
      for (let i = 0; i < I; i++) squares += x[m * I + i]! ** 2;
      const scale = 1 / Math.sqrt(squares / I + eps);
      for (let o = 0; o < O; o++) {
        let gate = 0;
        let up = 0;
        for (let i = 0; i < I; i++) {
          gate += wGate[o * I + i]! * x[m * I + i]!;
          up += wUp[o * I + i]! * x[m * I + i]!;
        }
        y[m * O + o] = silu(gate * scale) * up * scale;
      }
    }
  },

  flops: ({ M, I, O }) => 4 * M * I * O,
  cases: [
    { M: 1, I: 33, O: 5, eps: 1e-5 },
    { M: 9, I: 18, O: 23, eps: 1e-6 },
    { M: 3, I: 128, O: 344, eps: 1e-6 },
    { M: 64, I: 128, O: 344, eps: 1e-6 },
  ],
});
