// What all architectures share: reading the last hidden vector out into logits, drawing a token, moving the cursor; and
// the ways in which weights are made from a checkpoint's tensors.

import type { Chunk, Io, Kept, ReadWeight } from "../engine/model.ts";
import type { Recorder } from "../engine/plan.ts";
import type { Tensor } from "../engine/tensor.ts";
import { advance } from "../kernels/advance.ts";
import { argmax } from "../kernels/argmax.ts";
import { cacheFill } from "../kernels/cacheFill.ts";
import { lastRow } from "../kernels/lastRow.ts";
import { linear } from "../kernels/linear.ts";
import { rmsNorm } from "../kernels/rmsNorm.ts";
import { sample as sampleKernel } from "../kernels/sample.ts";

export interface Readout {
  /** f32 [B, T, D]: the hidden vectors after the last layer. */
  hidden: Tensor;
  /** f32 [V, D]. */
  head: Tensor;
  headBias?: Tensor;
  /** The final RMSNorm's weight [D] and epsilon, and scratch [B, T, D] for what it gives. */
  norm?: { weight: Tensor; eps: number; out: Tensor };
  V: number;
  D: number;
}

/** logits = head(norm(hidden)): of each stream's last valid token, and of all where the session asks for them. */
export function readout(
  m: Recorder,
  io: Io,
  { hidden, head, headBias, norm, V, D }: Readout,
  { B, T }: Chunk,
): void {
  const project = (x: Tensor, y: Tensor, M: number) => {
    const sizes = { M, I: D, O: V, eps: 0 };
    if (headBias) m.run(linear({ bias: true }), { w: head, x, bias: headBias, y }, sizes);
    else m.run(linear({}), { w: head, x, y }, sizes);
  };
  let rows = hidden;
  if (norm) {
    m.run(rmsNorm, { x: hidden, w: norm.weight, y: norm.out }, { M: B * T, D, eps: norm.eps });
    rows = norm.out;
  }
  if (io.allLogits) project(rows, io.allLogits, B * T);
  m.run(lastRow, { cursor: io.cursor, x: rows, y: io.last }, { B, T, D });
  project(io.last, io.logits, B);
}

/** How a token is drawn, the cursor moved and a cache filled: the same for every architecture. */
export const autoregressive = {
  sample(m: Recorder, io: Io, { B, V, greedy }: { B: number; V: number; greedy: boolean }): void {
    const { cursor, logits, tokens, ids } = io;
    m.run(greedy ? argmax : sampleKernel, { cursor, logits, tokens, ids }, { B, V });
  },
  advance(m: Recorder, io: Io, { B, T }: Chunk): void {
    m.run(advance, { cursor: io.cursor }, { B, T });
  },
  /** Tensors are [2, B, K, slots, D]. */
  fillCache(m: Recorder, kv: readonly Kept[], { cursor }: Io, { B }: { B: number }): void {
    kv.forEach(({ tensor, sinks: S }, L) => {
      const [K, R, D] = tensor.spec.shape.slice(2) as [number, number, number];
      if (tensor.pages) m.run(cacheFill({ cache: "paged" }), { cursor, kv: tensor }, { B, K, D, L, N: 0 });
      else m.run(cacheFill({ cache: "ring" }), { cursor, ring: tensor }, { B, K, D, L, R, S });
    });
  },
};

/** The tensor as it is. */
export const plain =
  (name: string, ...shape: number[]) =>
  (read: ReadWeight) =>
    read(name, shape);

/** Matrices [rows_i, columns] one below the other; `norm` names a weight [columns] that scales the columns. */
export const stacked =
  (columns: number, parts: readonly (readonly [name: string, rows: number])[], norm?: string) =>
  async (read: ReadWeight): Promise<Float32Array> => {
    const out = new Float32Array(parts.reduce((n, [, rows]) => n + rows * columns, 0));
    let at = 0;
    for (const [name, rows] of parts) {
      out.set(await read(name, [rows, columns]), at);
      at += rows * columns;
    }
    if (norm) scaleColumns(out, await read(norm, [columns]));
    return out;
  };

function scaleColumns(matrix: Float32Array, weight: Float32Array): void {
  const columns = weight.length;
  for (let i = 0; i < matrix.length; i++) matrix[i]! *= weight[i % columns]!;
}
