// Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236) and gated linear attention (Yang et al. 2023, arXiv
// 2312.06635) as flash-linear-attention's `linear_attn` and `gla` store them. A layer adds to the residual stream x:
//   [q, k, v] = in n(x)     x += out headNorm(attention(q, k, v))     x += down(silu(gate n(x)) * (up n(x)))
// with n RMSNorm. GLA's input product also gives r, from which the decay of each key channel is made, and the gate
// that the head norm multiplies by.
//
//   B streams   T tokens in the chunk   D model width
//   Hq query heads   Hk key/value heads   Dk, Dv widths of a key and a value   N = Hq Dv   R rank of the decay
//   W columns of the input product

import { type Carried, type ReadWeight, state, weight } from "../engine/model.ts";
import { rows, type Spec, tiles } from "../engine/tensor.ts";
import { forgetGate } from "../kernels/forgetGate.ts";
import { gatedLinearAttention } from "../kernels/gatedLinearAttention.ts";
import { headNorm } from "../kernels/headNorm.ts";
import { linear } from "../kernels/linear.ts";
import { linearAttention as linearAttentionKernel } from "../kernels/linearAttention.ts";
import { MissingTensorError } from "./checkpoint.ts";
import { plain, stacked } from "./common.ts";
import {
  type GlaConfig,
  type GlaSizes,
  glaConfig,
  type LinearAttentionConfig,
  type LinearAttentionSizes,
  type LinearSizes,
  linearAttentionConfig,
} from "./configs.ts";
import { decoder, definePart, gatedMlp, type Names, type Part } from "./decoder.ts";
import type { Family } from "./family.ts";

const letters = (c: LinearSizes) => ({
  D: c.hidden,
  Hq: c.heads,
  Hk: c.kvHeads,
  Dk: c.keyDim,
  Dv: c.valueDim,
  N: c.heads * c.valueDim,
});

/** Rows of the input product: q, k, v; then for GLA the decay's r and, last, the output gate. */
const inputs = (c: LinearSizes, prefix: string): (readonly [name: string, rows: number])[] => [
  [`${prefix}.q_proj.weight`, c.heads * c.keyDim],
  [`${prefix}.k_proj.weight`, c.kvHeads * c.keyDim],
  [`${prefix}.v_proj.weight`, c.kvHeads * c.valueDim],
];
const gatedInputs = (c: GlaSizes, prefix: string) => [
  ...inputs(c, prefix),
  [`${prefix}.gk_proj.0.weight`, c.gateRank] as const,
  ...(c.outputGate ? [[`${prefix}.g_proj.weight`, c.heads * c.valueDim] as const] : []),
];
const width = (parts: readonly (readonly [string, number])[]) => parts.reduce((n, [, rows]) => n + rows, 0);

/** The output product; `norms` are names that the head norm's weight [Dv] may have. */
const outProj = (c: LinearSizes, prefix: string, norms: readonly string[]) => {
  const { D, N } = letters(c);
  return weight(tiles(D, N), async (read) => {
    const matrix = await read(`${prefix}.o_proj.weight`, [D, N]);
    if (!c.affine) return matrix;
    const norm = await firstOf(read, norms, [c.valueDim]);
    return matrix.map((x, i) => x * norm[i % c.valueDim]!);
  });
};

/** The first tensor of these names that the checkpoint holds. */
async function firstOf(
  read: ReadWeight,
  names: readonly string[],
  shape: readonly number[],
): Promise<Float32Array> {
  for (const name of names.slice(0, -1)) {
    try {
      return await read(name, shape);
    } catch (error) {
      if (!(error instanceof MissingTensorError)) throw error;
    }
  }
  return read(names.at(-1)!, shape);
}

/** The mixer of `linear_attn`. */
export const linearAttentionMixer = (c: LinearAttentionSizes, { prefix, norm }: Names): Part => {
  const { D, Hq, Hk, Dk, Dv, N } = letters(c);
  const parts = inputs(c, prefix);
  const W = width(parts);
  return definePart({
    name: "linear",
    weights: {
      in: weight(tiles(W, D), stacked(D, parts, norm)),
      out: outProj(c, prefix, [`${prefix}.norm.weight`]),
    },
    state: (B) => ({
      state: state(rows(B, Hk, Dk, Dv)),
      ...((c.normalized ? { keySum: state(rows(B, Hk, Dk)) } : {}) as { keySum?: Carried }),
    }),
    scratch: ({ B, T }) => ({
      qkv: rows(B, T, W),
      o: rows(B, T, Hq, Dv),
      y: rows(B, T, N),
      ...((c.normalized ? { denominator: rows(B, T, Hq) } : {}) as { denominator?: Spec }),
    }),

    run(m, { w, s: { state, keySum }, x: { qkv, o, y, denominator } }, { cursor, x }, { B, T }) {
      const M = B * T;
      const { featureMap } = c;
      const attention = { B, T, Hq, Hk, Dk, Dv, W };
      const headSizes = { M, H: Hq, D: Dv, N, W: 0, eps: c.eps };
      m.run(linear({ norm: true }), { w: w.in, x, y: qkv }, { M, I: D, O: W, eps: c.eps });
      if (keySum && denominator) {
        const kernel = linearAttentionKernel({ featureMap, normalise: true });
        m.run(kernel, { qkv, cursor, state, keySum, o, denominator }, attention);
        m.run(headNorm({ normalise: true }), { o, denominator, y }, headSizes);
      } else {
        m.run(linearAttentionKernel({ featureMap }), { qkv, cursor, state, o }, attention);
        m.run(headNorm({}), { o, y }, headSizes);
      }
      m.run(linear({ residual: true }), { w: w.out, x: y, y: x }, { M, I: N, O: D, eps: 0 });
    },
  });
};

/** The mixer of `gla`. */
export const glaMixer = (c: GlaSizes, { prefix, norm }: Names): Part => {
  const { D, Hq, Hk, Dk, Dv, N } = letters(c);
  const R = c.gateRank;
  const parts = gatedInputs(c, prefix);
  const W = width(parts);
  // fla's name for the norm tells whether its own kernel fuses the gate, and is the same norm
  const norms = [`${prefix}.g_norm.weight`, `${prefix}.g_norm_swish_gate.weight`];
  return definePart({
    name: "gla",
    weights: {
      in: weight(tiles(W, D), stacked(D, parts, norm)),
      decay: weight(tiles(Hk, Dk, R), plain(`${prefix}.gk_proj.1.weight`, Hk * Dk, R)),
      decayBias: weight(rows(Hk, Dk), plain(`${prefix}.gk_proj.1.bias`, Hk * Dk)),
      out: outProj(c, prefix, norms),
    },
    state: (B) => ({ state: state(rows(B, Hk, Dk, Dv)) }),
    scratch: ({ B, T }) => ({
      qkv: rows(B, T, W),
      decay: rows(B, T, Hk, Dk),
      o: rows(B, T, Hq, Dv),
      y: rows(B, T, N),
    }),

    run(m, { w, s: { state }, x: { qkv, decay, o, y } }, { cursor, x }, { B, T }) {
      const M = B * T;
      const gateSizes = { M, H: Hk, D: Dk, R, W, C: width(inputs(c, "")), tau: c.gateNormalizer };
      const headSizes = { M, H: Hq, D: Dv, N, W: c.outputGate ? W : 0, eps: c.eps };
      m.run(linear({ norm: true }), { w: w.in, x, y: qkv }, { M, I: D, O: W, eps: c.eps });
      m.run(forgetGate, { low: qkv, w: w.decay, bias: w.decayBias, decay }, gateSizes);
      m.run(gatedLinearAttention, { qkv, decay, cursor, state, o }, { B, T, Hq, Hk, Dk, Dv, W });
      if (c.outputGate) m.run(headNorm({ gate: true }), { o, gate: qkv, y }, headSizes);
      else m.run(headNorm({}), { o, y }, headSizes);
      m.run(linear({ residual: true }), { w: w.out, x: y, y: x }, { M, I: N, O: D, eps: 0 });
    },
  });
};

/** fla's layers around a mixer. */
const flaDecoder = <C extends LinearAttentionConfig | GlaConfig>(
  name: string,
  mixer: (c: C, names: Names) => Part,
) =>
  decoder({
    name,
    embeddings: "model.embeddings.weight",
    norm: "model.norm.weight",
    layers: (c: C) =>
      Array.from({ length: c.layers }, (_, i) => {
        const layer = `model.layers.${i}`;
        return [
          mixer(c, { prefix: `${layer}.attn`, norm: `${layer}.attn_norm.weight` }),
          gatedMlp(c, { prefix: `${layer}.mlp`, norm: `${layer}.mlp_norm.weight` }),
        ];
      }),
  });

export const linearAttention = flaDecoder<LinearAttentionConfig>("linear-attention", linearAttentionMixer);
export const gla = flaDecoder<GlaConfig>("gla", glaMixer);

// a tied head may be stored all the same
const derived = /^lm_head\.weight$/;

export const linearAttentionFamily: Family = {
  modelTypes: ["linear_attn"],
  open: (config) => ({ architecture: linearAttention, config: linearAttentionConfig(config) }),
  derived,
};

export const glaFamily: Family = {
  modelTypes: ["gla"],
  open: (config) => ({ architecture: gla, config: glaConfig(config) }),
  derived,
};
