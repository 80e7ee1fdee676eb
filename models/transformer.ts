// Decoder-only transformers as transformers' `llama` (Touvron et al. 2023, arXiv 2302.13971) and `mistral` (Jiang et al.
// 2023, arXiv 2310.06825) store them. A layer adds to the residual stream x:
//   [q, k, v] = qkv n(x)     q, k turned by their positions     x += o_proj attention(q, keys, values)
//   x += down_proj (silu(gate_proj n(x)) * up_proj n(x))
// with n RMSNorm. All keys and values are kept, in pages; with a sliding window a ring of W slots keeps the last. longtape's
// own key in config.json, `longtape_attention`, has the same weights see less: see attentionCache.ts.
//
//   B streams   T tokens in the chunk   V vocabulary   E model width   H query heads   K key and value heads
//   D size of a head   J columns of [q, k, v]   Y columns of the heads' outputs   F inner width of the MLP
//   N slots of the paged cache   W slots of the ring

import { defineArchitecture, type Weight, weight } from "../engine/model.ts";
import { rows, type Spec, tiles } from "../engine/tensor.ts";
import { headColumns } from "../kernels/attention.ts";
import { embedding } from "../kernels/embedding.ts";
import { gatedLinear } from "../kernels/gatedLinear.ts";
import { linear } from "../kernels/linear.ts";
import { ROPE_POSITIONS, ROPE_STEPS, ropeTables } from "../kernels/rope.ts";
import { type Cache, caches, headLetters } from "./attentionCache.ts";
import { autoregressive, plain, readout, stacked } from "./common.ts";
import { type TransformerConfig, transformerConfig } from "./configs.ts";
import type { Family } from "./family.ts";

const letters = (c: TransformerConfig) => ({ V: c.vocab, E: c.hidden, F: c.ffn, ...headLetters(c) });

const transformer = (name: string, cache: Cache) =>
  defineArchitecture({
    name,
    vocabulary: (c: TransformerConfig) => c.vocab,
    width: (c) => c.hidden,
    longest: () => ROPE_POSITIONS,

    weights(c) {
      const { V, E, D } = letters(c);
      const head = c.tied ? {} : { head: weight(tiles(V, E), plain("lm_head.weight", V, E)) };
      return {
        embedTokens: weight(tiles(V, E), plain("model.embed_tokens.weight", V, E)),
        coarse: weight(rows(ROPE_STEPS, D), async () => ropeTables(c.ropeTheta, D).coarse),
        fine: weight(rows(ROPE_STEPS, D), async () => ropeTables(c.ropeTheta, D).fine),
        layers: Array.from({ length: c.layers }, (_, i) => layer(c, `model.layers.${i}`)),
        norm: weight(rows(E), plain("model.norm.weight", E)),
        ...(head as { head?: Weight }),
      };
    },

    state: (c, B) => ({ layers: Array.from({ length: c.layers }, () => cache.state(c, B)) }),

    scratch(c, { B, T }) {
      const { E, J, Y, F } = letters(c);
      const chunk = cache.chunk(c, { B, T });
      return {
        x: rows(B, T, E),
        qkv: rows(B, T, J),
        q: cache.queries(c, { B, T }),
        y: rows(B, T, Y),
        inner: rows(B, T, F),
        normed: rows(B, T, E),
        ...((chunk ? { chunk } : {}) as { chunk?: Spec }),
      };
    },

    forward(m, c, { w, s, x }, io, { B, T }) {
      const { V, E, J, Y, F } = letters(c);
      const { eps } = c;
      const M = B * T;
      const { coarse, fine } = w;
      m.run(embedding, { table: w.embedTokens, tokens: io.tokens, y: x.x }, { V, D: E, M });
      w.layers.forEach((l, i) => {
        m.run(linear({ norm: true }), { w: l.qkv, x: x.x, y: x.qkv }, { M, I: E, O: J, eps });
        const attended = { cursor: io.cursor, qkv: x.qkv, coarse, fine, q: x.q, y: x.y };
        cache.attend(m, c, attended, s.layers[i]!, x.chunk, { B, T });
        m.run(linear({ residual: true }), { w: l.oProj, x: x.y, y: x.x }, { M, I: Y, O: E, eps: 0 });
        m.run(gatedLinear, { wGate: l.gate, wUp: l.up, x: x.x, y: x.inner }, { M, I: E, O: F, eps });
        m.run(linear({ residual: true }), { w: l.down, x: x.inner, y: x.x }, { M, I: F, O: E, eps: 0 });
      });
      const norm = { weight: w.norm, eps, out: x.normed };
      readout(m, io, { hidden: x.x, head: w.head ?? w.embedTokens, norm, V, D: E }, { B, T });
    },

    ...autoregressive,
  });

/** By pattern of attention. */
const architectures = {
  full: transformer("llama", caches.full),
  materialised: transformer("materialised", caches.materialised),
  window: transformer("mistral-window", caches.window),
  sinks: transformer("sinks", caches.sinks),
  local: transformer("local", caches.local),
  strided: transformer("strided", caches.strided),
};

function layer(c: TransformerConfig, prefix: string) {
  const { E, H, K, D, J, Y, F } = letters(c);
  const { stride } = headColumns({ H, D });
  const [self, mlp] = [`${prefix}.self_attn`, `${prefix}.mlp`];
  const parts = [
    [`${self}.q_proj.weight`, H * D],
    [`${self}.k_proj.weight`, K * D],
    [`${self}.v_proj.weight`, K * D],
  ] as const;
  const gated = (part: string) =>
    stacked(E, [[`${mlp}.${part}.weight`, F]], `${prefix}.post_attention_layernorm.weight`);
  return {
    qkv: weight(tiles(J, E), stacked(E, parts, `${prefix}.input_layernorm.weight`)),
    oProj: weight(tiles(E, Y), async (read) =>
      spreadColumns(await read(`${self}.o_proj.weight`, [E, H * D]), D, stride),
    ),
    gate: weight(tiles(F, E), gated("gate_proj")),
    up: weight(tiles(F, E), gated("up_proj")),
    down: weight(tiles(E, F), plain(`${mlp}.down_proj.weight`, E, F)),
  };
}

/** Runs of `size` columns set `stride` apart, zeros between them. */
function spreadColumns(matrix: Float32Array, size: number, stride: number): Float32Array {
  if (size === stride) return matrix;
  const out = new Float32Array((matrix.length / size) * stride);
  for (let i = 0; i < matrix.length; i++) out[Math.floor(i / size) * stride + (i % size)] = matrix[i]!;
  return out;
}

export const transformerFamily: Family = {
  modelTypes: ["llama", "mistral"],
  open(raw) {
    const config = transformerConfig(raw);
    return { architecture: architectures[config.pattern.kind], config };
  },
  // a tied head may be stored all the same; older files hold the rotary frequencies, which the config gives
  derived: /^lm_head\.weight$|\.rotary_emb\.inv_freq$/,
};
