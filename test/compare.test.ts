import { expect, test } from "vitest";
import { compare, parseResults } from "../bench/page/compare/compare.ts";
import { emptyRow, type Results, type Row } from "../bench/row.ts";

const results = (...rows: Row[]): Results => ({
  schema: "longtape/1",
  environment: { started: "2026-11-26T00:00:00Z" } as Results["environment"],
  rows,
});
const row = (model: string, samples: number[], known: Partial<Row> = {}): Row =>
  emptyRow({
    model,
    test: "tg32",
    n_gen: 32,
    samples_ts: samples,
    avg_ts: samples.reduce((a, b) => a + b, 0) / samples.length,
    mem_state: 64,
    mem_kv: 0,
    ...known,
  });

test("rows of the same test are set beside each other, others stand alone", () => {
  const before = results(row("gru", [100, 110]), row("llama", [50, 52]), row("elman", [1]));
  const after = results(row("gru", [105, 115]), row("llama", [80, 84], { mem_kv: 32 }), row("mamba", [9]));
  const found = compare(before, after).map(({ model, speed, overlap, bytes }) => ({
    model,
    speed,
    overlap,
    bytes,
  }));
  expect(found).toEqual([
    { model: "gru", speed: 110 / 105, overlap: true, bytes: 0 },
    { model: "llama", speed: 82 / 51, overlap: false, bytes: 32 },
    { model: "elman", speed: null, overlap: false, bytes: null },
    { model: "mamba", speed: null, overlap: false, bytes: null },
  ]);
});

test("streams, chunks and runtimes are kept apart", () => {
  const before = results(row("gru", [100]), row("gru", [400], { n_parallel: 8 }));
  const after = results(row("gru", [90]), row("gru", [9], { peer: "tfjs-webgpu" }));
  expect(compare(before, after).map(({ peer, speed }) => [peer, speed])).toEqual([
    ["longtape", 0.9],
    ["longtape", null],
    ["tfjs-webgpu", null],
  ]);
});

test.each([
  ["{", /^a\.json is no JSON \(/],
  ['{"schema":"other/1"}', /^a\.json is no results\.json of longtape: schema: .*longtape\/1/],
  ['{"schema":"longtape/1","environment":{"started":"x"},"rows":[{"model":1}]}', /rows\.0\.model/],
])("a file that is none says why: %s", (text, why) => {
  expect(() => parseResults("a.json", text)).toThrow(why);
});

test("a file that is one is taken as it is", () => {
  const one = results(row("gru", [1]));
  expect(parseResults("a.json", JSON.stringify(one))).toEqual(one);
});
