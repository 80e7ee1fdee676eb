// Models whose layers differ: transformers' `jamba` (Lieber et al. 2024, arXiv 2403.19887), Mamba with attention in every
// so many layers, and any list of layers (models/layerList.ts). A layer adds to the residual stream x:
//   x += mixer(n(x))     x += down(silu(gate n(x)) * (up n(x)))
// with n RMSNorm. The mixers are the other families' own.

import { decoder, gatedMlp, type Names, type Part } from "./decoder.ts";
import type { Family } from "./family.ts";
import { HYBRID, type HybridConfig, hybridConfig, jambaConfig, type Mixer } from "./hybridConfig.ts";
import { formatLayers, layerWord } from "./layerList.ts";
import { glaMixer, linearAttentionMixer } from "./linearAttention.ts";
import { mambaMixer } from "./mamba.ts";
import { attentionMixer } from "./selfAttention.ts";

function mixerPart(mixer: Mixer, names: Names): Part {
  switch (mixer.kind) {
    case "attn":
    case "window":
      return attentionMixer(layerWord(mixer), mixer.sizes, names);
    case "mamba":
      return mambaMixer(mixer.sizes, names);
    case "linear":
      return linearAttentionMixer(mixer.sizes, names);
    case "gla":
      return glaMixer(mixer.sizes, names);
  }
}

/** Names of a layer's mixer and MLP in the checkpoint. */
type LayerNames = (layer: string, kind: Mixer["kind"]) => { mixer: Names; mlp: Names };

const layersOf =
  (names: LayerNames) =>
  ({ layers, hidden, ffn, eps }: HybridConfig): Part[][] =>
    layers.map((mixer, i) => {
      const at = names(`model.layers.${i}`, mixer.kind);
      const part = mixerPart(mixer, at.mixer);
      return ffn === null ? [part] : [part, gatedMlp({ hidden, ffn, eps }, at.mlp)];
    });

export const jamba = decoder({
  name: "jamba",
  embeddings: "model.embed_tokens.weight",
  norm: "model.final_layernorm.weight",
  layers: layersOf((layer, kind) => ({
    mixer: {
      prefix: `${layer}.${kind === "mamba" ? "mamba" : "self_attn"}`,
      norm: `${layer}.input_layernorm.weight`,
    },
    mlp: { prefix: `${layer}.feed_forward`, norm: `${layer}.pre_ff_layernorm.weight` },
  })),
});

/** The architecture is named after its layers. */
const hybrid = (config: HybridConfig) =>
  decoder({
    name: `${HYBRID}${formatLayers(config.layers)}`,
    embeddings: "model.embed_tokens.weight",
    norm: "model.norm.weight",
    layers: layersOf((layer) => ({
      mixer: { prefix: `${layer}.mixer`, norm: `${layer}.mixer_norm.weight` },
      mlp: { prefix: `${layer}.mlp`, norm: `${layer}.mlp_norm.weight` },
    })),
  });

// a tied head may be stored all the same
const derived = /^lm_head\.weight$/;

export const jambaFamily: Family = {
  modelTypes: ["jamba"],
  open: (config) => ({ architecture: jamba, config: jambaConfig(config) }),
  derived,
};

export const hybridFamily: Family = {
  modelTypes: ["hybrid"],
  open(raw) {
    const config = hybridConfig(raw);
    return { architecture: hybrid(config), config };
  },
  derived,
};
