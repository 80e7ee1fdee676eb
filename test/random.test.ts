// Models of any shape without a download.

import { readFile } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { compare } from "../bench/kernels/kernelCase.ts";
import type { Config } from "../models/config.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import { randomWeights } from "../models/random.ts";
import { goldens } from "./tools/folders.ts";
import { hybrids, smallHybrid } from "./tools/hybrids.ts";

const configOf = async (name: string): Promise<Config> =>
  hybrids.includes(name)
    ? smallHybrid(name)
    : JSON.parse(await readFile(new URL(`goldens/${name}/config.json`, import.meta.url), "utf8"));

let cpu: Engine;
beforeAll(async () => {
  cpu = await createEngine({ machine: "cpu" });
});

/** Greedy ids and the logits after them. */
async function streamed(config: Config, seed: number, tokens: number) {
  const model = await cpu.random(config, seed);
  const session = await model.session({ chunk: 8 });
  await session.prefill([1, 2, 3]);
  const ids: number[] = [];
  for await (const id of session.stream({ maxTokens: tokens, temperature: 1, seed: 1 })) ids.push(id);
  const logits = await session.logits();
  session.destroy();
  model.destroy();
  return { ids, logits };
}

describe.each([...goldens, ...hybrids])("a random %s", (name) => {
  test("is the same for the same seed, another for another", async () => {
    const config = await configOf(name);
    const first = await streamed(config, 5, 20);
    expect(await streamed(config, 5, 20)).toEqual(first);
    const other = await streamed(config, 6, 20);
    expect(compare(other.logits, first.logits).nmse).toBeGreaterThan(0.01);
  });

  test("keeps its logits finite, and apart, over 400 tokens", async () => {
    const { logits, ids } = await streamed(await configOf(name), 1, 400);
    expect(logits.every(Number.isFinite)).toBe(true);
    const mean = logits.reduce((a, b) => a + b) / logits.length;
    const deviation = Math.sqrt(logits.reduce((sum, x) => sum + (x - mean) ** 2, 0) / logits.length);
    expect(deviation).toBeGreaterThan(0.01);
    expect(deviation).toBeLessThan(20);
    expect(new Set(ids).size, "it is not stuck on a token").toBeGreaterThan(10);
  });
});

test("a shape that no checkpoint has runs too", async () => {
  const config = {
    model_type: "llama",
    vocab_size: 101,
    hidden_size: 30,
    num_hidden_layers: 3,
    num_attention_heads: 5,
    num_key_value_heads: 1,
    intermediate_size: 37,
    tie_word_embeddings: true,
  };
  const { ids, logits } = await streamed(config, 0, 30);
  expect(ids.every((id) => id < 101)).toBe(true);
  expect(logits).toHaveLength(101);
  expect(logits.every(Number.isFinite)).toBe(true);
});

describe("a weight's numbers", () => {
  const read = randomWeights(3);

  test("depend on seed, name and shape, not on what was read before", async () => {
    const first = await read("a.weight", [8, 4]);
    await read("b.weight", [100]);
    expect(await randomWeights(3)("a.weight", [8, 4])).toEqual(first);
    expect(await randomWeights(4)("a.weight", [8, 4])).not.toEqual(first);
    expect(await read("b.weight", [8, 4])).not.toEqual(first);
  });

  test("are normal, with deviation 1 / sqrt(columns)", async () => {
    const matrix = await read("layers.0.up_proj.weight", [300, 100]);
    const moment = (n: number) => matrix.reduce((sum, x) => sum + (10 * x) ** n, 0) / matrix.length;
    expect(moment(1)).toBeCloseTo(0, 1);
    expect(moment(2)).toBeCloseTo(1, 1);
    // 3 for a normal
    expect(moment(4)).toBeGreaterThan(2.8);
    expect(moment(4)).toBeLessThan(3.2);
  });

  test("start norms, A, D and the time step's bias as their papers do", async () => {
    expect(new Set(await read("input_layernorm.weight", [9]))).toEqual(new Set([1]));
    expect(new Set(await read("mixer.D", [9]))).toEqual(new Set([1]));
    expect([...(await read("mixer.A_log", [2, 3]))].map((x) => Math.round(Math.exp(x)))).toEqual([
      1, 2, 3, 1, 2, 3,
    ]);
    const steps = (await read("mixer.dt_proj.bias", [500])).map((x) => Math.log1p(Math.exp(x)));
    expect(Math.min(...steps)).toBeGreaterThan(0.000_99);
    expect(Math.max(...steps)).toBeLessThan(0.101);
  });
});
