// What prompts and depths are filled with: the shipped text where the model's tokens can spell it, else seeded ids.

import type { Model } from "../models/engine.ts";
import { TokenizerError } from "../models/tokenizer.ts";

export interface Fill {
  kind: "text" | "random";
  /** The first `count` tokens of it, from token `from` on; past its end it starts again. */
  ids(count: number, from?: number): number[];
}

/** Tokens of one stream that are handed over at once. */
const PIECE_TOKENS = 2 ** 16;

/**
 * `count` tokens in pieces of whole chunks, `chunks` of them where that is said: a list of a long context's ids would not
 * fit into JavaScript's memory.
 */
export function* pieces(
  count: number,
  chunk: number,
  chunks = Math.max(1, Math.floor(PIECE_TOKENS / chunk)),
): Generator<number, void, void> {
  const most = chunks * chunk;
  for (let left = count; left > 0; left -= most) yield Math.min(left, most);
}

/** A token of any tokenizer is seldom longer: enough text for `tokens` of them is found at the first try. */
const CHARACTERS_A_TOKEN = 8;

/** `tokens`: as many as will ever be asked for. */
export async function fillFor(model: Model, text: string, tokens: number, seed: number): Promise<Fill> {
  const [kind, ids] = await encode(model, text, tokens).then(
    (ids) => ["text", ids] as const,
    (error: unknown) => {
      if (!(error instanceof TokenizerError)) throw error;
      return ["random", randomIds(Math.min(tokens, 2 ** 16), model.vocabulary, seed)] as const;
    },
  );
  return {
    kind,
    ids: (count, from = 0) => Array.from({ length: count }, (_, i) => ids[(from + i) % ids.length]!),
  };
}

/** Tokens of the text: `tokens` of them or more, where it has as many. */
export async function encode(model: Model, text: string, tokens: number): Promise<number[]> {
  const tokenizer = await model.tokenizer();
  const some = tokenizer.encode(text.slice(0, CHARACTERS_A_TOKEN * tokens));
  return some.length >= tokens ? some : tokenizer.encode(text);
}

/** Uniform. */
export function randomIds(count: number, vocabulary: number, seed: number): number[] {
  let state = seed >>> 0;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * vocabulary);
  });
}
