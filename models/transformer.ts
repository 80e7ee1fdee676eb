// Decoder-only transformers as transformers' `llama` (Touvron et al. 2023, arXiv 2302.13971) and `mistral` (Jiang et al.
// 2023, arXiv 2310.06825) store them. A layer adds to the residual stream x:
//   [q, k, v] = qkv n(x)     q, k turned by their positions     x += o_proj attention(q, keys, values)
//   x += down_proj (silu(gate_proj n(x)) * up_proj n(x))
// with n RMSNorm. All keys and values are kept, in pages; with a sliding window a ring of W slots keeps the last. longtape's
// own key in config.json, `longtape_attention`, has the same weights see less: see attentionCache.ts.

import { type TransformerConfig, transformerConfig } from "./configs.ts";
import { decoder, gatedMlp } from "./decoder.ts";
import type { Family } from "./family.ts";
import { attentionMixer } from "./selfAttention.ts";

const transformer = (name: string) =>
  decoder({
    name,
    embeddings: "model.embed_tokens.weight",
    norm: "model.norm.weight",
    layers: (c: TransformerConfig) =>
      Array.from({ length: c.layers }, (_, i) => {
        const layer = `model.layers.${i}`;
        return [
          attentionMixer("attn", c, {
            prefix: `${layer}.self_attn`,
            norm: `${layer}.input_layernorm.weight`,
          }),
          gatedMlp(c, { prefix: `${layer}.mlp`, norm: `${layer}.post_attention_layernorm.weight` }),
        ];
      }),
  });

/** By pattern of attention. */
const architectures = {
  full: transformer("llama"),
  materialised: transformer("materialised"),
  window: transformer("mistral-window"),
  sinks: transformer("sinks"),
  local: transformer("local"),
  strided: transformer("strided"),
};

export const transformerFamily: Family = {
  modelTypes: ["llama", "mistral"],
  open(raw) {
    const config = transformerConfig(raw);
    return { architecture: architectures[config.pattern.kind], config };
  },
  // a tied head may be stored all the same; older files hold the rotary frequencies, which the config gives
  derived: /^lm_head\.weight$|\.rotary_emb\.inv_freq$/,
};
