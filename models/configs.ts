// The families' configs: what each reads, what it requires, what it knows to be harmless. Defaults are those of
// the library that owns the format (transformers 5, flash-linear-attention 0.5); the sizes themselves must be stated.

import type { Pattern } from "../kernels/attention/pattern.ts";
import { type Config, type ConfigReader, readConfig, SIZE_LIMIT } from "./config.ts";
import type { DecoderConfig } from "./decoder.ts";

export type { Pattern };

/** Rows of an embedding. */
export const VOCAB = { max: 1 << 22 };
export const LAYERS = { max: 4096 };
/** Tokens of a window. */
export const WINDOW = { max: 1 << 30 };

export interface RnnConfig {
  cell: "rnn" | "gru" | "lstm";
  /** V: tokens. */
  vocab: number;
  /** E: the embedding's width, the first layer's input. */
  embedding: number;
  /** H: each layer's state. */
  hidden: number;
  /** L */
  layers: number;
}

/** PyTorch's nn.RNN (tanh), nn.GRU and nn.LSTM between an Embedding and a Linear. */
export const rnnConfig = (config: Config): RnnConfig =>
  readConfig(config, ["rnn", "gru", "lstm"], (r, cell) => {
    r.only("bidirectional", [false]);
    r.only("proj_size", [0]);
    r.only("bias", [true]);
    r.only("nonlinearity", ["tanh"]);
    r.only("tie_word_embeddings", [false]);
    r.harmless("batch_first", "reference");
    return {
      cell,
      vocab: r.positive("vocab_size", undefined, VOCAB),
      embedding: r.positive("embedding_size"),
      hidden: r.positive("hidden_size"),
      layers: r.positive("num_layers", undefined, LAYERS),
    };
  });

/** Softmax attention. */
export interface AttentionSizes {
  /** D: the residual stream's width. */
  hidden: number;
  /** Query heads. */
  heads: number;
  /** Key and value heads: each serves heads / kvHeads query heads. */
  kvHeads: number;
  /** Width of a head; heads * headDim need not be `hidden`. */
  headDim: number;
  /** Epsilon of the RMSNorm before it. */
  eps: number;
  /** Base of the rotary angles; null where there is no positional encoding. */
  ropeTheta: number | null;
  pattern: Pattern;
}

export interface TransformerConfig extends AttentionSizes, DecoderConfig {
  /** L */
  layers: number;
  /** F: the gated MLP's inner width. */
  ffn: number;
  ropeTheta: number;
}

/** transformers' `llama` and `mistral`. */
export const transformerConfig = (config: Config): TransformerConfig =>
  readConfig(config, ["llama", "mistral"], (r, family) => {
    const hidden = r.positive("hidden_size");
    // MistralConfig's default is 8 heads, LlamaConfig's is all of them; a wrong guess cannot pass k_proj's shape.
    const kvHeads = (heads: number) => (family === "mistral" ? Math.min(8, heads) : heads);
    r.only("hidden_act", ["silu", "swish"]);
    r.only("pretraining_tp", [1]);
    r.only("rope_interleaved", [false]);
    r.only("partial_rotary_factor", [1]);
    r.only("attention_bias", [false]);
    r.only("mlp_bias", [false]);
    r.harmless("is_llama_config");
    return {
      vocab: r.positive("vocab_size", undefined, VOCAB),
      hidden,
      layers: r.positive("num_hidden_layers", undefined, LAYERS),
      ...headSizes(r, hidden, kvHeads),
      ffn: r.positive("intermediate_size"),
      eps: r.number("rms_norm_eps", 1e-6),
      ropeTheta: ropeTheta(r),
      pattern: pattern(r, family === "mistral" ? slidingWindow(r, config) : null),
      tied: r.boolean("tie_word_embeddings", false),
    };
  });

/** Heads of attention; `kvHeadsOf` says how many are meant where `num_key_value_heads` is absent. */
export function headSizes(
  r: ConfigReader,
  hidden: number,
  kvHeadsOf: (heads: number) => number,
): Pick<AttentionSizes, "heads" | "kvHeads" | "headDim"> {
  const heads = r.positive("num_attention_heads");
  const kvHeads = r.positive("num_key_value_heads", kvHeadsOf(heads));
  const headDim = r.positive("head_dim", hidden / heads);
  r.derived("hidden_size", headDim, `a multiple of num_attention_heads (${heads}), a whole head`);
  r.derived(
    "head_dim",
    heads * headDim,
    `num_attention_heads (${heads}) * head_dim to be at most ${SIZE_LIMIT}`,
  );
  r.require(headDim % 2 === 0, "head_dim", `an even number, as heads are stored in pairs, not ${headDim}`);
  r.require(
    heads % kvHeads === 0,
    "num_key_value_heads",
    `a divisor of num_attention_heads (${heads}), not ${kvHeads}`,
  );
  return { heads, kvHeads, headDim };
}

/** Until transformers 5 `rope_theta` and `rope_scaling`, since then `rope_parameters`. */
function ropeTheta(r: ConfigReader): number {
  const theta = (reader: ConfigReader): number | null =>
    reader.raw("rope_theta") === undefined
      ? null
      : reader.number("rope_theta", undefined, { min: 1, max: 1e15 });
  const section = (reader: ConfigReader): number | null => {
    reader.only("rope_type", ["default"]);
    reader.only("type", ["default"]);
    reader.only("factor", [1]);
    reader.only("partial_rotary_factor", [1]);
    return theta(reader);
  };
  const top = theta(r);
  const scaling = r.section("rope_scaling", section);
  const parameters = r.section("rope_parameters", section);
  const base = parameters ?? scaling ?? top ?? 10_000;
  r.require(top === null || top === base, "rope_theta", `what rope_parameters says (${base})`);
  return base;
}

/** longtape's own key: the weights of a model that was trained to see everything, run to see less. */
function pattern(r: ConfigReader, window: number | null): Pattern {
  const trained: Pattern = window === null ? { kind: "full" } : { kind: "window", window };
  const given = r.section("longtape_attention", (section): Pattern => {
    const kind = section.only("pattern", ["materialised", "sinks", "local", "strided"], null);
    const tokens = (key: string) => section.positive(key, undefined, WINDOW);
    if (kind === "sinks") return { kind, sinks: tokens("sinks"), window: tokens("window") };
    if (kind === "local") return { kind, window: tokens("window") };
    if (kind === "strided") return { kind, stride: tokens("stride") };
    return { kind };
  });
  r.require(given === null || window === null, "longtape_attention", "a model without a sliding_window");
  return given ?? trained;
}

/** MistralConfig: 4,096 where the key is absent, everything where it is null. */
function slidingWindow(r: ConfigReader, config: Config): number | null {
  if (config.sliding_window === null) return null;
  return r.positive("sliding_window", 4096, WINDOW);
}

/** A Mamba mixer. */
export interface MambaSizes {
  /** D: the residual stream's width. */
  hidden: number;
  /** E: channels of the convolution and the scan. */
  inner: number;
  /** N: states of a channel. */
  state: number;
  /** Columns that the causal convolution sees, the current one included. */
  conv: number;
  /** The convolution has a bias. */
  convBias: boolean;
  /** R: rank of the time step's projection. */
  timeStepRank: number;
  /** Epsilon of the RMSNorm before the mixer. */
  eps: number;
  /** The RMSNorm on B, C and the time step: without weights in falcon_mamba, with them in jamba; null in mamba. */
  mixerNorm: { eps: number; weights: boolean } | null;
}

export interface MambaConfig extends MambaSizes, DecoderConfig {
  /** L */
  layers: number;
}

/** transformers' `mamba` and `falcon_mamba`. */
export const mambaConfig = (config: Config): MambaConfig =>
  readConfig(config, ["mamba", "falcon_mamba"], (r, family) => {
    const hidden = r.positive("hidden_size");
    const layers = r.positive("num_hidden_layers", undefined, LAYERS);
    // intermediate_size wins, as it does in transformers: falcon-mamba-7b says expand 16 and 8,192 for 4,096.
    const expanded = Math.trunc(r.number("expand", 2, { min: 0, max: 1024 }) * hidden);
    const inner = r.positive("intermediate_size", expanded);
    r.derived("expand", inner, `hidden_size * expand to be from 1 to ${SIZE_LIMIT}`);
    r.only("hidden_act", ["silu", "swish"]);
    r.only("use_bias", [false]);
    const rank = r.raw("time_step_rank") ?? "auto";
    // Left by the conversion from the original mamba-ssm checkpoints.
    r.only("d_model", [hidden]);
    r.only("d_inner", [inner]);
    r.only("n_layer", [layers]);
    r.only("rms_norm", [true]);
    r.harmless(
      "fused_add_norm",
      "pad_vocab_size_multiple",
      "residual_in_fp32",
      "use_mambapy",
      "use_falcon_mambapy",
    );
    r.harmless("use_associative_scan", "rescale_prenorm_residual");
    // These only draw the first dt_proj of a training.
    r.harmless(
      "time_step_scale",
      "time_step_min",
      "time_step_max",
      "time_step_init_scheme",
      "time_step_floor",
    );
    return {
      vocab: r.positive("vocab_size", undefined, VOCAB),
      hidden,
      layers,
      inner,
      state: r.positive("state_size", 16, { max: 1024 }),
      conv: r.positive("conv_kernel", 4, { max: 1024 }),
      convBias: r.boolean("use_conv_bias", true),
      timeStepRank: rank === "auto" ? Math.ceil(hidden / 16) : r.positive("time_step_rank"),
      eps: r.number("layer_norm_epsilon", 1e-5),
      mixerNorm: family === "falcon_mamba" ? { eps: r.number("mixer_rms_eps", 1e-6), weights: false } : null,
      tied: r.boolean("tie_word_embeddings", true),
    };
  });

/** What the mixers of fla's two formats share. */
export interface LinearSizes {
  /** D: the residual stream's width. */
  hidden: number;
  heads: number;
  /** Key and value heads: each serves heads / kvHeads query heads. */
  kvHeads: number;
  /** Width of a key's and a query's head. */
  keyDim: number;
  /** Width of a value's head. */
  valueDim: number;
  /** Epsilon of the RMSNorms before the mixer and of each head's output. */
  eps: number;
  /** The norm of each head's output has weights; the other norms always do. */
  affine: boolean;
}

export interface LinearAttentionSizes extends LinearSizes {
  /** On queries and keys; elu means elu(x) + 1. */
  featureMap: "elu" | "relu" | "identity";
  /** The output is divided by the query's product with the sum of all keys so far. */
  normalized: boolean;
}

export interface GlaSizes extends LinearSizes {
  /** Rank of the forget gate's projection. */
  gateRank: number;
  /** The gate is exp(logsigmoid(projection) / gateNormalizer). */
  gateNormalizer: number;
  /** The normed output is multiplied by swish(g_proj(x)); without it there is no g_proj. */
  outputGate: boolean;
}

/** What fla's two formats share. */
interface FlaConfig extends LinearSizes, DecoderConfig {
  /** L */
  layers: number;
  /** F: the gated MLP's inner width. */
  ffn: number;
}
export type LinearAttentionConfig = LinearAttentionSizes & FlaConfig;
export type GlaConfig = GlaSizes & FlaConfig;

/** fla's `linear_attn`. */
export const linearAttentionConfig = (config: Config): LinearAttentionConfig =>
  readConfig(config, ["linear_attn"], (r) => {
    // fla's own default, elementwise_product, has weights of its own and is not implemented.
    const featureMap = r.only("feature_map", ["elu", "relu", "identity"], "elementwise_product");
    r.only("norm_q", [false]);
    r.only("norm_k", [false]);
    r.only("output_norm", ["rmsnorm"]);
    // The three maps above have no weights, so nothing is tied.
    r.harmless("tie_feature_map_qk");
    return { ...flaConfig(r, 1), featureMap, normalized: r.boolean("norm_feature_map", false) };
  });

/** fla's `gla`. */
export const glaConfig = (config: Config): GlaConfig =>
  readConfig(config, ["gla"], (r) => {
    r.only("feature_map", [null], null);
    r.only("clamp_min", [null], null);
    r.only("use_gk", [true]);
    r.only("use_gv", [false]);
    r.only("gate_fn", ["swish", "silu"]);
    return {
      ...flaConfig(r, 0.5),
      gateRank: r.positive("gate_low_rank_dim", 16),
      // fla's model never passes this key to its layer, which divides by 16 whatever the config says.
      gateNormalizer: r.only("gate_logit_normalizer", [16]),
      outputGate: r.boolean("use_output_gate", true),
    };
  });

function flaConfig(r: ConfigReader, expandKey: number): FlaConfig {
  const hidden = r.positive("hidden_size");
  const heads = r.positive("num_heads", 4);
  const kvHeads = r.positive("num_kv_heads", heads);
  r.require(heads % kvHeads === 0, "num_kv_heads", `a divisor of num_heads (${heads})`);
  const headDim = (key: string, fallback: number): number => {
    const width = Math.trunc(hidden * r.number(key, fallback, { min: 0, max: 1024 }));
    r.derived(key, width, `hidden_size * ${key} to be from 1 to ${SIZE_LIMIT}`);
    return r.derived(
      key,
      width / heads,
      `hidden_size * ${key} (${width}) to be a multiple of num_heads (${heads})`,
    );
  };
  // fla's GatedMLP: 2/3 of ratio * hidden, rounded up to a multiple of 256.
  const ratio = r.number("hidden_ratio", 4, { min: 0, max: 1024 });
  const derived = 256 * Math.ceil(Math.trunc((hidden * ratio * 2) / 3) / 256);
  const ffn = r.positive("intermediate_size", derived);
  r.derived("hidden_ratio", ffn, `an inner width from 1 to ${SIZE_LIMIT}`);
  const eps = r.number("norm_eps", 1e-6);
  // The name of older fla, ignored by today's: harmless only where it says the same.
  r.only("rms_norm_eps", [eps]);
  r.only("hidden_act", ["swish", "silu"]);
  r.only("attn", [null], null);
  r.only("use_short_conv", [false]);
  r.harmless("conv_size", "conv_bias", "share_conv_kernel");
  // Ways to compute the same: kernels, fusions, and a loss.
  r.harmless(
    "attn_mode",
    "fuse_norm",
    "fuse_swiglu",
    "fuse_cross_entropy",
    "fuse_linear_cross_entropy",
    "use_l2warp",
  );
  return {
    vocab: r.positive("vocab_size", undefined, VOCAB),
    hidden,
    layers: r.positive("num_hidden_layers", undefined, LAYERS),
    heads,
    kvHeads,
    keyDim: headDim("expand_k", expandKey),
    valueDim: headDim("expand_v", 1),
    ffn,
    eps,
    affine: r.boolean("elementwise_affine", true),
    tied: r.boolean("tie_word_embeddings", false),
  };
}
