import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { layersOf } from "../bench/architecture.ts";
import {
  type Architecture,
  closedFields,
  closedKv,
  closedPairs,
  closedScores,
  closedState,
  closedWeights,
} from "../bench/closed.ts";
import { closedHeld, closedOf } from "../bench/fields.ts";
import type { Pattern } from "../models/configs.ts";
import { namedHybrid } from "../models/hybridConfig.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const f16 = 2;
const f32 = 4;

const full: Pattern = { kind: "full" };
const windowOf = (window: number): Pattern => ({ kind: "window", window });
const attention = (layers: number, kvHeads: number, headDim: number, pattern: Pattern = full) =>
  ({ kind: "attention", layers, heads: kvHeads, kvHeads, headDim, pattern }) as const;
const model = (...layers: Architecture["layers"]): Architecture => ({ parameters: 0, layers });
const mamba = (layers: number, inner: number, convColumns: number) =>
  model({ kind: "mamba", layers, inner, stateSize: 16, convColumns });

const llama2_7b = model(attention(32, 32, 128));
const llama3_8b = model(attention(32, 8, 128));
const mixtral = model(attention(32, 8, 128));
const jamba = model(attention(4, 8, 128), {
  kind: "mamba",
  layers: 28,
  inner: 8192,
  stateSize: 16,
  convColumns: 4,
});
const pythia_2_8b = model(attention(32, 32, 80));
const mamba_2_8b = mamba(64, 5120, 4);

describe("keys and values", () => {
  // Jamba's Table 1, arXiv 2403.19887: 256K tokens, 16 bit.
  test.each([
    ["Llama-2-7B", llama2_7b, 128 * GiB],
    ["Mixtral", mixtral, 32 * GiB],
    ["Jamba", jamba, 4 * GiB],
  ])("%s at 262,144 tokens", (_, architecture, bytes) => {
    expect(closedKv(architecture, { tokens: 262_144, elementBytes: f16 })).toBe(bytes);
  });

  test.each([
    ["Llama-3-8B", llama3_8b, 128 * KiB],
    ["Llama-3.2-1B", model(attention(16, 8, 64)), 32 * KiB],
    ["Pythia-2.8B", pythia_2_8b, 320 * KiB],
    ["Qwen3-0.6B", model(attention(28, 8, 128)), 112 * KiB],
    ["SmolLM2-135M", model(attention(30, 3, 64)), 22.5 * KiB],
    ["OPT-13B, PagedAttention's 800 KB", model(attention(40, 40, 128)), 819_200],
    ["gpt-oss-120b, hf-mem#60", model(attention(36, 8, 64)), 73_728],
    ["Qwen3.5-0.8B, uzu#792", model(attention(6, 2, 256)), 12 * KiB],
  ])("%s, a token", (_, architecture, bytes) => {
    expect(closedKv(architecture, { tokens: 1, elementBytes: f16 })).toBe(bytes);
  });

  test("Qwen2.5-1.5B at 32K, llama.cpp's log", () => {
    expect(closedKv(model(attention(28, 2, 128)), { tokens: 32_768, elementBytes: f16 })).toBe(896 * MiB);
  });

  test("Mistral-7B's window of 4,096 caps it at 512 MiB", () => {
    const mistral = model(attention(32, 8, 128, windowOf(4096)));
    const at = (tokens: number) => closedKv(mistral, { tokens, elementBytes: f16 });
    expect(at(4095)).toBe(4095 * 128 * KiB);
    expect(at(4096)).toBe(512 * MiB);
    expect(at(131_072)).toBe(512 * MiB);
  });

  test.each<[Pattern, number]>([
    [{ kind: "materialised" }, 1000],
    [{ kind: "window", window: 64 }, 64],
    [{ kind: "sinks", sinks: 4, window: 60 }, 64],
    [{ kind: "local", window: 64 }, 1000],
    [{ kind: "strided", stride: 64 }, 1000],
  ])("%j keeps all of the first 63 tokens, and %d of the first 1,000", (pattern, kept) => {
    const at = (tokens: number) => closedKv(model(attention(1, 1, 1, pattern)), { tokens, elementBytes: 1 });
    expect(at(63)).toBe(2 * 63);
    expect(at(1000)).toBe(2 * kept);
  });

  test("streams multiply", () => {
    expect(closedKv(llama3_8b, { tokens: 10, elementBytes: f16, streams: 3 })).toBe(30 * 128 * KiB);
  });
});

describe("state", () => {
  const bytes = (architecture: Architecture, elementBytes: number, streams = 1) =>
    closedState(architecture, { tokens: 1, elementBytes, streams });

  test("Mamba-1.4B, llama.cpp's 3 columns", () => {
    expect(bytes(mamba(48, 4096, 3), f32)).toBe(14.25 * MiB);
  });

  test.each([
    ["130M", mamba(24, 1536, 4), 2.8125 * MiB],
    ["370M", mamba(48, 2048, 4), 7.5 * MiB],
    ["790M", mamba(48, 3072, 4), 11.25 * MiB],
    ["1.4B", mamba(48, 4096, 4), 15 * MiB],
    ["2.8B", mamba_2_8b, 25 * MiB],
  ])("Mamba-%s, mamba_ssm's 4 columns", (_, architecture, wanted) => {
    expect(bytes(architecture, f32)).toBe(wanted);
  });

  test("Mamba-2.8B in f16, and what it equals in tokens of attention", () => {
    const state = bytes(mamba_2_8b, f16);
    expect(state).toBe(12.5 * MiB);
    expect(state).toBe(closedKv(pythia_2_8b, { tokens: 40, elementBytes: f16 }));
    expect(state).toBe(closedKv(llama3_8b, { tokens: 100, elementBytes: f16 }));
  });

  test("Jamba's 28 Mamba layers", () => expect(bytes(jamba, f16)).toBe(8.75 * MiB));

  test("Qwen3.6-27B's recurrent matrices, 144 MiB a sequence", () => {
    const delta = model({
      kind: "linear",
      layers: 48,
      heads: 48,
      keyDim: 128,
      valueDim: 128,
      normaliser: false,
    });
    expect(bytes(delta, f32, 4)).toBe(4 * 144 * MiB);
  });

  test("recurrent cells: an LSTM carries c beside h", () => {
    const cell = (kind: "elman" | "gru" | "lstm") => model({ kind, layers: 2, hidden: 1024 });
    expect(bytes(cell("elman"), f32)).toBe(8 * KiB);
    expect(bytes(cell("gru"), f32)).toBe(8 * KiB);
    expect(bytes(cell("lstm"), f32)).toBe(16 * KiB);
  });

  test("a normaliser adds one column a head", () => {
    const linear = model({ kind: "linear", layers: 4, heads: 4, keyDim: 32, valueDim: 32, normaliser: true });
    expect(bytes(linear, f32)).toBe(4 * 4 * 32 * 33 * 4);
  });

  test("attention has none, and the others no keys and values", () => {
    expect(bytes(llama3_8b, f16)).toBe(0);
    expect(closedKv(mamba_2_8b, { tokens: 1_000_000, elementBytes: f16 })).toBe(0);
  });
});

describe("scores, were they materialised", () => {
  const square = (heads: number, tokens: number, pattern: Pattern = full) =>
    closedScores(model(attention(12, heads, 64, pattern)), { tokens, queries: tokens, elementBytes: f32 });

  test("one head in f32 passes 128 MiB at N = 5,793", () => {
    expect(square(1, 5792)).toBeLessThan(128 * MiB);
    expect(square(1, 5793)).toBeGreaterThan(128 * MiB);
  });

  test("one head reaches 1 GiB at 16,384 and passes 2 GiB after 23,170", () => {
    expect(square(1, 16_384)).toBe(GiB);
    expect(square(1, 23_170)).toBeLessThan(2 * GiB);
    expect(square(1, 23_171)).toBeGreaterThan(2 * GiB);
  });

  test("32 heads at 8,192 are 8 GiB; a window cuts the columns", () => {
    expect(square(32, 8192)).toBe(8 * GiB);
    expect(square(32, 8192, windowOf(1024))).toBe(GiB);
  });

  test("none before the first token", () => expect(square(32, 0)).toBe(0));

  test("a matrix that is held is N x N in every stream, whatever is asked at a time", () => {
    const held = model(attention(12, 4, 64, { kind: "materialised" }));
    const size = { tokens: 1000, queries: 1, elementBytes: f32 };
    expect(closedScores(held, size)).toBe(4 * 1000 * 1000 * f32);
    expect(closedScores(held, { ...size, streams: 3 })).toBe(3 * 4 * 1000 * 1000 * f32);
  });
});

/** May the query at position q see the key at position k? By the papers' words, one pair at a time. */
function visible(pattern: Pattern, q: number, k: number): boolean {
  if (k > q) return false;
  switch (pattern.kind) {
    case "full":
    case "materialised":
      return true;
    case "window":
    case "local":
      return q - k < pattern.window;
    case "strided":
      return q - k < pattern.stride || (q - k) % pattern.stride === 0;
    case "sinks":
      return sinksHold(pattern, q).includes(k);
  }
}

/** What StreamingLLM's cache holds after token q: the first tokens stay, the others leave in the order they came. */
function sinksHold({ sinks, window }: { sinks: number; window: number }, q: number): number[] {
  const held: number[] = [];
  for (let k = 0; k <= q; k++) {
    held.push(k);
    if (held.length > sinks + window) held.splice(sinks, 1);
  }
  return held;
}

describe("pairs of query and key", () => {
  const spans = [
    [0, 1],
    [0, 5],
    [0, 70],
    [3, 1],
    [6, 9],
    [7, 1],
    [13, 0],
    [31, 40],
    [64, 3],
  ] as const;

  test.each<Pattern>([
    { kind: "full" },
    { kind: "materialised" },
    { kind: "window", window: 1 },
    { kind: "window", window: 7 },
    { kind: "local", window: 16 },
    { kind: "sinks", sinks: 2, window: 5 },
    { kind: "sinks", sinks: 4, window: 1 },
    { kind: "strided", stride: 1 },
    { kind: "strided", stride: 7 },
    { kind: "strided", stride: 64 },
  ])("%j agrees with a mask written out", (pattern) => {
    for (const [depth, tokens] of spans) {
      let pairs = 0;
      for (let q = depth; q < depth + tokens; q++)
        for (let k = 0; k <= q; k++) if (visible(pattern, q, k)) pairs++;
      const architecture = model(attention(1, 1, 1, pattern));
      expect(closedPairs(architecture, { depth, tokens }), `${tokens} tokens at depth ${depth}`).toBe(pairs);
    }
  });

  test("query heads, layers and streams multiply; a hybrid's Mamba layers score none", () => {
    const grouped = { ...attention(4, 8, 128), heads: 32 };
    const hybrid = model(grouped, { ...mamba_2_8b.layers[0]! });
    expect(closedPairs(hybrid, { depth: 99, tokens: 1, streams: 3 })).toBe(4 * 32 * 3 * 100);
    expect(closedPairs(mamba_2_8b, { depth: 99, tokens: 1 })).toBe(0);
  });

  test("a prompt of 100K tokens: 5 * 10^9 of the 10^10 pairs of the square, and one step of 10^5", () => {
    const head = model(attention(1, 1, 128));
    expect(closedPairs(head, { depth: 0, tokens: 100_000 })).toBe((100_000 * 100_001) / 2);
    expect(closedPairs(head, { depth: 99_999, tokens: 1 })).toBe(100_000);
  });

  test("a step at 1,048,576 tokens is exact, however deep", () => {
    const at = (pattern: Pattern) =>
      closedPairs(model(attention(1, 1, 1, pattern)), { depth: 2 ** 20, tokens: 1 });
    expect(at(full)).toBe(2 ** 20 + 1);
    expect(at({ kind: "sinks", sinks: 4, window: 60 })).toBe(64);
    expect(at({ kind: "strided", stride: 64 })).toBe(64 + 2 ** 20 / 64);
  });
});

describe("a row of the bench", () => {
  const row = (pattern: Pattern) => {
    const { layers } = model(attention(4, 4, 32, pattern));
    const test = { n_prompt: 0, n_gen: 16, n_depth: 512, n_parallel: 2, n_ubatch: 64 };
    const closed = closedOf(1000, layers, {}, test);
    return { ...closed, held: closedHeld(closed, layers) };
  };

  test("counts the pairs of its timed part", () => {
    const seen = Array.from({ length: 16 }, (_, i) => 512 + i + 1).reduce((a, b) => a + b);
    expect(row(full).theory_pairs).toBe(4 * 4 * 2 * seen);
    expect(row(windowOf(64)).theory_pairs).toBe(4 * 4 * 2 * 16 * 64);
  });

  test("counts scores among what is held only where they are", () => {
    const kv = 2 * 4 * 4 * 32 * 528 * f32 * 2;
    expect(row(full)).toMatchObject({ closed_kv: kv, held: 4000 + kv });
    const scores = 2 * 4 * 528 * 528 * f32;
    expect(row({ kind: "materialised" })).toMatchObject({ closed_scores: scores, held: 4000 + kv + scores });
  });
});

test("weights, and the four fields of a row together", () => {
  const architecture = { ...jamba, parameters: 1000 };
  expect(closedWeights(architecture, f16)).toBe(2000);
  expect(
    closedFields(architecture, {
      tokens: 262_144,
      queries: 1,
      elementBytes: f16,
      cacheBytes: f16,
      weightBytes: f32,
    }),
  ).toEqual({
    closed_weights: 4000,
    closed_state: 8.75 * MiB,
    closed_kv: 4 * GiB,
    closed_scores: 8 * 262_144 * 2,
  });
});

describe("the shipped checkpoints, from their configs", () => {
  // 1,000 tokens, f32, by hand from each config.json: past the window of 64.
  test.each([
    ["elman", 2 * 480 * 4, 0],
    ["gru", 2 * 256 * 4, 0],
    ["lstm", 2 * 2 * 224 * 4, 0],
    ["llama", 0, 2 * 4 * 4 * 32 * 1000 * 4],
    ["mistral-window", 0, 2 * 4 * 4 * 32 * 64 * 4],
    ["linear-attention", 4 * 4 * 32 * 33 * 4, 0],
    ["gla", 4 * 4 * 16 * 32 * 4, 0],
    ["mamba", 6 * 256 * (16 + 3) * 4, 0],
    ["jamba", 3 * 256 * (16 + 3) * 4, 2 * 4 * 32 * 1000 * 4],
  ])("%s", (arch, state, kv) => {
    const path = new URL(`../models/checkpoints/${arch}/config.json`, import.meta.url);
    const layers = layersOf(JSON.parse(readFileSync(path, "utf8")));
    if (!layers) throw new Error(`${arch} has no closed formulas`);
    const size = { tokens: 1000, elementBytes: f32 };
    expect(closedState({ parameters: 0, layers }, size)).toBe(state);
    expect(closedKv({ layers }, size)).toBe(kv);
  });

  test("a hybrid's layers, kind by kind", () => {
    const { config } = namedHybrid("hybrid:mamba*2+window:64+attn+mamba+linear+gla");
    const heads = { heads: 4, kvHeads: 4, headDim: 32 };
    expect(layersOf(config)).toEqual([
      { kind: "mamba", layers: 3, inner: 256, stateSize: 16, convColumns: 3 },
      { kind: "attention", layers: 1, ...heads, pattern: { kind: "window", window: 64 } },
      { kind: "attention", layers: 1, ...heads, pattern: { kind: "full" } },
      { kind: "linear", layers: 1, heads: 4, keyDim: 32, valueDim: 32, normaliser: true },
      { kind: "linear", layers: 1, heads: 4, keyDim: 16, valueDim: 32, normaliser: false },
    ]);
  });

  test("a family without formulas is null", () => expect(layersOf({ model_type: "rwkv" })).toBeNull());
});
