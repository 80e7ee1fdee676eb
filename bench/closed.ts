/**
 * The literature's closed formulas: bytes that an architecture needs by its mathematics alone, with no padding,
 * no pages, no twins and no scratch. What the engine asks for beyond them is the row's `overhead_pct`.
 *
 * Letters: L layers, N tokens in the context, b bytes an element, B streams, W tokens of a window, S sinks.
 */

import type { Pattern } from "../models/configs.ts";

/** One kind of layer, repeated. A hybrid is a list of several. */
export type Layers =
  | {
      kind: "attention";
      layers: number;
      /** Query heads: they matter to scores and pairs only. */
      heads: number;
      kvHeads: number;
      headDim: number;
      pattern: Pattern;
    }
  | {
      kind: "linear";
      layers: number;
      /** Heads that carry a state. */
      heads: number;
      keyDim: number;
      valueDim: number;
      /** True where the sum of keys is carried too (the denominator of fla's linear_attn with norm_feature_map). */
      normaliser: boolean;
    }
  | {
      kind: "mamba";
      layers: number;
      /** d_inner. */
      inner: number;
      stateSize: number;
      /** Columns of the convolution that are stored: d_conv - 1 in llama.cpp and here, d_conv in mamba_ssm. */
      convColumns: number;
    }
  | { kind: "elman" | "gru" | "lstm"; layers: number; hidden: number };

export interface Architecture {
  /** Weights, a tied tensor counted once. */
  parameters: number;
  layers: Layers[];
}

export interface Size {
  /** Tokens in each stream's context (N). */
  tokens: number;
  /** Bytes an element of keys, values and state (b). */
  elementBytes: number;
  /** Independent streams (B); 1 when left out. */
  streams?: number;
}

/** Bytes of weights: parameters * b. */
export function closedWeights({ parameters }: Architecture, elementBytes: number): number {
  return parameters * elementBytes;
}

/**
 * Bytes carried from token to token whatever the length.
 * - Elman, GRU: L * hidden * b; LSTM twice that, h and c (Hochreiter and Schmidhuber 1997; torch.nn.LSTM).
 * - Linear attention, GLA: L * heads * keyDim * valueDim * b, plus L * heads * keyDim * b for a normaliser
 *   (Katharopoulos et al., arXiv 2006.16236, eq. 18-20; Yang et al., arXiv 2312.06635).
 * - Mamba: L * d_inner * (d_state + convolution columns) * b (Gu and Dao, arXiv 2312.00752; inference cache of
 *   mamba_ssm; llama.cpp's n_embd_k_s and n_embd_v_s).
 */
export function closedState({ layers }: Architecture, size: Size): number {
  return total(layers, size, (group) => {
    switch (group.kind) {
      case "attention":
        return 0;
      case "linear":
        return group.heads * group.keyDim * (group.valueDim + (group.normaliser ? 1 : 0));
      case "mamba":
        return group.inner * (group.stateSize + group.convColumns);
      case "lstm":
        return 2 * group.hidden;
      case "gru":
      case "elman":
        return group.hidden;
    }
  });
}

/**
 * Bytes of keys and values: 2 * L * kvHeads * headDim * n * b, with n the tokens kept
 * (Kwon et al., arXiv 2309.06180, section 3): min(N, W) in a window (Jiang et al., arXiv 2310.06825, section 2),
 * min(N, S + W) with sinks (Xiao et al., arXiv 2309.17453, section 3.2), else N: local and strided attention choose
 * which keys a query looks at, not which are kept (Child et al., arXiv 1904.10509, section 4).
 */
export function closedKv({ layers }: Pick<Architecture, "layers">, size: Size): number {
  return total(layers, size, (group) =>
    group.kind === "attention" ? 2 * group.kvHeads * group.headDim * kept(group.pattern, size.tokens) : 0,
  );
}

/**
 * Bytes of the largest layer's score matrix: heads * queries * keys * b (the N x N matrix of Dao et al., arXiv
 * 2205.14135, section 2.2). Layers reuse it. Where it is materialised, N x N of it are held, whatever is asked at a
 * time; elsewhere tiled attention never holds it, and `queries` times the most keys that one sees say what was avoided.
 */
export function closedScores({ layers }: Architecture, size: Size & { queries: number }): number {
  const { tokens, queries, elementBytes, streams = 1 } = size;
  const oneLayer = layers.map((group) => {
    if (group.kind !== "attention") return 0;
    const { heads, pattern } = group;
    const rows = pattern.kind === "materialised" ? tokens : queries;
    return tokens === 0 ? 0 : heads * rows * seen(pattern, tokens - 1);
  });
  return Math.max(0, ...oneLayer) * elementBytes * streams;
}

/**
 * Pairs of query and key that are scored when each stream takes `tokens` tokens after `depth` others: L * heads * B *
 * the sum over the queries of what each sees. Masked pairs that a kernel computes and throws away are not counted.
 */
export function closedPairs(
  { layers }: Pick<Architecture, "layers">,
  { depth, tokens, streams = 1 }: { depth: number; tokens: number; streams?: number },
): number {
  return layers.reduce(
    (sum, group) =>
      group.kind === "attention"
        ? sum + group.layers * group.heads * streams * seenBetween(group.pattern, depth, depth + tokens)
        : sum,
    0,
  );
}

/**
 * The four closed fields of a row. `queries` is how many tokens one forward takes: the prompt's, or 1; `elementBytes` is of
 * state and scores, `cacheBytes` of keys and values.
 */
export function closedFields(
  architecture: Architecture,
  size: Size & { queries: number; weightBytes: number; cacheBytes: number },
): { closed_weights: number; closed_state: number; closed_kv: number; closed_scores: number } {
  return {
    closed_weights: closedWeights(architecture, size.weightBytes),
    closed_state: closedState(architecture, size),
    closed_kv: closedKv(architecture, { ...size, elementBytes: size.cacheBytes }),
    closed_scores: closedScores(architecture, size),
  };
}

function total(
  layers: Layers[],
  { elementBytes, streams = 1 }: Size,
  each: (group: Layers) => number,
): number {
  return layers.reduce((sum, group) => sum + group.layers * each(group), 0) * elementBytes * streams;
}

/** Is a layer's score matrix held, and not only avoided? */
export const holdsScores = (layers: readonly Layers[]): boolean =>
  layers.some((group) => group.kind === "attention" && group.pattern.kind === "materialised");

/** Tokens whose keys and values are kept, of the first N. */
function kept(pattern: Pattern, N: number): number {
  if (pattern.kind === "window") return Math.min(N, pattern.window);
  if (pattern.kind === "sinks") return Math.min(N, pattern.sinks + pattern.window);
  return N;
}

/** Keys that the query at a position (the first is 0) sees, its own included. */
const seen = (pattern: Pattern, position: number): number => seenBetween(pattern, position, position + 1);

/** The sum of what the queries at positions from <= p < to see. */
function seenBetween(pattern: Pattern, from: number, to: number): number {
  switch (pattern.kind) {
    case "full":
    case "materialised":
      return atMost(Number.POSITIVE_INFINITY, from, to);
    case "window":
    case "local":
      return atMost(pattern.window, from, to);
    case "sinks":
      return atMost(pattern.sinks + pattern.window, from, to);
    case "strided": {
      // the last `stride` tokens, and every one that is stride, 2 stride, ... before the query
      const { stride } = pattern;
      return atMost(stride, from, to) + multiples(stride, to) - multiples(stride, from);
    }
  }
}

/** The sum of min(p + 1, most) over from <= p < to. */
function atMost(most: number, from: number, to: number): number {
  const end = Math.min(to, Math.max(from, most));
  const growing = ((end - from) * (from + end + 1)) / 2;
  return end === to ? growing : growing + (to - end) * most;
}

/** The sum of floor(p / s) over 0 <= p < m. */
function multiples(s: number, m: number): number {
  const q = Math.floor(m / s);
  return (s * q * (q - 1)) / 2 + q * (m % s);
}
