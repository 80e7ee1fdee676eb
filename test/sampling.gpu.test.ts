// What `sample` draws on the GPU, by every variant: thousands of streams over one row of logits.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { execute } from "../bench/kernels/kernelCase.ts";
import { CURSOR, cursorWords, ID_RING, type Settings } from "../engine/cursor.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { openGpu } from "../engine/gpuDevice.ts";
import { eligible } from "../engine/kernel.ts";
import { sample } from "../kernels/sample.ts";

let machine: GpuMachine;
beforeAll(async () => {
  machine = (await openGpu()).machine;
});
afterAll(() => machine.destroy());

const LOGITS = [1.2, -0.3, 2.1, 0, 0.7, -1.5, 1.9, 0.4];
/** By falling logit. */
const ORDER = [2, 6, 0, 4, 7, 3, 1, 5];
const V = LOGITS.length;
const STREAMS = 4096;
/** Chi-square's 99.9th percentile at 1 to 7 degrees of freedom. */
const LIMIT = [Number.NaN, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32];

/** A filter and the tokens that it leaves, by falling logit. */
const FILTERS: { title: string; settings: Partial<Settings>; kept: number }[] = [
  { title: "no filter", settings: {}, kept: 8 },
  { title: "a temperature", settings: { temperature: 0.6 }, kept: 8 },
  { title: "topK", settings: { topK: 3 }, kept: 3 },
  // the first two have 0.60 of the mass
  { title: "topP", settings: { topP: 0.7 }, kept: 3 },
  // exp(1.2 - 2.1) is 0.41, exp(0.7 - 2.1) 0.25
  { title: "minP", settings: { minP: 0.3 }, kept: 3 },
  { title: "all of them", settings: { topK: 6, topP: 0.95, minP: 0.15, temperature: 0.8 }, kept: 4 },
  { title: "topK of 1", settings: { topK: 1 }, kept: 1 },
];

async function draws(variant: string, change: Partial<Settings>, seed: number): Promise<Uint32Array> {
  const settings = { temperature: 1, topK: 0, topP: 1, minP: 0, seed, ...change };
  const each = new Array<number>(STREAMS);
  const cursor = cursorWords(1, each.fill(100), new Array<number>(STREAMS).fill(1), () => settings);
  expect(cursor[CURSOR.count]).toBe(1);
  const contents = {
    cursor,
    logits: Float32Array.from({ length: STREAMS * V }, (_, i) => LOGITS[i % V]!),
    tokens: new Uint32Array(STREAMS),
    ids: new Uint32Array(ID_RING * STREAMS),
  };
  const { tokens, ids } = await execute(machine, sample, variant, { B: STREAMS, V }, contents);
  const slot = (100 % ID_RING) * STREAMS;
  expect(ids!.subarray(slot, slot + STREAMS)).toEqual(tokens);
  return tokens as Uint32Array;
}

for (const variant of Object.keys(sample.variants)) {
  describe(variant, () => {
    test.each(FILTERS)("with $title: the softmax over what is left, and nothing else", async (filter) => {
      if (!eligible(sample, { B: STREAMS, V }, machine.variants.features).includes(variant)) return;
      const { temperature = 1 } = filter.settings;
      const kept = ORDER.slice(0, filter.kept);
      const weights = kept.map((i) => Math.exp(LOGITS[i]! / temperature));
      const total = weights.reduce((a, b) => a + b);
      const tokens = await draws(variant, filter.settings, 7);
      const counts = kept.map((i) => tokens.filter((token) => token === i).length);
      expect(new Set(tokens), "support").toEqual(new Set(kept));
      const statistic = counts.reduce((sum, n, i) => {
        const wanted = (STREAMS * weights[i]!) / total;
        return sum + (n - wanted) ** 2 / wanted;
      }, 0);
      if (kept.length > 1) expect(statistic).toBeLessThan(LIMIT[kept.length - 1]!);
    });

    test("repeats with its seed", async () => {
      const first = await draws(variant, {}, 3);
      expect(await draws(variant, {}, 3)).toEqual(first);
      expect(await draws(variant, {}, 4)).not.toEqual(first);
    });
  });
}
