// The drift of linear attention's growing sums, as the bench reports it, on a real stream.

import { afterAll, beforeAll, expect, test } from "vitest";
import { DriftMeter } from "../bench/drift.ts";
import { total } from "../engine/memory.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.destroy());

const load = (name: string) =>
  engine.load(urlSource(new URL(`/test/goldens/${name}/`, location.href)), { tune: "off" });
const prompt = (length: number) => Array.from({ length }, (_, i) => (i * i * 7 + i * 13) % 64);

test("a stream's sums are those of its tokens, to the rounding of f32", async () => {
  const model = await load("linear-attention");
  const meter = (await DriftMeter.open(model))!;
  const session = await model.session({ streams: 2, chunk: 512 });
  await session.prefill([prompt(4000), prompt(100)]);
  const snapshot = await session.snapshot();
  meter.add(prompt(4000));
  const drift = meter.of(snapshot);
  expect(drift.tokens).toBe(4000);
  for (const error of [drift.state, drift.keySum!, drift.outputs]) {
    expect(error).toBeGreaterThan(1e-9);
    expect(error).toBeLessThan(1e-4);
  }
  // a token more than the stream holds is seen at once
  meter.add([5]);
  expect(meter.of(snapshot).keySum).toBeGreaterThan(1e-4);
  session.destroy();
  model.destroy();
  expect(total(engine.memory()), "bytes left on the device").toBe(0);
});

test("a model without such sums has no drift to report", async () => {
  const model = await load("gla");
  expect(await DriftMeter.open(model)).toBeNull();
  model.destroy();
});
