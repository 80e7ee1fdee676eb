// Our models in whole-tensor operations, one list for every peer: a runtime implements Ops with the best that it has, and
// a model is run by calling them in order. V is a runtime's value: a tensor, or a name in a graph. One stream.
//
//   T tokens that are fed   D model width   H query heads   K key and value heads

import type { ReadWeight } from "../../engine/model.ts";
import { MissingTensorError } from "../../models/checkpoint.ts";
import type {
  AttentionSizes,
  GlaConfig,
  GlaSizes,
  LinearAttentionConfig,
  LinearAttentionSizes,
  MambaConfig,
  MambaSizes,
  RnnConfig,
  TransformerConfig,
} from "../../models/configs.ts";
import type { DecoderConfig } from "../../models/decoder.ts";
import type { HybridConfig } from "../../models/hybridConfig.ts";
import type { openConfig } from "../../models/load.ts";
import { PEER_NMSE, type PeerModel, Unsupported } from "./peer.ts";

/** A tensor of the checkpoint, by its own name and shape. */
export interface Stored {
  name: string;
  shape: readonly number[];
  /** A name that older files have for it. */
  otherwise?: string;
}

export interface CellWeights {
  /** [G H, inputs], [G H, H], [G H], [G H]: PyTorch's order of gates (GRU: r, z, n; LSTM: i, f, g, o). */
  input: Stored;
  hidden: Stored;
  inputBias: Stored;
  hiddenBias: Stored;
}

export interface CellSizes {
  cell: RnnConfig["cell"];
  inputs: number;
  hidden: number;
}

/**
 * Matrices are [out, in], as PyTorch stores them; values are [T, columns]. What carries something from token to token is
 * called with a name of its own, `at`.
 */
export interface Ops<V> {
  /** Rows of the table for the tokens: [T, D]. */
  embedding(table: Stored): V;
  /** x W^T, plus a bias. */
  linear(x: V, w: Stored, bias?: Stored): V;
  /** Of each row, or of each of `groups` parts of it by itself; the weight has a part's columns. */
  rmsNorm(x: V, columns: number, eps: number, weight?: Stored, groups?: number): V;
  add(a: V, b: V): V;
  multiply(a: V, b: V): V;
  silu(x: V): V;
  softplus(x: V): V;
  /** log(sigmoid(x)) / tau. */
  logDecay(x: V, tau: number): V;
  /** Parts of the columns, in order. */
  split(x: V, columns: readonly number[]): V[];
  /** The last row: [1, columns]. */
  last(x: V): V;
  /** Softmax attention over all that came before: q [T, H headDim], k and v [T, K headDim]; q and k not yet turned. */
  attention(at: string, q: V, k: V, v: V, sizes: AttentionSizes): V;
  /** A layer of PyTorch's nn.RNN (tanh), nn.GRU or nn.LSTM: [T, hidden]. */
  recurrent(at: string, x: V, weights: CellWeights, sizes: CellSizes): V;
  /**
   * S = diag(exp(logDecay)) S + f(k) v^T, o = Dk^-1/2 S^T f(q); where `normalized`, o / (f(q) . sum of f(k) * Dk^-1/2 + 1e-10).
   * q [T, heads Dk], k and logDecay [T, kvHeads Dk], v [T, kvHeads Dv]: [T, heads Dv].
   */
  linearAttention(
    at: string,
    q: V,
    k: V,
    v: V,
    logDecay: V | null,
    sizes: LinearSizes & { featureMap: LinearAttentionSizes["featureMap"]; normalized: boolean },
  ): V;
  /** silu of a causal convolution of each column by itself: the weight is [channels, 1, columns]. */
  causalConv(at: string, x: V, weight: Stored, bias: Stored | null, channels: number, columns: number): V;
  /**
   * h = exp(dt A) h + dt B u, y = C . h + D u, with A = -exp(aLog): u and dt [T, E], b and c [T, N], aLog [E, N], d [E].
   */
  selectiveScan(
    at: string,
    x: Record<"u" | "dt" | "b" | "c", V>,
    aLog: Stored,
    d: Stored,
    sizes: ScanSizes,
  ): V;
}

type LinearSizes = Pick<LinearAttentionSizes, "heads" | "kvHeads" | "keyDim" | "valueDim">;
export type ScanSizes = Pick<MambaSizes, "inner" | "state">;

/** The logits after the last token: [1, V]. */
export type Forward = <V>(ops: Ops<V>) => V;

/** Throws Unsupported for what no peer is given. */
export function forwardOf({ architecture, config }: ReturnType<typeof openConfig>): Forward {
  switch (architecture.name) {
    case "elman":
    case "gru":
    case "lstm":
      return rnn(config as RnnConfig);
    case "llama":
    case "mistral-window":
    // the same figures from the same weights: who holds the scores is ours to compare with ourselves
    case "materialised":
      return transformer(config as TransformerConfig);
    case "linear-attention":
      return fla(config as LinearAttentionConfig, linearMixer);
    case "gla":
      return fla(config as GlaConfig, glaMixer);
    case "mamba":
      return mamba(config as MambaConfig);
    case "jamba":
      return jamba(config as HybridConfig);
    default:
      throw new Unsupported(`${architecture.name} has no form in operators that peers have`);
  }
}

/**
 * elu(x) + 1 in f32 has steps of 2^-24 near 0, where a trained model puts many keys, and divides by their sums (see
 * kernels/featureMap.ts): an exponential that differs in its last place is felt there, and runtimes' do.
 */
const STEPS_OF_ELU = {
  nmse: 1e-4,
  reason:
    "elu + 1 has steps of 2^-24 in f32, which sums of keys feel: its exponential differs in the last place",
};

/** How near logits must come, by what a model is made of. */
export const toleranceOf = ({ config }: ReturnType<typeof openConfig>): PeerModel["tolerance"] =>
  (config as Partial<LinearAttentionConfig>).featureMap === "elu"
    ? STEPS_OF_ELU
    : { nmse: PEER_NMSE, reason: null };

/** The checkpoint's tensors that a forward names, by those names. Throws what reading throws. */
export async function readStored(
  forward: Forward,
  read: ReadWeight,
): Promise<ReadonlyMap<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const { name, shape, otherwise } of storedBy(forward)) {
    const found = await read(name, shape).catch((error: unknown) => {
      if (!otherwise || !(error instanceof MissingTensorError)) throw error;
      return read(otherwise, shape);
    });
    weights.set(name, found);
  }
  return weights;
}

/** All weights that a forward names, each once, by running it on nothing. */
export function storedBy(forward: Forward): Stored[] {
  const found = new Map<string, Stored>();
  const isStored = (x: unknown): x is Stored => typeof x === "object" && x !== null && "shape" in x;
  const note = (x: unknown): void => {
    if (isStored(x)) found.set(x.name, x);
    else if (typeof x === "object" && x !== null) for (const part of Object.values(x)) note(part);
  };
  const nothing = new Proxy({} as Ops<null>, {
    get:
      (_, name) =>
      (...all: unknown[]) => {
        note(all);
        return name === "split" ? (all[1] as unknown[]).map(() => null) : null;
      },
  });
  forward(nothing);
  return [...found.values()];
}

const matrix = (name: string, rows: number, columns: number): Stored => ({ name, shape: [rows, columns] });
const vector = (name: string, size: number): Stored => ({ name, shape: [size] });

const rnn =
  ({ cell, vocab, embedding, hidden, layers }: RnnConfig): Forward =>
  (ops) => {
    const gates = { rnn: 1, gru: 3, lstm: 4 }[cell];
    let x = ops.embedding(matrix("embedding.weight", vocab, embedding));
    for (let l = 0; l < layers; l++) {
      const inputs = l === 0 ? embedding : hidden;
      const weights: CellWeights = {
        input: matrix(`rnn.weight_ih_l${l}`, gates * hidden, inputs),
        hidden: matrix(`rnn.weight_hh_l${l}`, gates * hidden, hidden),
        inputBias: vector(`rnn.bias_ih_l${l}`, gates * hidden),
        hiddenBias: vector(`rnn.bias_hh_l${l}`, gates * hidden),
      };
      x = ops.recurrent(`layer${l}`, x, weights, { cell, inputs, hidden });
    }
    return ops.linear(ops.last(x), matrix("head.weight", vocab, hidden), vector("head.bias", vocab));
  };

/** Where a layer's mixer and MLP stand in the checkpoint. */
interface LayerNames {
  mixer: string;
  mixerNorm: string;
  mlp: string;
  mlpNorm: string;
}

/** Adds a part of n(x), its own RMSNorm, to x. */
type PartOf<C> = <V>(ops: Ops<V>, c: C, at: string, normed: V) => V;

function residual<V>(
  ops: Ops<V>,
  x: V,
  norm: string,
  { hidden, eps }: Pick<DecoderConfig, "hidden" | "eps">,
  part: (normed: V) => V,
): V {
  return ops.add(x, part(ops.rmsNorm(x, hidden, eps, vector(norm, hidden))));
}

/** Between an embedding and a head. */
const decoder =
  (
    c: DecoderConfig,
    { embeddings, norm }: { embeddings: string; norm: string },
    layers: <V>(ops: Ops<V>, x: V) => V,
  ): Forward =>
  (ops) => {
    const table = matrix(embeddings, c.vocab, c.hidden);
    const x = ops.last(layers(ops, ops.embedding(table)));
    const head = c.tied ? table : matrix("lm_head.weight", c.vocab, c.hidden);
    return ops.linear(ops.rmsNorm(x, c.hidden, c.eps, vector(norm, c.hidden)), head);
  };

const gatedMlp: PartOf<{ hidden: number; ffn: number }> = (ops, { hidden, ffn }, at, x) => {
  const gate = ops.silu(ops.linear(x, matrix(`${at}.gate_proj.weight`, ffn, hidden)));
  const up = ops.linear(x, matrix(`${at}.up_proj.weight`, ffn, hidden));
  return ops.linear(ops.multiply(gate, up), matrix(`${at}.down_proj.weight`, hidden, ffn));
};

function layer<V, C extends { hidden: number; eps: number }>(
  ops: Ops<V>,
  x: V,
  names: LayerNames,
  c: C,
  ffn: number | null,
  mixer: PartOf<C>,
): V {
  const mixed = residual(ops, x, names.mixerNorm, c, (normed) => mixer(ops, c, names.mixer, normed));
  if (ffn === null) return mixed;
  const { hidden } = c;
  return residual(ops, mixed, names.mlpNorm, c, (normed) =>
    gatedMlp(ops, { hidden, ffn }, names.mlp, normed),
  );
}

const attentionMixer: PartOf<AttentionSizes> = (ops, c, at, x) => {
  const { hidden, heads, kvHeads, headDim } = c;
  if (!["full", "materialised", "window"].includes(c.pattern.kind))
    throw new Unsupported(`${c.pattern.kind} attention has no form in operators that peers have`);
  const product = (name: string, rows: number) => ops.linear(x, matrix(`${at}.${name}.weight`, rows, hidden));
  const q = product("q_proj", heads * headDim);
  const k = product("k_proj", kvHeads * headDim);
  const v = product("v_proj", kvHeads * headDim);
  return ops.linear(ops.attention(at, q, k, v, c), matrix(`${at}.o_proj.weight`, hidden, heads * headDim));
};

const transformer = (c: TransformerConfig): Forward =>
  decoder(c, { embeddings: "model.embed_tokens.weight", norm: "model.norm.weight" }, (ops, x) => {
    let y = x;
    for (let i = 0; i < c.layers; i++) {
      const at = `model.layers.${i}`;
      const names = {
        mixer: `${at}.self_attn`,
        mixerNorm: `${at}.input_layernorm.weight`,
        mlp: `${at}.mlp`,
        mlpNorm: `${at}.post_attention_layernorm.weight`,
      };
      y = layer(ops, y, names, c, c.ffn, attentionMixer);
    }
    return y;
  });

const linearInputs = <V>(ops: Ops<V>, c: LinearSizes & { hidden: number }, at: string, x: V) => {
  const product = (name: string, rows: number) =>
    ops.linear(x, matrix(`${at}.${name}.weight`, rows, c.hidden));
  return {
    q: product("q_proj", c.heads * c.keyDim),
    k: product("k_proj", c.kvHeads * c.keyDim),
    v: product("v_proj", c.kvHeads * c.valueDim),
  };
};

/** RMSNorm of each head by itself. */
const headNorm = <V>(
  ops: Ops<V>,
  o: V,
  c: LinearSizes & { eps: number; affine: boolean },
  name: string,
  otherwise?: string,
): V => {
  const weight = { ...vector(name, c.valueDim), ...(otherwise ? { otherwise } : {}) };
  return ops.rmsNorm(o, c.valueDim, c.eps, c.affine ? weight : undefined, c.heads);
};

const outProj = <V>(ops: Ops<V>, y: V, c: LinearSizes & { hidden: number }, at: string): V =>
  ops.linear(y, matrix(`${at}.o_proj.weight`, c.hidden, c.heads * c.valueDim));

const linearMixer: PartOf<LinearAttentionSizes> = (ops, c, at, x) => {
  const { q, k, v } = linearInputs(ops, c, at, x);
  const o = ops.linearAttention(at, q, k, v, null, c);
  return outProj(ops, headNorm(ops, o, c, `${at}.norm.weight`), c, at);
};

const glaMixer: PartOf<GlaSizes> = (ops, c, at, x) => {
  const { q, k, v } = linearInputs(ops, c, at, x);
  const width = c.kvHeads * c.keyDim;
  const low = ops.linear(x, matrix(`${at}.gk_proj.0.weight`, c.gateRank, c.hidden));
  const gate = ops.linear(
    low,
    matrix(`${at}.gk_proj.1.weight`, width, c.gateRank),
    vector(`${at}.gk_proj.1.bias`, width),
  );
  const sizes = { ...c, featureMap: "identity", normalized: false } as const;
  const o = ops.linearAttention(at, q, k, v, ops.logDecay(gate, c.gateNormalizer), sizes);
  const normed = headNorm(ops, o, c, `${at}.g_norm_swish_gate.weight`, `${at}.g_norm.weight`);
  if (!c.outputGate) return outProj(ops, normed, c, at);
  const out = ops.linear(x, matrix(`${at}.g_proj.weight`, c.heads * c.valueDim, c.hidden));
  return outProj(ops, ops.multiply(normed, ops.silu(out)), c, at);
};

const fla = <C extends LinearAttentionConfig | GlaConfig>(c: C, mixer: PartOf<C>): Forward =>
  decoder(c, { embeddings: "model.embeddings.weight", norm: "model.norm.weight" }, (ops, x) => {
    let y = x;
    for (let i = 0; i < c.layers; i++) {
      const at = `model.layers.${i}`;
      const names = {
        mixer: `${at}.attn`,
        mixerNorm: `${at}.attn_norm.weight`,
        mlp: `${at}.mlp`,
        mlpNorm: `${at}.mlp_norm.weight`,
      };
      y = layer(ops, y, names, c, c.ffn, mixer);
    }
    return y;
  });

const mambaMixer: PartOf<MambaSizes> = (ops, c, at, x) => {
  const { hidden: D, inner: E, state: N, timeStepRank: R } = c;
  const [before, z] = ops.split(ops.linear(x, matrix(`${at}.in_proj.weight`, 2 * E, D)), [E, E]);
  const conv = { name: `${at}.conv1d.weight`, shape: [E, 1, c.conv] };
  const convBias = c.convBias ? vector(`${at}.conv1d.bias`, E) : null;
  const u = ops.causalConv(at, before!, conv, convBias, E, c.conv);
  const parts = ops.split(ops.linear(u, matrix(`${at}.x_proj.weight`, R + 2 * N, E)), [R, N, N]);
  const norm = c.mixerNorm;
  const [r, b, cs] = norm
    ? (["dt", "b", "c"] as const).map((name, i) => {
        const columns = i === 0 ? R : N;
        const weight = norm.weights ? vector(`${at}.${name}_layernorm.weight`, columns) : undefined;
        return ops.rmsNorm(parts[i]!, columns, norm.eps, weight);
      })
    : parts;
  const dt = ops.softplus(
    ops.linear(r!, matrix(`${at}.dt_proj.weight`, E, R), vector(`${at}.dt_proj.bias`, E)),
  );
  const aLog = matrix(`${at}.A_log`, E, N);
  const y = ops.selectiveScan(at, { u, dt, b: b!, c: cs! }, aLog, vector(`${at}.D`, E), c);
  return ops.linear(ops.multiply(y, ops.silu(z!)), matrix(`${at}.out_proj.weight`, D, E));
};

const mamba = (c: MambaConfig): Forward =>
  decoder(c, { embeddings: "backbone.embeddings.weight", norm: "backbone.norm_f.weight" }, (ops, x) => {
    let y = x;
    for (let i = 0; i < c.layers; i++) {
      const at = `backbone.layers.${i}`;
      y = residual(ops, y, `${at}.norm.weight`, c, (normed) => mambaMixer(ops, c, `${at}.mixer`, normed));
    }
    return y;
  });

const jamba = (c: HybridConfig): Forward =>
  decoder(c, { embeddings: "model.embed_tokens.weight", norm: "model.final_layernorm.weight" }, (ops, x) => {
    let y = x;
    for (const [i, mixer] of c.layers.entries()) {
      const at = `model.layers.${i}`;
      const names = {
        mixer: `${at}.${mixer.kind === "mamba" ? "mamba" : "self_attn"}`,
        mixerNorm: `${at}.input_layernorm.weight`,
        mlp: `${at}.feed_forward`,
        mlpNorm: `${at}.pre_ff_layernorm.weight`,
      };
      y =
        mixer.kind === "mamba"
          ? layer(ops, y, names, mixer.sizes, c.ffn, mambaMixer)
          : layer(ops, y, names, mixer.sizes as AttentionSizes, c.ffn, attentionMixer);
    }
    return y;
  });
