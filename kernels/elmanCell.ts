// Elman's recurrent cell (Elman 1990), as torch.nn.RNN has it with its default activation:
//   h' = tanh(W x + U h + bias), bias being the sum of PyTorch's two.

import { CURSOR, CURSOR_COLUMNS } from "../engine/cursor.ts";
import { defineKernel, read, tiled, write } from "../engine/kernel.ts";
import { cellBytes, cellCases, cellFill, cellFlops, cellVariants, dot, gateWgsl } from "./recurrentCell.ts";

//   B streams   T tokens in the chunk   I input features   H hidden units   K columns of w: I in whole tiles, then H
/**
 * y [B, T, H] is every token's hidden vector; tokens past a stream's count repeat the last one. hNext is h after the
 * chunk.
 */
export const elmanCell = defineKernel({
  name: "elmanCell",
  consts: ["B", "T", "I", "H", "K"],
  bindings: {
    cursor: read("u32", "B", CURSOR_COLUMNS),
    x: read("f32", "B", "T", "I"),
    w: tiled(read("f32", 1, "H", "K")),
    bias: read("f32", 1, "H"),
    h: read("f32", "B", "H"),
    hNext: write("f32", "B", "H"),
    y: write("f32", "B", "T", "H"),
  },
  variants: cellVariants({
    gates: ["a"],
    update: `${gateWgsl}
fn update(at: u32, before: vec4f, a: vec4f) -> vec4f { return tangent(a); }`,
  }),

  reference({ cursor, x, w, bias, h, hNext, y }, { B, T, I, H, K }) {
    for (let b = 0; b < B; b++) {
      const count = cursor[b * CURSOR_COLUMNS + CURSOR.count]!;
      let hidden = h.slice(b * H, (b + 1) * H);
      for (let t = 0; t < T; t++) {
        if (t < count) {
          const before = hidden;
          hidden = before.map((_, j) =>
            Math.tanh(
              bias[j]! + dot(w, j * K, x, (b * T + t) * I, I) + dot(w, (j + 1) * K - H, before, 0, H),
            ),
          );
        }
        y.set(hidden, (b * T + t) * H);
      }
      hNext.set(hidden, b * H);
    }
  },

  flops: cellFlops(1),
  bytes: cellBytes(1, 1, 2),
  cases: cellCases(128, 480),
  fill: cellFill(1),
});
