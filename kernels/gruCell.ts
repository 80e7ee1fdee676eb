// GRU (Cho et al. 2014, arXiv 1406.1078), as torch.nn.GRU has it, with the reset gate behind the product with h:
//   r, z = sigmoid(W x + U h + bias)   n = tanh(W_n x + bias_n + r (U_n h + bias_nh))   h' = (1 - z) n + z h
// The gates' rows lie in PyTorch's order r, z, n. bias has four rows: PyTorch's two summed for r and z, then n's from
// bias_ih, then n's from bias_hh.

import { CURSOR, CURSOR_COLUMNS } from "../engine/cursor.ts";
import { defineKernel, read, tiled, write } from "../engine/kernel.ts";
import { cellBytes, cellCases, cellFill, cellFlops, cellVariants, dot, gateWgsl } from "./recurrentCell.ts";
import { sigmoid } from "./reference/math.ts";

//   B streams   T tokens in the chunk   I input features   H hidden units   K columns of w: I in whole tiles, then H
/**
 * y [B, T, H] is every token's hidden vector; tokens past a stream's count repeat the last one. hNext is h after the
 * chunk.
 */
export const gruCell = defineKernel({
  name: "gruCell",
  consts: ["B", "T", "I", "H", "K"],
  bindings: {
    cursor: read("u32", "B", CURSOR_COLUMNS),
    x: read("f32", "B", "T", "I"),
    w: tiled(read("f32", 3, "H", "K")),
    bias: read("f32", 4, "H"),
    h: read("f32", "B", "H"),
    hNext: write("f32", "B", "H"),
    y: write("f32", "B", "T", "H"),
  },
  variants: cellVariants({
    gates: ["r", "z", "n"],
    apart: "n",
    update: `${gateWgsl}
fn update(at: u32, before: vec4f, r: vec4f, z: vec4f, n: vec4f, nh: vec4f) -> vec4f {
  return mix(tangent(n + sigmoid(r) * nh), before, sigmoid(z));
}`,
  }),

  reference({ cursor, x, w, bias, h, hNext, y }, { B, T, I, H, K }) {
    for (let b = 0; b < B; b++) {
      const count = cursor[b * CURSOR_COLUMNS + CURSOR.count]!;
      let hidden = h.slice(b * H, (b + 1) * H);
      for (let t = 0; t < T; t++) {
        if (t < count) {
          const before = hidden;
          const fromX = (row: number) => dot(w, row * K, x, (b * T + t) * I, I);
          const fromH = (row: number) => dot(w, (row + 1) * K - H, before, 0, H);
          hidden = before.map((held, j) => {
            const r = sigmoid(bias[j]! + fromX(j) + fromH(j));
            const z = sigmoid(bias[H + j]! + fromX(H + j) + fromH(H + j));
            const n = Math.tanh(
              bias[2 * H + j]! + fromX(2 * H + j) + r * (bias[3 * H + j]! + fromH(2 * H + j)),
            );
            return (1 - z) * n + z * held;
          });
        }
        y.set(hidden, (b * T + t) * H);
      }
      hNext.set(hidden, b * H);
    }
  },

  flops: cellFlops(3),
  bytes: cellBytes(3, 4, 2),
  cases: cellCases(128, 256),
  fill: cellFill(3),
});
