// Mamba-1 (Gu & Dao 2023, arXiv 2312.00752) as transformers' `mamba` and `falcon_mamba` (Zuo et al. 2024, arXiv
// 2410.05355) store it. A layer adds to the residual stream x:
//   [u, z] = in_proj n(x)     u = silu(conv(u))     [r, B, C] = x_proj u     y = scan(u, dt_proj r, A, B, C, D, z)
//   x += out_proj y
// with n RMSNorm. Falcon Mamba norms r, B and C too.
//
//   B streams   T tokens in the chunk   V vocabulary   D model width   E channels   N states of a channel
//   R rank of the time step   K columns that the convolution sees   X columns of [u, z]   P columns of [r, B, C]

import { defineArchitecture, type ReadWeight, state, type Weight, weight } from "../engine/model.ts";
import { rows, tiles } from "../engine/tensor.ts";
import { causalConv } from "../kernels/causalConv.ts";
import { embedding } from "../kernels/embedding.ts";
import { linear } from "../kernels/linear.ts";
import { segmentNorm } from "../kernels/segmentNorm.ts";
import { gateColumns, scanColumns, selectiveScan } from "../kernels/selectiveScan.ts";
import { autoregressive, plain, readout, stacked } from "./common.ts";
import { type MambaConfig, mambaConfig } from "./configs.ts";
import type { Family } from "./family.ts";

const letters = (c: MambaConfig) => {
  const [D, E, N, R] = [c.hidden, c.inner, c.state, c.timeStepRank];
  // a convolution that sees one column only is one that sees two, the older with weight 0
  return {
    V: c.vocab,
    D,
    E,
    N,
    R,
    K: Math.max(c.conv, 2),
    X: gateColumns({ E }).X,
    P: scanColumns({ R, N }).P,
  };
};

export const mamba = defineArchitecture({
  name: "mamba",
  vocabulary: (c: MambaConfig) => c.vocab,
  width: (c) => c.hidden,

  weights(c) {
    const { V, D } = letters(c);
    const head = c.tied ? {} : { head: weight(tiles(V, D), plain("lm_head.weight", V, D)) };
    return {
      embeddings: weight(tiles(V, D), plain("backbone.embeddings.weight", V, D)),
      layers: Array.from({ length: c.layers }, (_, i) => layer(c, `backbone.layers.${i}`)),
      normF: weight(rows(D), plain("backbone.norm_f.weight", D)),
      ...(head as { head?: Weight }),
    };
  },

  state(c, B) {
    const { E, N, K } = letters(c);
    return {
      layers: Array.from({ length: c.layers }, () => ({
        past: state(rows(B, K - 1, E)),
        h: state(rows(B, N, E)),
      })),
    };
  },

  scratch(c, { B, T }) {
    const { D, E, X, P } = letters(c);
    return {
      x: rows(B, T, D),
      xz: rows(B, T, X),
      u: rows(B, T, E),
      rbc: rows(B, T, P),
      normed: rows(B, T, D),
    };
  },

  forward(m, c, { w, s, x }, io, { B, T }) {
    const { V, D, E, N, R, K, X, P } = letters(c);
    const M = B * T;
    const { cursor } = io;
    m.run(embedding, { table: w.embeddings, tokens: io.tokens, y: x.x }, { V, D, M });
    w.layers.forEach((l, i) => {
      const { past, h } = s.layers[i]!;
      m.run(linear({ norm: true }), { w: l.inProj, x: x.x, y: x.xz }, { M, I: D, O: X, eps: c.eps });
      m.run(
        causalConv,
        { cursor, x: x.xz, w: l.conv, bias: l.convBias, past, y: x.u },
        { B, T, E, K, S: K - 1, X },
      );
      m.run(linear({}), { w: l.xProj, x: x.u, y: x.rbc }, { M, I: E, O: P, eps: 0 });
      if (c.mixerEps !== null) m.run(segmentNorm({}), { x: x.rbc }, { M, P, R, N, eps: c.mixerEps });
      m.run(
        selectiveScan,
        { cursor, rbc: x.rbc, wDt: l.dtProj, a: l.a, biasD: l.biasD, xz: x.xz, h, u: x.u },
        { B, T, E, N, R, P, X },
      );
      m.run(linear({ residual: true }), { w: l.outProj, x: x.u, y: x.x }, { M, I: E, O: D, eps: 0 });
    });
    const norm = { weight: w.normF, eps: c.eps, out: x.normed };
    readout(m, io, { hidden: x.x, head: w.head ?? w.embeddings, norm, V, D }, { B, T });
  },

  ...autoregressive,
});

function layer(c: MambaConfig, prefix: string) {
  const { D, E, N, R, K, X, P } = letters(c);
  const mixer = `${prefix}.mixer`;
  const columns = scanColumns({ R, N });
  const inProj = stacked(D, [[`${mixer}.in_proj.weight`, 2 * E]], `${prefix}.norm.weight`);
  const xProj = plain(`${mixer}.x_proj.weight`, R + 2 * N, E);
  return {
    inProj: weight(tiles(X, D), async (read) =>
      spread(await inProj(read), D, X, [
        [E, 0],
        [E, gateColumns({ E }).z],
      ]),
    ),
    conv: weight(rows(K, E), async (read) => {
      const taps = transpose(await read(`${mixer}.conv1d.weight`, [E, 1, c.conv]), c.conv);
      return spread(taps, E, K, [[c.conv, K - c.conv]]);
    }),
    convBias: weight(rows(E), async (read) =>
      c.convBias ? read(`${mixer}.conv1d.bias`, [E]) : new Float32Array(E),
    ),
    xProj: weight(tiles(P, E), async (read) =>
      spread(await xProj(read), E, P, [
        [R, 0],
        [N, columns.b],
        [N, columns.c],
      ]),
    ),
    dtProj: weight(tiles(E, R), plain(`${mixer}.dt_proj.weight`, E, R)),
    a: weight(rows(N, E), async (read) =>
      transpose(await read(`${mixer}.A_log`, [E, N]), N).map((log) => -Math.exp(log)),
    ),
    biasD: weight(rows(2, E), (read: ReadWeight) => joined(read, [`${mixer}.dt_proj.bias`, `${mixer}.D`], E)),
    outProj: weight(tiles(D, E), plain(`${mixer}.out_proj.weight`, D, E)),
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

export const mambaFamily: Family = {
  modelTypes: ["mamba", "falcon_mamba"],
  open: (config) => ({ architecture: mamba, config: mambaConfig(config) }),
  // a tied head may be stored all the same
  derived: /^lm_head\.weight$/,
};
