// Mamba-1 (Gu & Dao 2023, arXiv 2312.00752) as transformers' `mamba` and `falcon_mamba` (Zuo et al. 2024, arXiv
// 2410.05355) store it. A layer adds to the residual stream x:
//   [u, z] = in_proj n(x)     u = silu(conv(u))     [r, B, C] = x_proj u     y = scan(u, dt_proj r, A, B, C, D, z)
//   x += out_proj y
// with n RMSNorm. Falcon Mamba norms r, B and C too, and so does Jamba, with weights.
//
//   B streams   T tokens in the chunk   D model width   E channels   N states of a channel   R rank of the time step
//   K columns that the convolution sees   X columns of [u, z]   P columns of [r, B, C]

import { type ReadWeight, state, type Weight, weight } from "../engine/model.ts";
import { rows, tiles } from "../engine/tensor.ts";
import { causalConv } from "../kernels/causalConv.ts";
import { linear } from "../kernels/linear.ts";
import { segmentNorm } from "../kernels/segmentNorm.ts";
import { gateColumns, scanColumns, selectiveScan } from "../kernels/selectiveScan.ts";
import { plain, stacked } from "./common.ts";
import { type MambaConfig, type MambaSizes, mambaConfig } from "./configs.ts";
import { decoder, definePart, type Names, type Part } from "./decoder.ts";
import type { Family } from "./family.ts";

/** The mixer. */
export const mambaMixer = (c: MambaSizes, names: Names): Part => {
  const { hidden: D, inner: E, state: N, timeStepRank: R } = c;
  // a convolution that sees one column only is one that sees two, the older with weight 0
  const K = Math.max(c.conv, 2);
  const { X } = gateColumns({ E });
  const { P } = scanColumns({ R, N });
  return definePart({
    name: "mamba",
    weights: mixerWeights(c, { D, E, N, R, K, X, P }, names),
    state: (B) => ({ past: state(rows(B, K - 1, E)), h: state(rows(B, N, E)) }),
    scratch: ({ B, T }) => ({ xz: rows(B, T, X), u: rows(B, T, E), rbc: rows(B, T, P) }),

    run(m, { w, s: { past, h }, x: { xz, u, rbc } }, { cursor, x }, { B, T }) {
      const M = B * T;
      m.run(linear({ norm: true }), { w: w.inProj, x, y: xz }, { M, I: D, O: X, eps: c.eps });
      const conv = { cursor, x: xz, w: w.conv, bias: w.convBias, past, y: u };
      m.run(causalConv, conv, { B, T, E, K, S: K - 1, X });
      m.run(linear({}), { w: w.xProj, x: u, y: rbc }, { M, I: E, O: P, eps: 0 });
      if (c.mixerNorm) {
        const sizes = { M, P, R, N, eps: c.mixerNorm.eps };
        if (w.mixerNorm) m.run(segmentNorm({ weight: true }), { x: rbc, weight: w.mixerNorm }, sizes);
        else m.run(segmentNorm({}), { x: rbc }, sizes);
      }
      const scan = { cursor, rbc, wDt: w.dtProj, a: w.a, biasD: w.biasD, xz, h, u };
      m.run(selectiveScan, scan, { B, T, E, N, R, P, X });
      m.run(linear({ residual: true }), { w: w.outProj, x: u, y: x }, { M, I: E, O: D, eps: 0 });
    },
  });
};

type Letters = Record<"D" | "E" | "N" | "R" | "K" | "X" | "P", number>;

function mixerWeights(c: MambaSizes, { D, E, N, R, K, X, P }: Letters, { prefix, norm }: Names) {
  const columns = scanColumns({ R, N });
  /** Rows of r, B and C among the P that begin vectors of four. */
  const segments = [
    [R, 0],
    [N, columns.b],
    [N, columns.c],
  ] as const;
  const inProj = stacked(D, [[`${prefix}.in_proj.weight`, 2 * E]], norm);
  const xProj = plain(`${prefix}.x_proj.weight`, R + 2 * N, E);
  const mixerNorm = weight(rows(P), async (read) => {
    const parts = [
      await read(`${prefix}.dt_layernorm.weight`, [R]),
      await read(`${prefix}.b_layernorm.weight`, [N]),
      await read(`${prefix}.c_layernorm.weight`, [N]),
    ];
    return spread(Float32Array.from(parts.flatMap((part) => [...part])), 1, P, segments);
  });
  return {
    inProj: weight(tiles(X, D), async (read) =>
      spread(await inProj(read), D, X, [
        [E, 0],
        [E, gateColumns({ E }).z],
      ]),
    ),
    conv: weight(rows(K, E), async (read) => {
      const taps = transpose(await read(`${prefix}.conv1d.weight`, [E, 1, c.conv]), c.conv);
      return spread(taps, E, K, [[c.conv, K - c.conv]]);
    }),
    convBias: weight(rows(E), async (read) =>
      c.convBias ? read(`${prefix}.conv1d.bias`, [E]) : new Float32Array(E),
    ),
    xProj: weight(tiles(P, E), async (read) => spread(await xProj(read), E, P, segments)),
    ...((c.mixerNorm?.weights ? { mixerNorm } : {}) as { mixerNorm?: Weight }),
    dtProj: weight(tiles(E, R), plain(`${prefix}.dt_proj.weight`, E, R)),
    a: weight(rows(N, E), async (read) =>
      transpose(await read(`${prefix}.A_log`, [E, N]), N).map((log) => -Math.exp(log)),
    ),
    biasD: weight(rows(2, E), (read: ReadWeight) =>
      joined(read, [`${prefix}.dt_proj.bias`, `${prefix}.D`], E),
    ),
    outProj: weight(tiles(D, E), plain(`${prefix}.out_proj.weight`, D, E)),
  };
}

/** Runs of rows, [how many, at which row], of a matrix of `total` rows; rows between them are zero. */
function spread(
  matrix: Float32Array,
  columns: number,
  total: number,
  runs: readonly (readonly [rows: number, at: number])[],
): Float32Array {
  if (matrix.length === total * columns) return matrix;
  const out = new Float32Array(total * columns);
  let from = 0;
  for (const [count, at] of runs) {
    out.set(matrix.subarray(from, from + count * columns), at * columns);
    from += count * columns;
  }
  return out;
}

/** [r, columns] to [columns, r]. */
function transpose(matrix: Float32Array, columns: number): Float32Array {
  const r = matrix.length / columns;
  return matrix.map((_, i) => matrix[(i % r) * columns + Math.floor(i / r)]!);
}

async function joined(read: ReadWeight, names: readonly string[], length: number): Promise<Float32Array> {
  const out = new Float32Array(names.length * length);
  for (const [i, name] of names.entries()) out.set(await read(name, [length]), i * length);
  return out;
}

export const mamba = decoder({
  name: "mamba",
  embeddings: "backbone.embeddings.weight",
  norm: "backbone.norm_f.weight",
  layers: (c: MambaConfig) =>
    Array.from({ length: c.layers }, (_, i) => {
      const layer = `backbone.layers.${i}`;
      return [mambaMixer(c, { prefix: `${layer}.mixer`, norm: `${layer}.norm.weight` })];
    }),
});

export const mambaFamily: Family = {
  modelTypes: ["mamba", "falcon_mamba"],
  open: (config) => ({ architecture: mamba, config: mambaConfig(config) }),
  // a tied head may be stored all the same
  derived: /^lm_head\.weight$/,
};
