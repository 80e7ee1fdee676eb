import { expect, test } from "vitest";
import type { Layers } from "../bench/closed.ts";
import { explain } from "../bench/race/explain.ts";

const attention = (pattern: Extract<Layers, { kind: "attention" }>["pattern"]): Layers => ({
  kind: "attention",
  layers: 4,
  heads: 4,
  kvHeads: 4,
  headDim: 32,
  pattern,
});

test.each<[string, Layers, number, { numbers: string; value: string; more: RegExp }]>([
  [
    "full attention",
    attention({ kind: "full" }),
    1000,
    {
      numbers: "2 × 4 layers × 4 heads × 32 numbers × 4 B × 1,000 tokens",
      value: "3.91 MiB",
      more: /4 KiB/,
    },
  ],
  [
    "a window that is full",
    attention({ kind: "window", window: 64 }),
    1000,
    {
      numbers: "2 × 4 layers × 4 heads × 32 numbers × 4 B × 64 tokens",
      value: "256 KiB",
      more: /nothing/,
    },
  ],
  [
    "sinks",
    attention({ kind: "sinks", sinks: 4, window: 60 }),
    10,
    {
      numbers: "2 × 4 layers × 4 heads × 32 numbers × 4 B × 10 tokens",
      value: "40 KiB",
      more: /4 KiB/,
    },
  ],
  [
    "linear attention with its normaliser",
    { kind: "linear", layers: 4, heads: 4, keyDim: 32, valueDim: 32, normaliser: true },
    1000,
    { numbers: "4 layers × 4 heads × 32 × (32 + 1) × 4 B", value: "66 KiB", more: /nothing/ },
  ],
  [
    "mamba",
    { kind: "mamba", layers: 6, inner: 256, stateSize: 16, convColumns: 3 },
    1000,
    { numbers: "6 layers × 256 channels × (16 + 3) × 4 B", value: "114 KiB", more: /nothing/ },
  ],
  [
    "an LSTM",
    { kind: "lstm", layers: 2, hidden: 240 },
    7,
    { numbers: "2 × 2 layers × 240 numbers × 4 B", value: "3.75 KiB", more: /nothing/ },
  ],
])("%s: the formula's numbers give the value", (_, layers, tokens, { more, ...wanted }) => {
  const [found] = explain([layers], tokens);
  expect(found).toMatchObject(wanted);
  expect(found!.more).toMatch(more);
});

test("streams multiply, and say so", () => {
  const [found] = explain([{ kind: "gru", layers: 2, hidden: 256 }], 7, 8);
  expect(found).toMatchObject({ numbers: "2 layers × 256 numbers × 4 B × 8 streams", value: "16 KiB" });
});
