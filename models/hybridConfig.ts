// Configurations of models whose layers differ: transformers' `jamba`, and longtape's own `hybrid`, which has no library
// and no checkpoints but lets any list of layers be measured with seeded weights.

import * as v from "valibot";
import { type Config, type ConfigReader, readConfig, SIZE_LIMIT } from "./config.ts";
import {
  type AttentionSizes,
  type GlaSizes,
  headSizes,
  LAYERS,
  type LinearAttentionSizes,
  type MambaSizes,
  type Pattern,
  VOCAB,
} from "./configs.ts";
import type { DecoderConfig } from "./decoder.ts";
import { formatLayers, type LayerKind, parseLayers } from "./layerList.ts";
import { show } from "./source.ts";

/** What a list calls a layer, and its mixer's sizes. */
export type Mixer =
  | { kind: "attn"; sizes: AttentionSizes }
  | { kind: "window"; size: number; sizes: AttentionSizes }
  | { kind: "mamba"; sizes: MambaSizes }
  | { kind: "linear"; sizes: LinearAttentionSizes }
  | { kind: "gla"; sizes: GlaSizes };

export interface HybridConfig extends DecoderConfig {
  layers: readonly Mixer[];
  /** F: the inner width of the gated MLP after each mixer; null where there is none. */
  ffn: number | null;
}

/** transformers' `jamba`, with dense MLPs. */
export const jambaConfig = (config: Config): HybridConfig =>
  readConfig(config, ["jamba"], (r) => {
    const experts = r.raw("num_experts") ?? 16;
    if (experts !== 1) {
      const found = r.raw("num_experts") === undefined ? "absent, which means 16" : show(experts);
      r.refuse("num_experts", found, "experts are not supported, jamba needs num_experts 1");
    }
    // Which layers have experts, and how many of the one are asked, is all the same.
    r.harmless("num_experts_per_tok", "expert_layer_period", "expert_layer_offset");
    r.harmless("output_router_logits", "router_aux_loss_coef");
    // Left by the configs of ai21's own code.
    r.only("mamba_inner_layernorms", [true]);
    // What runs, and how many logits it keeps.
    r.harmless("use_mamba_kernels", "use_mambapy", "use_associative_scan", "num_logits_to_keep");
    r.only("hidden_act", ["silu", "swish"]);
    r.only("sliding_window", [null], null);
    const hidden = r.positive("hidden_size");
    const layers = r.positive("num_hidden_layers", undefined, LAYERS);
    const period = r.positive("attn_layer_period", 8);
    const offset = r.number("attn_layer_offset", 4, { max: SIZE_LIMIT });
    r.require(
      Number.isInteger(offset) && offset < period,
      "attn_layer_offset",
      `a whole number from 0 to attn_layer_period - 1 (${period - 1})`,
    );
    const eps = r.number("rms_norm_eps", 1e-6);
    // JambaConfig: 8 key heads where the key is absent, all of them where it is null.
    const heads = headSizes(r, hidden, (all) => (config.num_key_value_heads === null ? all : 8));
    r.require(
      heads.headDim === hidden / heads.heads,
      "head_dim",
      `hidden_size / num_attention_heads (${hidden / heads.heads})`,
    );
    const attention: AttentionSizes = { hidden, ...heads, eps, ropeTheta: null, pattern: { kind: "full" } };
    const mamba: MambaSizes = { ...mambaSizes(r, hidden, eps), mixerNorm: { eps, weights: true } };
    return {
      vocab: r.positive("vocab_size", undefined, VOCAB),
      hidden,
      eps,
      tied: r.boolean("tie_word_embeddings", false),
      ffn: r.positive("intermediate_size"),
      layers: Array.from({ length: layers }, (_, i) =>
        i % period === offset ? { kind: "attn", sizes: attention } : { kind: "mamba", sizes: mamba },
      ),
    };
  });

/** Keys of a Mamba mixer, by the names that `jamba` gives them. */
function mambaSizes(r: ConfigReader, hidden: number, eps: number): MambaSizes {
  r.only("mamba_proj_bias", [false]);
  const rank = r.raw("mamba_dt_rank") ?? "auto";
  const inner = hidden * r.positive("mamba_expand", 2, { max: 1024 });
  return {
    hidden,
    eps,
    inner: r.derived("mamba_expand", inner, `hidden_size * mamba_expand to be from 1 to ${SIZE_LIMIT}`),
    state: r.positive("mamba_d_state", 16, { max: 1024 }),
    conv: r.positive("mamba_d_conv", 4, { max: 1024 }),
    convBias: r.boolean("mamba_conv_bias", true),
    timeStepRank: rank === "auto" ? Math.ceil(hidden / 16) : r.positive("mamba_dt_rank"),
    mixerNorm: null,
  };
}

/**
 * longtape's own `hybrid`: `layers` is a list of words as in models/layerList.ts. Sizes bear the names that `llama` and
 * `jamba` give them; those of linear attention and GLA follow from the heads, as fla's defaults do.
 */
export const hybridConfig = (config: Config): HybridConfig =>
  readConfig(config, ["hybrid"], (r) => {
    const list = v.safeParse(v.pipe(v.array(v.string()), v.minLength(1)), r.raw("layers"));
    if (!list.success)
      return r.refuse("layers", show(r.raw("layers")), 'hybrid needs a list such as ["mamba*3", "attn"]');
    const layers = parseLayers(list.output.join("+"), "config.json: layers");
    const hidden = r.positive("hidden_size");
    const eps = r.number("rms_norm_eps", 1e-6);
    const mixers = mixersOf(r, hidden, eps, config.rope_theta === null);
    return {
      vocab: r.positive("vocab_size", undefined, VOCAB),
      hidden,
      eps,
      tied: r.boolean("tie_word_embeddings", false),
      ffn: r.raw("intermediate_size") === undefined ? null : r.positive("intermediate_size"),
      layers: layers.map(mixers),
    };
  });

/** Gives a layer's mixer. Every kind's keys are read, used or not, so that lists can be tried with the same sizes. */
function mixersOf(
  r: ConfigReader,
  hidden: number,
  eps: number,
  withoutPositions: boolean,
): (layer: LayerKind) => Mixer {
  const { heads, kvHeads, headDim } = headSizes(r, hidden, (all) => all);
  const theta = r.number("rope_theta", 10_000, { min: 1, max: 1e15 });
  const ropeTheta = withoutPositions ? null : theta;
  const attention = (pattern: Pattern): AttentionSizes => {
    return { hidden, heads, kvHeads, headDim, eps, ropeTheta, pattern };
  };
  const linear = { hidden, heads, kvHeads, valueDim: headDim, eps, affine: true };
  const mamba = mambaSizes(r, hidden, eps);
  return (layer) => {
    switch (layer.kind) {
      case "attn":
        return { ...layer, sizes: attention({ kind: "full" }) };
      case "window":
        return { ...layer, sizes: attention({ kind: "window", window: layer.size }) };
      case "mamba":
        return { ...layer, sizes: mamba };
      case "linear":
        return { ...layer, sizes: { ...linear, keyDim: headDim, featureMap: "elu", normalized: true } };
      case "gla":
        return {
          ...layer,
          sizes: { ...linear, keyDim: headDim / 2, gateRank: 16, gateNormalizer: 16, outputGate: true },
        };
    }
  };
}

/** What architectures' names begin with that are lists of layers. */
export const HYBRID = "hybrid:";

/**
 * The config.json of `hybrid:<list>`, at the shipped models' sizes: 0.9 M parameters for four layers.
 * Throws ConfigError for a list that is not one.
 */
export function namedHybrid(name: string): { name: string; config: Config } {
  const layers = parseLayers(name.slice(HYBRID.length), JSON.stringify(name));
  const list = formatLayers(layers);
  return {
    name: `${HYBRID}${list}`,
    config: {
      model_type: "hybrid",
      layers: list.split("+"),
      vocab_size: 256,
      hidden_size: 128,
      intermediate_size: 256,
      num_attention_heads: 4,
    },
  };
}
