// Decoder-only transformers as transformers' `llama` (Touvron et al. 2023, arXiv 2302.13971) and `mistral` (Jiang et al.
// 2023, arXiv 2310.06825) store them. A layer adds to the residual stream x:
//   [q, k, v] = qkv n(x)     q, k turned by their positions     x += o_proj attention(q, keys, values)
//   x += down_proj (silu(gate_proj n(x)) * up_proj n(x))
// with n RMSNorm. All keys and values are kept, in pages; with a sliding window a ring of W slots keeps the last.

import { ConfigError } from "./config.ts";
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
  window: transformer("mistral-window"),
};

export const transformerFamily: Family = {
  modelTypes: ["llama", "mistral"],
  open(raw) {
    const config = transformerConfig(raw);
    const { kind } = config.pattern;
    if (kind === "full" || kind === "window") return { architecture: architectures[kind], config };
    throw new ConfigError(`config.json: longtape_attention.pattern is "${kind}"; it is not implemented yet`);
  },
  // a tied head may be stored all the same; older files hold the rotary frequencies, which the config gives
  derived: /^lm_head\.weight$|\.rotary_emb\.inv_freq$/,
};
