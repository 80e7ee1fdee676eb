// Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236) and gated linear attention (Yang et al. 2023, arXiv
// 2312.06635) as flash-linear-attention's `linear_attn` and `gla` store them. A layer adds to the residual stream x:
//   [q, k, v] = in n(x)     x += out headNorm(attention(q, k, v))     x += down(silu(gate n(x)) * (up n(x)))
// with n RMSNorm. GLA's input product also gives r, from which the decay of each key channel is made, and the gate
// that the head norm multiplies by.
//
//   B streams   T tokens in the chunk   V vocabulary   D model width   F the MLP's width
//   Hq query heads   Hk key/value heads   Dk, Dv widths of a key and a value   N = Hq Dv   R rank of the decay
//   W columns of the input product

import {
  type Carried,
  defineArchitecture,
  type Io,
  type ReadWeight,
  state,
  type Tensors,
  type Weight,
  weight,
} from "../engine/model.ts";
import type { Recorder } from "../engine/plan.ts";
import { rows, type Tensor, tiles } from "../engine/tensor.ts";
import { embedding } from "../kernels/embedding.ts";
import { forgetGate } from "../kernels/forgetGate.ts";
import { gatedLinear } from "../kernels/gatedLinear.ts";
import { gatedLinearAttention } from "../kernels/gatedLinearAttention.ts";
import { headNorm } from "../kernels/headNorm.ts";
import { linear } from "../kernels/linear.ts";
import { linearAttention as linearAttentionKernel } from "../kernels/linearAttention.ts";
import { MissingTensorError } from "./checkpoint.ts";
import { autoregressive, plain, readout, stacked } from "./common.ts";
import { type GlaConfig, glaConfig, type LinearAttentionConfig, linearAttentionConfig } from "./configs.ts";
import type { Family } from "./family.ts";

/** What the two formats share. */
type Shape = Omit<LinearAttentionConfig, "featureMap" | "normalized">;

const letters = (c: Shape) => ({
  V: c.vocab,
  D: c.hidden,
  F: c.ffn,
  Hq: c.heads,
  Hk: c.kvHeads,
  Dk: c.keyDim,
  Dv: c.valueDim,
  N: c.heads * c.valueDim,
});

/** Rows of the input product: q, k, v; then for GLA the decay's r and, last, the output gate. */
const inputs = (c: Shape, prefix: string): (readonly [name: string, rows: number])[] => [
  [`${prefix}.q_proj.weight`, c.heads * c.keyDim],
  [`${prefix}.k_proj.weight`, c.kvHeads * c.keyDim],
  [`${prefix}.v_proj.weight`, c.kvHeads * c.valueDim],
];
const gatedInputs = (c: GlaConfig, prefix: string) => [
  ...inputs(c, prefix),
  [`${prefix}.gk_proj.0.weight`, c.gateRank] as const,
  ...(c.outputGate ? [[`${prefix}.g_proj.weight`, c.heads * c.valueDim] as const] : []),
];
const width = (parts: readonly (readonly [string, number])[]) => parts.reduce((n, [, rows]) => n + rows, 0);

/** Embedding, final norm and head around layers of any kind. */
function around<L>(c: Shape, layer: (prefix: string) => L) {
  const { V, D } = letters(c);
  const head = c.tied ? {} : { head: weight(tiles(V, D), plain("lm_head.weight", V, D)) };
  return {
    embeddings: weight(tiles(V, D), plain("model.embeddings.weight", V, D)),
    layers: Array.from({ length: c.layers }, (_, i) => layer(`model.layers.${i}`)),
    norm: weight(rows(D), plain("model.norm.weight", D)),
    ...(head as { head?: Weight }),
  };
}

/** The output product and the MLP; `norms` are names that the head norm's weight [Dv] may have. */
function afterAttention(c: Shape, prefix: string, norms: readonly string[]) {
  const { D, F, N } = letters(c);
  const mlp = (name: string) =>
    stacked(D, [[`${prefix}.mlp.${name}.weight`, F]], `${prefix}.mlp_norm.weight`);
  return {
    out: weight(tiles(D, N), async (read) => {
      const matrix = await read(`${prefix}.attn.o_proj.weight`, [D, N]);
      if (!c.affine) return matrix;
      const norm = await firstOf(read, norms, [c.valueDim]);
      return matrix.map((x, i) => x * norm[i % c.valueDim]!);
    }),
    gate: weight(tiles(F, D), mlp("gate_proj")),
    up: weight(tiles(F, D), mlp("up_proj")),
    down: weight(tiles(D, F), plain(`${prefix}.mlp.down_proj.weight`, D, F)),
  };
}

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

/** x += out y, then x += MLP(x). */
function finishLayer(
  m: Recorder,
  c: Shape,
  l: Tensors<ReturnType<typeof afterAttention>>,
  { x, y, hidden }: { x: Tensor; y: Tensor; hidden: Tensor },
  M: number,
): void {
  const { D, F, N } = letters(c);
  m.run(linear({ residual: true }), { w: l.out, x: y, y: x }, { M, I: N, O: D, eps: 0 });
  m.run(gatedLinear, { wGate: l.gate, wUp: l.up, x, y: hidden }, { M, I: D, O: F, eps: c.eps });
  m.run(linear({ residual: true }), { w: l.down, x: hidden, y: x }, { M, I: F, O: D, eps: 0 });
}

const activations = (c: Shape, W: number, B: number, T: number) => {
  const { D, F, Hq, Dv, N } = letters(c);
  return {
    x: rows(B, T, D),
    qkv: rows(B, T, W),
    o: rows(B, T, Hq, Dv),
    y: rows(B, T, N),
    hidden: rows(B, T, F),
    normed: rows(B, T, D),
  };
};

const embed = (m: Recorder, c: Shape, table: Tensor, tokens: Io["tokens"], y: Tensor, M: number) =>
  m.run(embedding, { table, tokens, y }, { V: c.vocab, D: c.hidden, M });

export const linearAttention = defineArchitecture({
  name: "linear-attention",
  vocabulary: (c: LinearAttentionConfig) => c.vocab,
  width: (c) => c.hidden,

  weights: (c) =>
    around(c, (prefix) => {
      const parts = inputs(c, `${prefix}.attn`);
      return {
        in: weight(tiles(width(parts), c.hidden), stacked(c.hidden, parts, `${prefix}.attn_norm.weight`)),
        ...afterAttention(c, prefix, [`${prefix}.attn.norm.weight`]),
      };
    }),

  state(c, B) {
    const { Hk, Dk, Dv } = letters(c);
    const keySum = c.normalized ? { keySum: state(rows(B, Hk, Dk)) } : {};
    return {
      layers: Array.from({ length: c.layers }, () => ({
        state: state(rows(B, Hk, Dk, Dv)),
        ...(keySum as { keySum?: Carried }),
      })),
    };
  },

  scratch(c, { B, T }) {
    const denominator = c.normalized ? { denominator: rows(B, T, c.heads) } : {};
    return {
      ...activations(c, width(inputs(c, "")), B, T),
      ...(denominator as { denominator?: ReturnType<typeof rows> }),
    };
  },

  forward(m, c, { w, s, x }, io, { B, T }) {
    const { V, D, Hq, Hk, Dk, Dv, N } = letters(c);
    const W = width(inputs(c, ""));
    const M = B * T;
    const attention = { B, T, Hq, Hk, Dk, Dv, W };
    const norm = { M, H: Hq, D: Dv, N, W: 0, eps: c.eps };
    const { featureMap } = c;
    const { cursor } = io;
    const { qkv, o, y, denominator } = x;
    embed(m, c, w.embeddings, io.tokens, x.x, M);
    w.layers.forEach((l, i) => {
      const { state, keySum } = s.layers[i]!;
      m.run(linear({ norm: true }), { w: l.in, x: x.x, y: qkv }, { M, I: D, O: W, eps: c.eps });
      if (keySum && denominator) {
        const kernel = linearAttentionKernel({ featureMap, normalise: true });
        m.run(kernel, { qkv, cursor, state, keySum, o, denominator }, attention);
        m.run(headNorm({ normalise: true }), { o, denominator, y }, norm);
      } else {
        m.run(linearAttentionKernel({ featureMap }), { qkv, cursor, state, o }, attention);
        m.run(headNorm({}), { o, y }, norm);
      }
      finishLayer(m, c, l, x, M);
    });
    const last = { weight: w.norm, eps: c.eps, out: x.normed };
    readout(m, io, { hidden: x.x, head: w.head ?? w.embeddings, norm: last, V, D }, { B, T });
  },

  ...autoregressive,
});

export const gla = defineArchitecture({
  name: "gla",
  vocabulary: (c: GlaConfig) => c.vocab,
  width: (c) => c.hidden,

  weights: (c) =>
    around(c, (prefix) => {
      const { Hk, Dk } = letters(c);
      const attn = `${prefix}.attn`;
      const parts = gatedInputs(c, attn);
      // fla's name for the norm tells whether its own kernel fuses the gate, and is the same norm
      const norms = [`${attn}.g_norm.weight`, `${attn}.g_norm_swish_gate.weight`];
      return {
        in: weight(tiles(width(parts), c.hidden), stacked(c.hidden, parts, `${prefix}.attn_norm.weight`)),
        decay: weight(tiles(Hk, Dk, c.gateRank), plain(`${attn}.gk_proj.1.weight`, Hk * Dk, c.gateRank)),
        decayBias: weight(rows(Hk, Dk), plain(`${attn}.gk_proj.1.bias`, Hk * Dk)),
        ...afterAttention(c, prefix, norms),
      };
    }),

  state(c, B) {
    const { Hk, Dk, Dv } = letters(c);
    return {
      layers: Array.from({ length: c.layers }, () => ({ state: state(rows(B, Hk, Dk, Dv)) })),
    };
  },

  scratch(c, { B, T }) {
    const { Hk, Dk } = letters(c);
    return { ...activations(c, width(gatedInputs(c, "")), B, T), decay: rows(B, T, Hk, Dk) };
  },

  forward(m, c, { w, s, x }, io, { B, T }) {
    const { V, D, Hq, Hk, Dk, Dv, N } = letters(c);
    const W = width(gatedInputs(c, ""));
    const R = c.gateRank;
    const M = B * T;
    const norm = { M, H: Hq, D: Dv, N, W: c.outputGate ? W : 0, eps: c.eps };
    const { cursor } = io;
    const { qkv, decay, o, y } = x;
    embed(m, c, w.embeddings, io.tokens, x.x, M);
    w.layers.forEach((l, i) => {
      const { state } = s.layers[i]!;
      m.run(linear({ norm: true }), { w: l.in, x: x.x, y: qkv }, { M, I: D, O: W, eps: c.eps });
      m.run(
        forgetGate,
        { low: qkv, w: l.decay, bias: l.decayBias, decay },
        { M, H: Hk, D: Dk, R, W, C: width(inputs(c, "")), tau: c.gateNormalizer },
      );
      m.run(gatedLinearAttention, { qkv, decay, cursor, state, o }, { B, T, Hq, Hk, Dk, Dv, W });
      if (c.outputGate) m.run(headNorm({ gate: true }), { o, gate: qkv, y }, norm);
      else m.run(headNorm({}), { o, y }, norm);
      finishLayer(m, c, l, x, M);
    });
    const last = { weight: w.norm, eps: c.eps, out: x.normed };
    readout(m, io, { hidden: x.x, head: w.head ?? w.embeddings, norm: last, V, D }, { B, T });
  },

  ...autoregressive,
});

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
