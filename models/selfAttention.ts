// Softmax attention (Vaswani et al. 2017, arXiv 1706.03762) as a decoder's part:
//   [q, k, v] = qkv n(x)     q, k turned by their positions, if the model has any     x += o_proj attention(q, keys, values)
// with n RMSNorm. Full attention keeps all keys and values, in pages; a sliding window a ring of W slots.
//
//   B streams   T tokens in the chunk   E model width   H query heads   K key and value heads   D size of a head
//   O rows of qkv   Y columns of the heads' outputs

import { weight } from "../engine/model.ts";
import { rows, type Spec, tiles } from "../engine/tensor.ts";
import { headColumns } from "../kernels/attention.ts";
import { linear } from "../kernels/linear.ts";
import { pairedRow } from "../kernels/qkvRope.ts";
import { ROPE_POSITIONS, ROPE_STEPS, ROPE_STRIDES, ropeTables } from "../kernels/rope.ts";
import { caches, headLetters } from "./attentionCache.ts";
import { stacked } from "./common.ts";
import type { AttentionSizes } from "./configs.ts";
import { definePart, type Names, type Part } from "./decoder.ts";

/** The mixer, called `name` (one for each pattern in a model). */
export const attentionMixer = (name: string, c: AttentionSizes, { prefix, norm }: Names): Part => {
  const { hidden: E, ropeTheta: theta, pattern } = c;
  const { H, K, D, O, Y } = headLetters(c);
  const { stride } = headColumns({ H, D });
  const cache = caches[pattern.kind];
  const parts = [
    [`${prefix}.q_proj.weight`, H * D],
    [`${prefix}.k_proj.weight`, K * D],
    [`${prefix}.v_proj.weight`, K * D],
  ] as const;
  const turned = theta !== null && {
    longest: ROPE_POSITIONS,
    shared: {
      coarse: weight(rows(ROPE_STRIDES, D), async () => ropeTables(theta, D).coarse),
      fine: weight(rows(ROPE_STEPS, D), async () => ropeTables(theta, D).fine),
    },
  };
  return definePart({
    name,
    ...turned,
    weights: {
      qkv: weight(tiles(O, E), async (read) => pairRows(await stacked(E, parts, norm)(read), D, E)),
      oProj: weight(tiles(E, Y), async (read) =>
        spreadColumns(await read(`${prefix}.o_proj.weight`, [E, H * D]), D, stride),
      ),
    },
    state: (B) => cache.state(c, B),
    scratch(chunk) {
      const { B, T } = chunk;
      const own = cache.chunk(c, chunk);
      return {
        q: cache.queries(c, chunk),
        y: rows(B, T, Y),
        ...((own ? { chunk: own } : {}) as { chunk?: Spec }),
      };
    },

    run(m, { w, s: carried, x: { q, y, chunk: own } }, { cursor, x, shared: { coarse, fine } }, chunk) {
      const M = chunk.B * chunk.T;
      cache.attend(m, c, { cursor, w: w.qkv, x, coarse, fine, q, y }, carried, own, chunk);
      m.run(linear({ residual: true }), { w: w.oProj, x: y, y: x }, { M, I: Y, O: E, eps: 0 });
    },
  });
};

/** Puts the rows of heads of D rows each, one below the other, into the order of `qkvRope`. In place. */
function pairRows(matrix: Float32Array, D: number, columns: number): Float32Array {
  const size = D * columns;
  for (let head = 0; head < matrix.length; head += size) {
    const before = matrix.slice(head, head + size);
    for (let d = 0; d < D; d++)
      matrix.set(before.subarray(d * columns, (d + 1) * columns), head + pairedRow(d, D) * columns);
  }
  return matrix;
}

/** Runs of `size` columns set `stride` apart, zeros between them. */
function spreadColumns(matrix: Float32Array, size: number, stride: number): Float32Array {
  if (size === stride) return matrix;
  const out = new Float32Array((matrix.length / size) * stride);
  for (let i = 0; i < matrix.length; i++) out[Math.floor(i / size) * stride + (i % size)] = matrix[i]!;
  return out;
}
