// What only shows far into a context: rotary angles at large positions, pages of two sizes, many pages at once.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compare, runCase } from "../bench/kernels/kernelCase.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { total } from "../engine/memory.ts";
import { qkvRope } from "../kernels/qkvRope.ts";
import { cursorOf } from "../kernels/reference/cursor.ts";
import { createEngine, type Engine, type Model } from "../models/engine.ts";

let engine: Engine;
let cpu: Engine;
beforeAll(async () => {
  engine = await createEngine();
  cpu = await createEngine({ machine: "cpu" });
});
afterAll(() => engine.destroy());

describe("rotary angles", () => {
  // the reference takes sines and cosines of the whole angle, in doubles
  const kernel = qkvRope({ store: "chunk" });
  for (const position of [131_071, 1_048_575])
    for (const [D, theta] of [
      [64, 10_000],
      [128, 500_000],
      [80, 1_000_000],
    ] as const) {
      test(`at position ${position}, heads of ${D}, theta ${theta}`, async () => {
        const at = { ...kernel, fill: { ...kernel.fill, cursor: () => cursorOf([[position, 1]]) } };
        const sizes = { B: 1, T: 1, M: 1, I: 8, H: 4, K: 2, D, O: 8 * D, eps: 1e-6, theta };
        const found = await runCase(engine.machine as GpuMachine, at, "pairs", sizes);
        for (const { nmse, largest } of Object.values(found)) {
          expect(nmse).toBeLessThan(1e-13);
          expect(largest).toBeLessThan(1e-6);
        }
      });
    }
});

describe("a cache of 19 pages, the last ones longer", () => {
  const config = {
    model_type: "llama",
    vocab_size: 64,
    hidden_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    intermediate_size: 40,
  };
  const prompt = (length: number, seed: number) =>
    Array.from({ length }, (_, i) => (i * i * 7 + i * 13 * seed + seed) % 64);

  test("prefill and steps over the edge of the pages are the CPU machine's", async () => {
    const run = async (model: Model) => {
      const session = await model.session({ streams: 2, chunk: 512 });
      // stream 0 steps over 4,096, where pages of 512 slots begin; stream 1 stays in the first page
      await session.prefill([prompt(4090, 1), prompt(100, 2)]);
      const before = await session.logits();
      const ids = await Promise.all(
        session.streams.map(async (stream) => {
          const out: number[] = [];
          for await (const id of stream.stream({ maxTokens: 12 })) out.push(id);
          return out;
        }),
      );
      await session.prefill([prompt(550, 3), []]);
      const after = await session.logits();
      const { capacity, positions } = session;
      session.destroy();
      return { before, ids, after, capacity, positions };
    };
    const gpuModel = await engine.random(config, 1, { tune: "off" });
    const found = await run(gpuModel);
    const wanted = await run(await cpu.random(config, 1));
    expect(found.capacity).toBe(5120);
    expect(found.positions).toEqual([4652, 112]);
    expect(compare(found.before, wanted.before).nmse).toBeLessThan(1e-10);
    expect(found.ids).toEqual(wanted.ids);
    expect(compare(found.after, wanted.after).nmse).toBeLessThan(1e-10);
    gpuModel.destroy();
    expect(total(engine.memory())).toBe(0);
  });
});
