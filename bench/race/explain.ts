// What a family carries from token to token, in a sentence and a formula with this model's numbers put in.

import { closedKv, closedState, type Layers } from "../closed.ts";
import { formatCount, shortBytes } from "../units.ts";

export interface Explanation {
  /** What the state is. */
  what: string;
  /** The formula in words, the same with numbers, and its value at the context asked for. */
  formula: string;
  numbers: string;
  value: string;
  /** What a token more costs. */
  more: string;
}

const BYTES = 4;

/** One explanation for each kind of layer. Bytes are those of f32, by the literature's formulas (closed.ts). */
export function explain(layers: readonly Layers[], tokens: number, streams = 1): Explanation[] {
  return layers.map((group) => {
    const own = { layers: [group] };
    const at = (n: number) => {
      const size = { tokens: n, elementBytes: BYTES, streams };
      return closedKv(own, size) + closedState({ parameters: 0, ...own }, size);
    };
    const grows = at(tokens + 1) - at(tokens);
    const { what, formula, numbers } = sentences(group, tokens);
    const many = streams > 1 ? ` × ${streams} streams` : "";
    return {
      what,
      formula,
      numbers: numbers + many,
      value: shortBytes(at(tokens)),
      more: grows === 0 ? "A token more costs nothing." : `A token more costs ${shortBytes(grows)}.`,
    };
  });
}

function sentences(group: Layers, tokens: number): Pick<Explanation, "what" | "formula" | "numbers"> {
  const L = `${group.layers} ${group.layers === 1 ? "layer" : "layers"}`;
  const n = formatCount;
  switch (group.kind) {
    case "attention": {
      const { kvHeads, headDim, pattern } = group;
      const each = `2 × ${L} × ${kvHeads} heads × ${headDim} numbers × ${BYTES} B`;
      const formula = "2 × layers × key heads × head width × bytes × tokens kept";
      const keeps = (kept: number, what: string) => ({
        what,
        formula,
        numbers: `${each} × ${n(kept)} tokens`,
      });
      switch (pattern.kind) {
        case "full":
          return keeps(
            tokens,
            "Keeps the key and the value of every token: nothing is forgotten, so nothing can be thrown away.",
          );
        case "materialised":
          return keeps(
            tokens,
            "Keeps the key and the value of every token, and writes the whole matrix of scores to memory besides: as textbooks draw attention.",
          );
        case "window":
          return keeps(
            Math.min(tokens, pattern.window),
            `Keeps the keys and values of the last ${n(pattern.window)} tokens in a ring: the oldest is written over.`,
          );
        case "sinks":
          return keeps(
            Math.min(tokens, pattern.sinks + pattern.window),
            `Keeps the first ${pattern.sinks} tokens for ever and the last ${pattern.window}: what lies between is gone.`,
          );
        case "local":
          return keeps(
            tokens,
            `Keeps every key and value, but looks at the last ${pattern.window} only: less work, not less memory.`,
          );
        case "strided":
          return keeps(
            tokens,
            `Keeps every key and value, but looks at the last ${pattern.stride} and at every ${pattern.stride}th before them.`,
          );
      }
      break;
    }
    case "linear": {
      const { heads, keyDim, valueDim, normaliser } = group;
      return {
        what: `Adds every key-value pair into one matrix a head${normaliser ? ", and every key into a normaliser" : " that forgets a little with each token"}: the matrix stays as large as it is.`,
        formula: `layers × heads × key width × ${normaliser ? "(value width + 1)" : "value width"} × bytes`,
        numbers: `${L} × ${heads} heads × ${keyDim} × ${normaliser ? `(${valueDim} + 1)` : valueDim} × ${BYTES} B`,
      };
    }
    case "mamba": {
      const { inner, stateSize, convColumns } = group;
      return {
        what: "Each channel keeps a few numbers that decay at a pace the token itself chooses, and the last inputs of a short convolution.",
        formula: "layers × channels × (states + convolution columns) × bytes",
        numbers: `${L} × ${n(inner)} channels × (${stateSize} + ${convColumns}) × ${BYTES} B`,
      };
    }
    case "lstm":
      return {
        what: "Two vectors a layer, the hidden state and the cell: all that was read is folded into them.",
        formula: "2 × layers × width × bytes",
        numbers: `2 × ${L} × ${group.hidden} numbers × ${BYTES} B`,
      };
    case "gru":
    case "elman":
      return {
        what: "One vector a layer: each token is folded into it, whatever came before.",
        formula: "layers × width × bytes",
        numbers: `${L} × ${group.hidden} numbers × ${BYTES} B`,
      };
  }
}
