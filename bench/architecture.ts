import type { Config } from "../models/config.ts";
import {
  glaConfig,
  linearAttentionConfig,
  mambaConfig,
  rnnConfig,
  transformerConfig,
} from "../models/configs.ts";
import type { Layers } from "./closed.ts";

/** Layers by kind: a hybrid has several. */
type Describe = (config: Config) => Layers[];

const recurrent: Describe = (config) => {
  const { cell, layers, hidden } = rnnConfig(config);
  return [{ kind: cell === "rnn" ? "elman" : cell, layers, hidden }];
};

const transformer: Describe = (config) => {
  const { layers, heads, kvHeads, headDim, pattern } = transformerConfig(config);
  return [{ kind: "attention", layers, heads, kvHeads, headDim, pattern }];
};

// One convolution column fewer than the kernel is wide: the newest is the token in hand (DESIGN section 3).
const mamba: Describe = (config) => {
  const { layers, inner, state, conv } = mambaConfig(config);
  return [{ kind: "mamba", layers, inner, stateSize: state, convColumns: conv - 1 }];
};

// Query heads that share keys and values share their state.
const linearAttention: Describe = (config) => {
  const { layers, kvHeads, keyDim, valueDim, normalized } = linearAttentionConfig(config);
  return [{ kind: "linear", layers, heads: kvHeads, keyDim, valueDim, normaliser: normalized }];
};

const gla: Describe = (config) => {
  const { layers, kvHeads, keyDim, valueDim } = glaConfig(config);
  return [{ kind: "linear", layers, heads: kvHeads, keyDim, valueDim, normaliser: false }];
};

const families = new Map<unknown, Describe>(
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
  }),
);

/** What the closed formulas need of a config.json; null for a family that they do not know. */
export function layersOf(config: Config): Layers[] | null {
  const describe = families.get(config.model_type);
  return describe ? describe(config) : null;
}
