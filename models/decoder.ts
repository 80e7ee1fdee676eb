// What decoder-only models are: a residual stream x that is embedded, changed by layers, normed and read out. A layer is
// a list of parts, each adding to x what it makes of n(x), its own RMSNorm: a mixer, which carries something from token
// to token, and in most families an MLP (Vaswani et al. 2017, arXiv 1706.03762, section 3.1). Which parts, in which
// order, is all that tells an architecture from another; a hybrid is a list with several kinds.
//
//   B streams   T tokens in the chunk   V vocabulary   D model width   F inner width of the MLP

import {
  type Chunk,
  defineArchitecture,
  type Tensors,
  type Tree,
  type Weight,
  weight,
} from "../engine/model.ts";
import type { Recorder } from "../engine/plan.ts";
import { rows, type Tensor, tiles } from "../engine/tensor.ts";
import { embedding } from "../kernels/embedding.ts";
import { gatedLinear } from "../kernels/gatedLinear.ts";
import { linear } from "../kernels/linear.ts";
import { autoregressive, plain, readout, stacked } from "./common.ts";

/** Where a part's weights stand in the checkpoint. */
export interface Names {
  /** Of the part's own weights. */
  prefix: string;
  /** The RMSNorm before the part: the whole name. */
  norm: string;
}

/** x += part(n(x)). */
export interface Part<W = Tree, S = Tree, X = Tree> {
  /** The same for parts of the same sizes: they share scratch. */
  name: string;
  weights: W;
  /** Weights that stand once for all parts of a model; two of one name are the same. */
  shared?: Readonly<Record<string, Weight>>;
  /** Tokens that a stream may hold at most, where the part has an end. */
  longest?: number;
  /** Of B streams. */
  state(B: number): S;
  scratch(chunk: Chunk): X;
  /** `x` is f32 [B, T, D]; `shared` the tensors of the model's shared weights. */
  run(
    m: Recorder,
    t: { w: Tensors<W>; s: Tensors<S>; x: Tensors<X> },
    stream: { cursor: Tensor; x: Tensor; shared: Readonly<Record<string, Tensor>> },
    chunk: Chunk,
  ): void;
}

/** Checks the part against the tensors that it declares, then forgets their types. */
export const definePart = <W, S, X>(part: Part<W, S, X>): Part => part as Part;

/** Of a part that carries nothing. */
const nothing = () => ({});

/** down(silu(gate n(x)) * (up n(x))): SwiGLU (Shazeer 2020, arXiv 2002.05202). */
export const gatedMlp = (
  { hidden: D, ffn: F, eps }: { hidden: number; ffn: number; eps: number },
  { prefix, norm }: Names,
): Part => {
  const gated = (name: string) => stacked(D, [[`${prefix}.${name}.weight`, F]], norm);
  return definePart({
    name: "mlp",
    weights: {
      gate: weight(tiles(F, D), gated("gate_proj")),
      up: weight(tiles(F, D), gated("up_proj")),
      down: weight(tiles(D, F), plain(`${prefix}.down_proj.weight`, D, F)),
    },
    state: nothing,
    scratch: ({ B, T }) => ({ inner: rows(B, T, F) }),
    run(m, { w, x: { inner } }, { x }, { B, T }) {
      const M = B * T;
      m.run(gatedLinear, { wGate: w.gate, wUp: w.up, x, y: inner }, { M, I: D, O: F, eps });
      m.run(linear({ residual: true }), { w: w.down, x: inner, y: x }, { M, I: F, O: D, eps: 0 });
    },
  });
};

/** What every decoder's configuration says. */
export interface DecoderConfig {
  /** V: tokens. */
  vocab: number;
  /** D: the residual stream's width. */
  hidden: number;
  /** Epsilon of every RMSNorm. */
  eps: number;
  /** The head is the embedding, and the file need not hold `lm_head.weight`. */
  tied: boolean;
}

export interface Decoder<C> {
  /** longtape's name of the architecture. */
  name: string;
  /** Names in the checkpoint of the embedding and of the final norm. */
  embeddings: string;
  norm: string;
  /** The parts of each layer, in order; no two of a layer bear one name. */
  layers(c: C): readonly (readonly Part[])[];
}

const byName = <T>(parts: readonly Part[], of: (part: Part) => T): Record<string, T> =>
  Object.fromEntries(parts.map((part) => [part.name, of(part)]));

/** The architecture that these layers make between an embedding and a head. */
export const decoder = <C extends DecoderConfig>({ name, embeddings, norm, layers }: Decoder<C>) =>
  defineArchitecture({
    name,
    vocabulary: (c: C) => c.vocab,
    width: (c) => c.hidden,
    longest: (c) =>
      Math.min(...layers(c).flatMap((parts) => parts.map(({ longest }) => longest ?? Infinity))),

    weights(c) {
      const { vocab: V, hidden: D } = c;
      const shared = layers(c).flatMap((parts) => parts.map((part) => part.shared ?? {}));
      const head = c.tied ? {} : { head: weight(tiles(V, D), plain("lm_head.weight", V, D)) };
      return {
        embeddings: weight(tiles(V, D), plain(embeddings, V, D)),
        shared: Object.assign({}, ...shared) as Record<string, Weight>,
        layers: layers(c).map((parts): Tree => byName(parts, ({ weights }) => weights)),
        norm: weight(rows(D), plain(norm, D)),
        ...(head as { head?: Weight }),
      };
    },

    state: (c, B) => ({
      layers: layers(c).map((parts): Tree => byName(parts, (part) => part.state(B))),
    }),

    scratch(c, chunk) {
      const x = rows(chunk.B, chunk.T, c.hidden);
      const parts: Tree = byName(layers(c).flat(), (part) => part.scratch(chunk));
      return { x, normed: x, parts };
    },

    forward(m, c, { w, s, x }, io, chunk) {
      const { vocab: V, hidden: D, eps } = c;
      m.run(embedding, { table: w.embeddings, tokens: io.tokens, y: x.x }, { V, D, M: chunk.B * chunk.T });
      const stream = { cursor: io.cursor, x: x.x, shared: w.shared };
      const [weights, states, scratch]: Tree[] = [w.layers, s.layers, x.parts];
      for (const [i, parts] of layers(c).entries())
        for (const { name, run } of parts)
          run(m, { w: weights[i][name], s: states[i][name], x: scratch[name] }, stream, chunk);
      const last = { weight: w.norm, eps, out: x.normed };
      readout(m, io, { hidden: x.x, head: w.head ?? w.embeddings, norm: last, V, D }, chunk);
    },

    ...autoregressive,
  });
