/**
 * The literature's closed formulas: bytes that an architecture needs by its mathematics alone, with no padding,
 * no pages, no twins and no scratch. What the engine asks for beyond them is the row's `overhead_pct`.
 *
 * Letters: L layers, N tokens in the context, b bytes an element, B streams.
 */

/** One kind of layer, repeated. A hybrid is a list of several. */
export type Layers =
  | {
      kind: "attention";
      layers: number;
      /** Query heads: they matter to the scores only. */
      heads: number;
      kvHeads: number;
      headDim: number;
      /** Tokens that a query sees, itself included; null where it sees all. */
      window: number | null;
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
 * Bytes of keys and values: 2 * L * kvHeads * headDim * min(N, window) * b
 * (Kwon et al., arXiv 2309.06180, section 3; window: Jiang et al., arXiv 2310.06825, section 2).
 */
export function closedKv({ layers }: Architecture, size: Size): number {
  return total(layers, size, (group) =>
    group.kind === "attention" ? 2 * group.kvHeads * group.headDim * seen(group.window, size.tokens) : 0,
  );
}

/**
 * Bytes of the largest layer's score matrix, were it materialised: heads * queries * min(N, window) * b
 * (the N x N matrix of Dao et al., arXiv 2205.14135, section 2.2). Layers reuse it, and tiled attention never
 * holds it: it says what was avoided.
 */
export function closedScores({ layers }: Architecture, size: Size & { queries: number }): number {
  const oneLayer = layers.map((group) =>
    group.kind === "attention" ? group.heads * size.queries * seen(group.window, size.tokens) : 0,
  );
  return Math.max(0, ...oneLayer) * size.elementBytes * (size.streams ?? 1);
}

/** The four closed fields of a row. `queries` is how many tokens one forward takes: the prompt's, or 1. */
export function closedFields(
  architecture: Architecture,
  size: Size & { queries: number; weightBytes: number },
): { closed_weights: number; closed_state: number; closed_kv: number; closed_scores: number } {
  return {
    closed_weights: closedWeights(architecture, size.weightBytes),
    closed_state: closedState(architecture, size),
    closed_kv: closedKv(architecture, size),
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

const seen = (window: number | null, tokens: number): number => Math.min(tokens, window ?? tokens);
