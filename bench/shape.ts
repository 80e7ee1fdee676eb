// How large a model is by its config.json alone: parameters by formula, and the layers that the closed formulas read.
// Families that longtape runs are read as its models read them; a few more are only counted.
//
//   V vocabulary   D width   F inner width of an MLP   H query heads   K key and value heads   d size of a head
//   I channels   N states of a channel   R rank of the time step

import { type Config, ConfigError, ConfigReader } from "../models/config.ts";
import {
  type GlaConfig,
  glaConfig,
  linearAttentionConfig,
  type MambaConfig,
  mambaConfig,
  type Pattern,
  rnnConfig,
  transformerConfig,
} from "../models/configs.ts";
import { hybridConfig, type Mixer } from "../models/hybridConfig.ts";
import { show } from "../models/source.ts";
import { layersOf } from "./architecture.ts";
import type { Architecture, Layers } from "./closed.ts";

interface Attention {
  hidden: number;
  heads: number;
  kvHeads: number;
  headDim: number;
}
type Channels = Pick<MambaConfig, "hidden" | "inner" | "state" | "conv" | "convBias" | "timeStepRank">;
type Heads = Pick<GlaConfig, "hidden" | "heads" | "kvHeads" | "keyDim" | "valueDim" | "affine">;

/** Embedding and head: V D each, once where they are tied. */
const embeddings = ({ vocab, hidden, tied }: { vocab: number; hidden: number; tied: boolean }): number =>
  (tied ? 1 : 2) * vocab * hidden;

/** q, k, v and the output: D d (2 H + 2 K). */
const projections = ({ hidden, heads, kvHeads, headDim }: Attention): number =>
  hidden * headDim * 2 * (heads + kvHeads);

const gatedMlp = (hidden: number, ffn: number): number => 3 * hidden * ffn;

/** An MLP, or several and the router that chooses among them. */
const experts = (count: number, hidden: number, ffn: number): number =>
  count * gatedMlp(hidden, ffn) + (count > 1 ? count * hidden : 0);

/** in_proj, conv, x_proj, dt_proj and its bias, A_log, D, out_proj (Gu and Dao, arXiv 2312.00752, section 3.4). */
const mambaMixer = ({ hidden: D, inner: I, state: N, conv, convBias, timeStepRank: R }: Channels): number =>
  2 * I * D + I * (conv + (convBias ? 1 : 0)) + I * (R + 2 * N) + I * (R + 1) + I * N + I + I * D;

/** Two RMSNorms a layer, and a last one. */
const norms = ({ hidden, layers }: { hidden: number; layers: number }): number => (2 * layers + 1) * hidden;

const gates = { rnn: 1, gru: 3, lstm: 4 };

function recurrent(config: Config): number {
  const { cell, vocab, embedding, hidden, layers } = rnnConfig(config);
  const inputs = embedding + (layers - 1) * hidden;
  // torch keeps two biases
  const cells = gates[cell] * hidden * (inputs + layers * (hidden + 2));
  return vocab * embedding + cells + vocab * hidden + vocab;
}

function transformer(config: Config): number {
  const c = transformerConfig(config);
  return embeddings(c) + norms(c) + c.layers * (projections(c) + gatedMlp(c.hidden, c.ffn));
}

function mamba(config: Config): number {
  const c = mambaConfig(config);
  return embeddings(c) + c.hidden + c.layers * (c.hidden + mambaMixer(c));
}

/** q, k, v, the output and the norm of its heads (arXiv 2006.16236, as fla has it). */
const linearMixer = (c: Heads): number =>
  c.hidden * (c.keyDim + c.valueDim) * (c.heads + c.kvHeads) + (c.affine ? c.valueDim : 0);

/** Linear attention, the decay's two products and bias, and the output's gate (arXiv 2312.06635, section 4.4). */
function glaMixer(c: Heads & Pick<GlaConfig, "gateRank" | "outputGate">): number {
  const keys = c.kvHeads * c.keyDim;
  const decay = c.gateRank * (c.hidden + keys) + keys;
  return linearMixer(c) + decay + (c.outputGate ? c.hidden * c.heads * c.valueDim : 0);
}

function linearAttention(config: Config): number {
  const c = linearAttentionConfig(config);
  return embeddings(c) + norms(c) + c.layers * (linearMixer(c) + gatedMlp(c.hidden, c.ffn));
}

function gla(config: Config): number {
  const c = glaConfig(config);
  return embeddings(c) + norms(c) + c.layers * (glaMixer(c) + gatedMlp(c.hidden, c.ffn));
}

/** An RMSNorm before each mixer and each MLP. */
function hybrid(config: Config): number {
  const c = hybridConfig(config);
  const mlp = c.ffn === null ? 0 : c.hidden + gatedMlp(c.hidden, c.ffn);
  const layer = (mixer: Mixer) => c.hidden + mixerOf(mixer) + mlp;
  return embeddings(c) + c.hidden + c.layers.reduce((sum, mixer) => sum + layer(mixer), 0);
}

function mixerOf(mixer: Mixer): number {
  switch (mixer.kind) {
    case "attn":
    case "window":
      return projections(mixer.sizes);
    case "mamba":
      return mambaMixer(mixer.sizes);
    case "linear":
      return linearMixer(mixer.sizes);
    case "gla":
      return glaMixer(mixer.sizes);
  }
}

/** Families that longtape runs. */
const run = new Map<unknown, (config: Config) => number>(
  Object.entries({
    rnn: recurrent,
    gru: recurrent,
    lstm: recurrent,
    llama: transformer,
    mistral: transformer,
    mamba,
    falcon_mamba: mamba,
    linear_attn: linearAttention,
    gla,
    hybrid,
  }),
);

/** Keys of a transformer, by the names that most families share. */
function attentionSizes(r: ConfigReader) {
  const hidden = r.positive("hidden_size");
  const heads = r.positive("num_attention_heads");
  const headDim = r.positive("head_dim", hidden / heads);
  r.derived("hidden_size", headDim, `a multiple of num_attention_heads (${heads}), a whole head`);
  return {
    vocab: r.positive("vocab_size", undefined, { max: 1 << 22 }),
    hidden,
    layers: r.positive("num_hidden_layers"),
    heads,
    headDim,
    tied: r.boolean("tie_word_embeddings", false),
  };
}

const full: Pattern = { kind: "full" };

const attentionLayers = (
  layers: number,
  { heads, kvHeads, headDim }: Attention,
  pattern: Pattern = full,
): Layers => ({
  kind: "attention",
  layers,
  heads,
  kvHeads,
  headDim,
  pattern,
});

/** Llama with biases on q, k and v (arXiv 2407.10671). */
function qwen2(r: ConfigReader): Architecture {
  r.only("use_sliding_window", [false]);
  const c = attentionSizes(r);
  const sizes = { ...c, kvHeads: r.positive("num_key_value_heads", c.heads) };
  const biases = (sizes.heads + 2 * sizes.kvHeads) * sizes.headDim;
  const layer = projections(sizes) + biases + gatedMlp(c.hidden, r.positive("intermediate_size"));
  return {
    parameters: embeddings(c) + norms(c) + c.layers * layer,
    layers: [attentionLayers(c.layers, sizes)],
  };
}

/** Mistral with experts for an MLP (arXiv 2401.04088). */
function mixtral(r: ConfigReader): Architecture {
  const c = attentionSizes(r);
  const sizes = { ...c, kvHeads: r.positive("num_key_value_heads", 8) };
  const count = r.positive("num_local_experts", 8);
  const layer = projections(sizes) + experts(count, c.hidden, r.positive("intermediate_size"));
  const window = r.raw("sliding_window") === undefined ? null : r.positive("sliding_window");
  const pattern: Pattern = window === null ? full : { kind: "window", window };
  return {
    parameters: embeddings(c) + norms(c) + c.layers * layer,
    layers: [attentionLayers(c.layers, sizes, pattern)],
  };
}

/** LayerNorms with biases, and a bias on every product but the head (Biderman et al., arXiv 2304.01373). */
function gptNeox(r: ConfigReader): Architecture {
  r.only("attention_bias", [true]);
  const c = attentionSizes(r);
  const sizes = { ...c, kvHeads: c.heads };
  return {
    parameters: embeddings(c) + 2 * c.hidden + c.layers * biasedLayer(sizes, r.positive("intermediate_size")),
    layers: [attentionLayers(c.layers, sizes)],
  };
}

/** Learned positions, two of them spare (Zhang et al., arXiv 2205.01068). */
function opt(r: ConfigReader): Architecture {
  const { hidden, ...c } = attentionSizes(r);
  r.only("word_embed_proj_dim", [hidden]);
  r.only("enable_bias", [true]);
  r.only("do_layer_norm_before", [true]);
  const sizes = { ...c, hidden, kvHeads: c.heads };
  const positions = (r.positive("max_position_embeddings", 2048) + 2) * hidden;
  const tied = r.boolean("tie_word_embeddings", true);
  const layers = c.layers * biasedLayer(sizes, r.positive("ffn_dim"));
  return {
    parameters: embeddings({ ...sizes, tied }) + positions + 2 * hidden + layers,
    layers: [attentionLayers(c.layers, sizes)],
  };
}

/** A layer of GPT: an MLP of two products, two LayerNorms, biases everywhere. */
function biasedLayer(sizes: Attention, ffn: number): number {
  const { hidden, heads, kvHeads, headDim } = sizes;
  const biases = (heads + 2 * kvHeads) * headDim + hidden + ffn + hidden;
  return projections(sizes) + 2 * hidden * ffn + biases + 4 * hidden;
}

/** Mamba and attention in turn, experts in some of the MLPs (Lieber et al., arXiv 2403.19887). */
function jamba(r: ConfigReader): Architecture {
  r.only("mamba_proj_bias", [false]);
  const c = attentionSizes(r);
  const sizes = { ...c, kvHeads: r.positive("num_key_value_heads", 8) };
  const rank = r.raw("mamba_dt_rank") ?? "auto";
  const state = r.positive("mamba_d_state", 16);
  const conv = r.positive("mamba_d_conv", 4);
  const inner = r.positive("mamba_expand", 2) * c.hidden;
  const timeStepRank = rank === "auto" ? Math.ceil(c.hidden / 16) : r.positive("mamba_dt_rank");
  const convBias = r.boolean("mamba_conv_bias", true);
  const every = (what: string, period: number, offset: number) => {
    const step = r.positive(`${what}_layer_period`, period);
    const first = r.number(`${what}_layer_offset`, offset, { max: step - 1 });
    r.require(Number.isInteger(first), `${what}_layer_offset`, "a whole number");
    return Array.from({ length: c.layers }, (_, i) => i % step === first);
  };
  const attends = every("attn", 8, 4);
  const routes = every("expert", 2, 1);
  const count = r.positive("num_experts", 16);
  const ffn = r.positive("intermediate_size");
  // the time step, B and C have norms of their own
  const mambaLayer =
    mambaMixer({ ...c, inner, state, conv, convBias, timeStepRank }) + timeStepRank + 2 * state;
  let parameters = embeddings(c) + norms(c);
  for (let i = 0; i < c.layers; i++) {
    parameters += attends[i] ? projections(sizes) : mambaLayer;
    parameters += experts(routes[i] ? count : 1, c.hidden, ffn);
  }
  const attending = attends.filter(Boolean).length;
  return {
    parameters,
    layers: [
      attentionLayers(attending, sizes),
      { kind: "mamba", layers: c.layers - attending, inner, stateSize: state, convColumns: conv - 1 },
    ],
  };
}

/** Families that are counted, with more keys than are read here. */
const counted = new Map<unknown, (r: ConfigReader) => Architecture>(
  Object.entries({
    qwen2,
    mixtral,
    gpt_neox: gptNeox,
    opt,
    jamba,
  }),
);

/** How far positions are turned: no matter here, and longer contexts than a model was trained on set it. */
const ANGLES = new Set(["rope_theta", "rope_scaling", "rope_parameters"]);

/** Parameters (a tied tensor counted once) and layers of a config.json. Throws ConfigError. */
export function shapeOf(config: Config): Architecture {
  const type = config.model_type;
  const count = counted.get(type);
  if (count) return count(new ConfigReader(config, String(type)));
  const parameters = run.get(type);
  const sizes = Object.fromEntries(Object.entries(config).filter(([key]) => !ANGLES.has(key)));
  const layers = layersOf(sizes);
  if (parameters && layers) return { parameters: parameters(sizes), layers };
  const known = [...run.keys(), ...counted.keys()].join(", ");
  throw new ConfigError(`config.json: model_type is ${show(type)}; there are formulas for ${known}`);
}
