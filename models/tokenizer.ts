// Text to token ids and back: tokenizer.json where a folder has one, else bytes where the vocabulary is 256.

import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import * as v from "valibot";
import { readJson } from "./checkpoint.ts";
import type { Source } from "./source.ts";

/** Text that cannot be tokenised, or an id outside the vocabulary. */
export class TokenizerError extends Error {
  override name = "TokenizerError";
}

export interface Tokenizer {
  /** Ids below the model's vocabulary, with the special tokens that the folder's tokenizer puts around a text. */
  encode(text: string): number[];
  /** Bytes that are not UTF-8 become U+FFFD. Special tokens are left out. */
  decode(ids: Iterable<number>): string;
  /** Decodes a stream token by token: what it returns, joined, is what `decode` makes of all ids. */
  stream(): TextStream;
}

export interface TextStream {
  /** The text that this token completes: empty while a character still lacks bytes. */
  push(id: number): string;
  /** What was held back. */
  end(): string;
}

/** Throws unless every id is a token of the vocabulary: on the GPU, one past it would read another row. */
export function checkIds(ids: Iterable<number>, vocab: number): void {
  let at = 0;
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= vocab)
      throw new TokenizerError(`token ${at} is ${id}; the vocabulary holds ids 0 to ${vocab - 1}`);
    at++;
  }
}

/** A token is a byte. */
export function byteTokenizer(): Tokenizer {
  const decoder = (): TextDecoder => new TextDecoder("utf-8", { ignoreBOM: true });
  const bytes = (ids: Iterable<number>): Uint8Array => {
    const list = [...ids];
    checkIds(list, 256);
    return Uint8Array.from(list);
  };
  return {
    encode: (text) => Array.from(new TextEncoder().encode(text)),
    decode: (ids) => decoder().decode(bytes(ids)),
    stream() {
      const held = decoder();
      return {
        push: (id) => held.decode(bytes([id]), { stream: true }),
        end: () => held.decode(),
      };
    },
  };
}

const Json = v.record(v.string(), v.unknown());

/** The tokenizer of a folder whose model has `vocab` tokens. */
export async function openTokenizer(source: Source, vocab: number): Promise<Tokenizer> {
  if ((await source.size("tokenizer.json")) === null) {
    if (vocab === 256) return byteTokenizer();
    throw new TokenizerError(
      `${source.name} holds no tokenizer.json and its vocabulary is ${vocab}, not 256 bytes: it takes token ids, not text`,
    );
  }
  const tokenizer = await readJson(source, "tokenizer.json", Json, "an object");
  const options =
    (await source.size("tokenizer_config.json")) === null
      ? {}
      : await readJson(source, "tokenizer_config.json", Json, "an object");
  let inner: HuggingFaceTokenizer;
  try {
    inner = new HuggingFaceTokenizer(tokenizer, options);
  } catch (cause) {
    throw new TokenizerError(
      `tokenizer.json in ${source.name} is of a kind that @huggingface/tokenizers cannot build (${(cause as Error).message})`,
      { cause },
    );
  }
  const text = (ids: number[]): string =>
    ids.length === 0
      ? ""
      : inner.decode(ids, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  return {
    encode(prompt) {
      const { ids } = inner.encode(prompt);
      checkIds(ids, vocab);
      return ids;
    },
    decode: (ids) => text([...ids]),
    stream: () => windowed(text),
  };
}

/** A character is at most 4 tokens; a stream that never becomes valid text is not held back for ever. */
const HELD_TOKENS = 16;

/**
 * Decoding is not additive: a token may hold part of a character, and a first token loses its leading space. So new
 * tokens are decoded together with those last shown, and what they add is what is new.
 */
function windowed(text: (ids: number[]) => string): TextStream {
  let ids: number[] = [];
  let shownIds = 0;
  let shown = "";
  return {
    push(id) {
      ids.push(id);
      const whole = text(ids);
      const partial = whole.endsWith("\uFFFD") && ids.length - shownIds < HELD_TOKENS;
      if (partial || whole.length <= shown.length) return "";
      const fresh = whole.slice(shown.length);
      ids = ids.slice(shownIds);
      shownIds = ids.length;
      shown = text(ids);
      return fresh;
    },
    end() {
      const rest = text(ids).slice(shown.length);
      ids = [];
      shownIds = 0;
      shown = "";
      return rest;
    },
  };
}
