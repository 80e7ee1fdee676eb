import type { Config } from "../models/config.ts";
import {
  glaConfig,
  linearAttentionConfig,
  mambaConfig,
  rnnConfig,
  transformerConfig,
} from "../models/configs.ts";
import { hybridConfig, jambaConfig, type Mixer } from "../models/hybridConfig.ts";
import { layerWord } from "../models/layerList.ts";
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

/** One layer of a hybrid. */
function hybridLayer(mixer: Mixer): Layers {
  switch (mixer.kind) {
    case "attn":
    case "window": {
      const { heads, kvHeads, headDim, pattern } = mixer.sizes;
      return { kind: "attention", layers: 1, heads, kvHeads, headDim, pattern };
    }
    case "mamba": {
      const { inner, state, conv } = mixer.sizes;
      return { kind: "mamba", layers: 1, inner, stateSize: state, convColumns: conv - 1 };
    }
    case "linear":
    case "gla": {
      const { kvHeads, keyDim, valueDim } = mixer.sizes;
      const normaliser = mixer.kind === "linear" && mixer.sizes.normalized;
      return { kind: "linear", layers: 1, heads: kvHeads, keyDim, valueDim, normaliser };
    }
  }
}

/** Layers of one kind in one group. */
function hybridLayers(mixers: readonly Mixer[]): Layers[] {
  const groups = new Map<string, Layers>();
  for (const mixer of mixers) {
    const group = groups.get(layerWord(mixer));
    if (group) group.layers++;
    else groups.set(layerWord(mixer), hybridLayer(mixer));
  }
  return [...groups.values()];
}

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
    jamba: (config) => hybridLayers(jambaConfig(config).layers),
    hybrid: (config) => hybridLayers(hybridConfig(config).layers),
  }),
);

/** What the closed formulas need of a config.json; null for a family that they do not know. */
export function layersOf(config: Config): Layers[] | null {
  const describe = families.get(config.model_type);
  return describe ? describe(config) : null;
}
