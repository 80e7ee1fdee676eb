// LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), as torch.nn.LSTM has it:
//   i, f, o = sigmoid(W x + U h + bias)   g = tanh(W x + U h + bias)   c' = f c + i g   h' = o tanh(c')
// The gates' rows lie in PyTorch's order i, f, g, o; bias is the sum of PyTorch's two.

import { CURSOR, CURSOR_COLUMNS } from "../engine/cursor.ts";
import { defineKernel, read, tiled, update, write } from "../engine/kernel.ts";
import { cellBytes, cellCases, cellFill, cellFlops, cellVariants, dot, gateWgsl } from "./recurrentCell.ts";
import { sigmoid } from "./reference/math.ts";

//   B streams   T tokens in the chunk   I input features   H hidden units   K columns of w: I in whole tiles, then H
/**
 * y [B, T, H] is every token's hidden vector; tokens past a stream's count repeat the last one. hNext is h after the
 * chunk, c changes in place.
 */
export const lstmCell = defineKernel({
  name: "lstmCell",
  consts: ["B", "T", "I", "H", "K"],
  bindings: {
    cursor: read("u32", "B", CURSOR_COLUMNS),
    x: read("f32", "B", "T", "I"),
    w: tiled(read("f32", 4, "H", "K")),
    bias: read("f32", 4, "H"),
    h: read("f32", "B", "H"),
    hNext: write("f32", "B", "H"),
    c: update("f32", "B", "H"),
    y: write("f32", "B", "T", "H"),
  },
  variants: cellVariants({
    gates: ["i", "f", "g", "o"],
    update: `${gateWgsl}
fn update(at: u32, before: vec4f, i: vec4f, f: vec4f, g: vec4f, o: vec4f) -> vec4f {
  let cell = sigmoid(f) * c[at] + sigmoid(i) * tangent(g);
  c[at] = cell;
  return sigmoid(o) * tangent(cell);
}`,
  }),

  reference({ cursor, x, w, bias, h, hNext, c, y }, { B, T, I, H, K }) {
    for (let b = 0; b < B; b++) {
      const count = cursor[b * CURSOR_COLUMNS + CURSOR.count]!;
      let hidden = h.slice(b * H, (b + 1) * H);
      for (let t = 0; t < T; t++) {
        if (t < count) {
          const before = hidden;
          const gate = (row: number) =>
            bias[row]! + dot(w, row * K, x, (b * T + t) * I, I) + dot(w, (row + 1) * K - H, before, 0, H);
          hidden = before.map((_, j) => {
            const at = b * H + j;
            c[at] = sigmoid(gate(H + j)) * c[at]! + sigmoid(gate(j)) * Math.tanh(gate(2 * H + j));
            return sigmoid(gate(3 * H + j)) * Math.tanh(c[at]!);
          });
        }
        y.set(hidden, (b * T + t) * H);
      }
      hNext.set(hidden, b * H);
    }
  },

  flops: cellFlops(4),
  bytes: cellBytes(4, 4, 4),
  cases: cellCases(128, 224),
  fill: cellFill(4),
});
