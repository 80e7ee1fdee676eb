import { describe, expect, test } from "vitest";
import { filesSource } from "../models/source.ts";
import {
  byteTokenizer,
  checkIds,
  openTokenizer,
  type Tokenizer,
  TokenizerError,
} from "../models/tokenizer.ts";

const TEXTS = ["", "plain", "naïve café", "日本語", "👩‍👩‍👧 family", "\uFEFFmark", "a\u0000b\r\n", "ends 👍"];
const folder = (files: Record<string, unknown>) =>
  filesSource(
    Object.entries(files).map(
      ([name, content]) => new File([typeof content === "string" ? content : JSON.stringify(content)], name),
    ),
  );

/** GPT-2's printable names of the 256 bytes. */
function byteNames(): string[] {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
}
const names = byteNames();
/** A byte-level BPE: 256 bytes, two merges, two special tokens. */
const bpe = {
  version: "1.0",
  added_tokens: ["<s>", "</s>"].map((content, i) => ({
    id: 258 + i,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  })),
  normalizer: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [],
    special_tokens: { "<s>": { id: "<s>", ids: [258], tokens: ["<s>"] } },
  },
  decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
  model: {
    type: "BPE",
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    vocab: { ...Object.fromEntries(names.map((name, b) => [name, b])), pl: 256, ai: 257 },
    merges: ["p l", "a i"],
  },
};
/** As Llama 2's: words with a leading blank, bytes spelled out where the vocabulary ends. */
const sentencepiece = {
  ...bpe,
  pre_tokenizer: null,
  normalizer: {
    type: "Sequence",
    normalizers: [
      { type: "Prepend", prepend: "▁" },
      { type: "Replace", pattern: { String: " " }, content: "▁" },
    ],
  },
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
  model: {
    ...bpe.model,
    byte_fallback: true,
    fuse_unk: true,
    unk_token: "<0x00>",
    vocab: {
      ...Object.fromEntries(
        Array.from({ length: 256 }, (_, b) => [`<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`, b]),
      ),
      "▁": 256,
      a: 257,
      b: 260,
      "▁a": 261,
    },
    merges: ["▁ a"],
  },
};

/** Streaming gives the same text as decoding at once, whatever the boundaries. */
function streams(tokenizer: Tokenizer, ids: number[]): void {
  const stream = tokenizer.stream();
  const pieces = ids.map((id) => stream.push(id));
  pieces.push(stream.end());
  expect(pieces.join("")).toBe(tokenizer.decode(ids));
}

describe("bytes", () => {
  const tokenizer = byteTokenizer();
  test.each(TEXTS)("%j there and back", (text) => {
    const ids = tokenizer.encode(text);
    expect(ids).toEqual([...new TextEncoder().encode(text)]);
    expect(tokenizer.decode(ids)).toBe(text);
    streams(tokenizer, ids);
  });

  test("a character is held back until its last byte", () => {
    const stream = tokenizer.stream();
    expect([0xf0, 0x9f, 0x91, 0x8d, 0x21].map((id) => stream.push(id))).toEqual(["", "", "", "👍", "!"]);
    expect(stream.end()).toBe("");
  });

  test("bytes that are no UTF-8", () => {
    expect(tokenizer.decode([0x61, 0xff, 0x62])).toBe("a\uFFFDb");
    streams(tokenizer, [0x61, 0xff, 0x62, 0xe2, 0x82]);
    const stream = tokenizer.stream();
    expect(stream.push(0xe2)).toBe("");
    expect(stream.end()).toBe("\uFFFD");
  });

  test("ids outside the vocabulary", () => {
    expect(() => tokenizer.decode([256])).toThrow(/^token 0 is 256; the vocabulary holds ids 0 to 255$/);
    expect(() => checkIds([1, 2, 64], 64)).toThrow(/^token 2 is 64; the vocabulary holds ids 0 to 63$/);
    for (const id of [-1, 1.5, Number.NaN]) expect(() => checkIds([id], 64)).toThrow(TokenizerError);
    expect(() => checkIds([0, 63], 64)).not.toThrow();
  });
});

describe("a folder's tokenizer", () => {
  test("none: bytes if the vocabulary is 256, else an error", async () => {
    expect((await openTokenizer(folder({}), 256)).encode("é")).toEqual([0xc3, 0xa9]);
    await expect(openTokenizer(folder({}), 64)).rejects.toThrow(
      /holds no tokenizer\.json and its vocabulary is 64, .* takes token ids, not text$/,
    );
  });

  test("tokenizer.json: special tokens around a prompt, not in its text", async () => {
    const tokenizer = await openTokenizer(
      folder({ "tokenizer.json": bpe, "tokenizer_config.json": {} }),
      260,
    );
    expect(tokenizer.encode("plain")).toEqual([258, 256, 257, 0x6e]);
    expect(tokenizer.decode([258, 256, 257, 0x6e, 259])).toBe("plain");
  });

  test.each(TEXTS)("%j there and back, in a stream too", async (text) => {
    const tokenizer = await openTokenizer(folder({ "tokenizer.json": bpe }), 260);
    const ids = tokenizer.encode(text);
    expect(tokenizer.decode(ids)).toBe(text);
    streams(tokenizer, ids);
    const stream = tokenizer.stream();
    for (const id of ids) expect(stream.push(id)).not.toContain("\uFFFD");
  });

  test("blanks and spelled-out bytes in a stream", async () => {
    const tokenizer = await openTokenizer(folder({ "tokenizer.json": sentencepiece }), 262);
    const ids = tokenizer.encode("a b a日 👍a");
    expect(tokenizer.decode(ids)).toBe("a b a日 👍a");
    streams(tokenizer, ids);
    const stream = tokenizer.stream();
    for (const id of ids) expect(stream.push(id)).not.toContain("\uFFFD");
  });

  test("nonsense is not held back for ever, nor an id that the tokenizer lacks", async () => {
    const tokenizer = await openTokenizer(folder({ "tokenizer.json": bpe }), 300);
    const stream = tokenizer.stream();
    const pieces = Array.from({ length: 40 }, () => stream.push(0xff));
    expect(pieces.join("")).not.toBe("");
    streams(
      tokenizer,
      Array.from({ length: 40 }, () => 0xff),
    );
    streams(tokenizer, [0x61, 299, 0x62]);
    expect(tokenizer.decode([0x61, 299, 0x62])).toBe("ab");
  });

  test("a tokenizer larger than the model, or broken", async () => {
    const small = await openTokenizer(folder({ "tokenizer.json": bpe }), 100);
    expect(() => small.encode("plain")).toThrow(/token 0 is 258; the vocabulary holds ids 0 to 99/);
    await expect(openTokenizer(folder({ "tokenizer.json": "{" }), 256)).rejects.toThrow(
      /tokenizer\.json in .* is not JSON/,
    );
    await expect(openTokenizer(folder({ "tokenizer.json": "[]" }), 256)).rejects.toThrow(
      /tokenizer\.json in .* wanted an object/,
    );
    await expect(openTokenizer(folder({ "tokenizer.json": { model: { type: "X" } } }), 256)).rejects.toThrow(
      TokenizerError,
    );
  });
});
