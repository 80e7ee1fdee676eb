import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { layersOf } from "../bench/architecture.ts";
import {
  type Architecture,
  closedFields,
  closedKv,
  closedScores,
  closedState,
  closedWeights,
} from "../bench/closed.ts";
import { namedHybrid } from "../models/hybridConfig.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const f16 = 2;
const f32 = 4;

const attention = (layers: number, kvHeads: number, headDim: number, window: number | null = null) =>
  ({ kind: "attention", layers, heads: kvHeads, kvHeads, headDim, window }) as const;
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
    const mistral = model(attention(32, 8, 128, 4096));
    const at = (tokens: number) => closedKv(mistral, { tokens, elementBytes: f16 });
    expect(at(4095)).toBe(4095 * 128 * KiB);
    expect(at(4096)).toBe(512 * MiB);
    expect(at(131_072)).toBe(512 * MiB);
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
  const square = (heads: number, tokens: number, window: number | null = null) =>
    closedScores(model(attention(12, heads, 64, window)), { tokens, queries: tokens, elementBytes: f32 });

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
    expect(square(32, 8192, 1024)).toBe(GiB);
  });
});

test("weights, and the four fields of a row together", () => {
  const architecture = { ...jamba, parameters: 1000 };
  expect(closedWeights(architecture, f16)).toBe(2000);
  expect(
    closedFields(architecture, { tokens: 262_144, queries: 1, elementBytes: f16, weightBytes: f32 }),
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
    expect(closedKv({ parameters: 0, layers }, size)).toBe(kv);
  });

  test("a hybrid's layers, kind by kind", () => {
    const { config } = namedHybrid("hybrid:mamba*2+window:64+attn+mamba+linear+gla");
    const heads = { heads: 4, kvHeads: 4, headDim: 32 };
    expect(layersOf(config)).toEqual([
      { kind: "mamba", layers: 3, inner: 256, stateSize: 16, convColumns: 3 },
      { kind: "attention", layers: 1, ...heads, window: 64 },
      { kind: "attention", layers: 1, ...heads, window: null },
      { kind: "linear", layers: 1, heads: 4, keyDim: 32, valueDim: 32, normaliser: true },
      { kind: "linear", layers: 1, heads: 4, keyDim: 16, valueDim: 32, normaliser: false },
    ]);
  });

  test("a family without formulas is null", () => expect(layersOf({ model_type: "rwkv" })).toBeNull());
});
