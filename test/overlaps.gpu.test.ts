// Calls on one session that overlap, and work that ends in the middle: each token once, nothing lost, nothing left held.

import { afterAll, beforeAll, expect, test } from "vitest";
import { total } from "../engine/memory.ts";
import { createEngine, type Engine, type Model } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";

const golden = (name: string) => urlSource(new URL(`/test/goldens/${name}/`, location.href));
const prompt = (length: number): number[] => Array.from({ length }, (_, i) => (i * i * 7 + i * 13 + 1) % 64);

let engine: Engine;
let mamba: Model;
let llama: Model;
let weights: number;
beforeAll(async () => {
  engine = await createEngine();
  mamba = await engine.load(golden("mamba"), { tune: false });
  llama = await engine.load(golden("llama"), { tune: false });
  weights = total(engine.memory());
});
afterAll(() => engine.destroy());

test("room that is asked for twice at once is made once", async () => {
  const session = await llama.session({ chunk: 8 });
  await session.prefill(prompt(5));
  await Promise.all([session.reserve(2000), session.reserve(3000), session.prefill(prompt(9))]);
  expect(session.memory()).toEqual(await llama.predict({ chunk: 8 }, 3000));
  session.destroy();
  expect(total(engine.memory())).toBe(weights);
});
