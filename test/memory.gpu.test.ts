// Bytes counted from outside, by a package that wraps GPUDevice, are the bytes that our door counts by category.

import { describe, expect, onTestFinished, test } from "vitest";
import { getWebGPUMemoryUsage } from "webgpu-memory";
import { total } from "../engine/memory.ts";
import { createEngine } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";
import { loadModel, sessionModels } from "./tools/folders.ts";

const outside = () => getWebGPUMemoryUsage().memory.buffer;
const golden = (name: string) => urlSource(new URL(`/test/goldens/${name}/`, location.href));

for (const name of sessionModels) {
  test(`${name}: our categories add up to what is counted from outside, until nothing is left`, async () => {
    expect(outside()).toBe(0);
    const engine = await createEngine();
    onTestFinished(() => engine.destroy());
    const model = await loadModel(engine, name, golden);
    expect(outside(), "weights").toBe(total(engine.memory()));
    const session = await model.session({ streams: 2, chunk: 64 });
    expect(outside(), "session").toBe(total(engine.memory()));
    await session.prefill([Array.from({ length: 300 }, (_, i) => i % 64), [1, 2, 3]]);
    for await (const _ of session.streams[0]!.stream({ maxTokens: 20 }));
    expect(outside(), "after streaming").toBe(total(engine.memory()));
    expect(engine.memory()).toEqual(await model.predict({ streams: 2, chunk: 64 }, 320));
    const snapshot = await session.snapshot();
    await session.restore(snapshot);
    expect(outside(), "after a restore").toBe(total(engine.memory()));
    const mark = await session.mark();
    const fork = await session.fork();
    const own = total(await model.predict({ streams: 2, chunk: 64 }, 320));
    const weights = engine.memory().weights;
    expect(outside(), "with a mark and a fork").toBe(2 * own - weights + mark.bytes);
    expect(outside()).toBe(total(engine.memory()));
    fork.destroy();
    session.destroy();
    model.destroy();
    // before the device is destroyed: nothing may be left to it
    expect(engine.memory()).toEqual({ weights: 0, state: 0, kv: 0, scratch: 0, uniform: 0, staging: 0 });
    expect(outside(), "after destroy").toBe(0);
  });
}

describe.each(sessionModels)("%s: asked is theory to the byte", (name) => {
  test.each([1, 3])("with %i streams, over the edges of windows and pages", async (streams) => {
    const engine = await createEngine();
    onTestFinished(() => engine.destroy());
    const model = await loadModel(engine, name, golden);
    const options = { streams, chunk: 64 };
    const session = await model.session(options);
    for (const length of [1, 7, 8, 9, 11, 12, 13, 255, 256, 257, 511, 513, 2303, 2304, 2305]) {
      await session.fillCache(length - session.positions[0]! - 1, 1);
      // the second stream lags behind: the longest decides
      await session.prefill(session.positions.map((_, b) => (b === 1 ? [] : [5])));
      if (length === 9) for await (const _ of session.streams[0]!.stream({ maxTokens: 1 }));
      const theory = await model.predict(options, session.positions[0]);
      expect(engine.memory(), `${length} tokens`).toEqual(theory);
      expect(outside(), `${length} tokens, counted from outside`).toBe(total(theory));
    }
  });
});

test("the race leaves nothing allocated and its verdicts are variants that can run", async () => {
  const engine = await createEngine();
  const verdicts: { key: string; winner: string; ms: Record<string, number> }[] = [];
  const model = await engine.load(golden("llama"), { chunk: 8, onVerdict: (v) => verdicts.push(v) });
  expect(total(engine.memory())).toBe(engine.memory().weights);
  expect(verdicts.length).toBeGreaterThan(3);
  for (const { winner, ms } of verdicts) {
    expect(Object.keys(ms)).toContain(winner);
    for (const time of Object.values(ms)) expect(time).toBeGreaterThan(0);
  }
  const again: unknown[] = [];
  const second = await engine.load(golden("llama"), { chunk: 8, onVerdict: (v) => again.push(v) });
  expect(again, "verdicts are kept").toEqual([]);
  second.destroy();
  model.destroy();
  engine.destroy();
});
