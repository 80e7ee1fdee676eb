// Patterns of attention on the GPU: whole models against a dense one in doubles, over the edges of windows and pages.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compare } from "../bench/kernels/kernelCase.ts";
import { total } from "../engine/memory.ts";
import { createEngine, type Engine, type Model } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";
import { denseLogits, rules } from "./tools/dense.ts";

const llama = urlSource(new URL("/test/goldens/llama/", location.href));
const prompt = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => (i * i * 7 + i * 13 * seed + seed) % 64);

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.destroy());

const cases = [
  { name: "materialised", pattern: { pattern: "materialised" }, rule: rules.everything() },
  { name: "local", pattern: { pattern: "local", window: 37 }, rule: rules.last(37) },
  { name: "strided", pattern: { pattern: "strided", stride: 26 }, rule: rules.strided(26) },
  { name: "sinks", pattern: { pattern: "sinks", sinks: 3, window: 21 }, rule: rules.sinks(3, 21) },
];

describe.each(cases)("$name", ({ name, pattern, rule }) => {
  const load = (): Promise<Model> =>
    engine.load(llama, { tune: "off", overlay: { longtape_attention: pattern } });

  test("chunks and steps, over the edge of a page, give the dense model's logits", async () => {
    const model = await load();
    expect(model.name).toBe(name);
    const ids = prompt(300, 1);
    const session = await model.session({ chunk: 64, allLogits: true });
    const found: number[] = [];
    const feed = async (count: number) => {
      const at = session.positions[0]!;
      const [logits] = await session.prefillLogits(ids.slice(at, at + count));
      found.push(...logits!);
    };
    for (let i = 0; i < 30; i++) await feed(1);
    await feed(215);
    for (let i = 0; i < 20; i++) await feed(1);
    await feed(35);
    const wanted = await denseLogits(llama, ids, rule);
    expect(found).toHaveLength(wanted.length);
    expect(compare(found, wanted).nmse).toBeLessThan(1e-10);
    expect(session.memory()).toEqual(await model.predict({ chunk: 64, allLogits: true }, 300));
    expect(engine.memory()).toEqual(session.memory());
    session.destroy();
    model.destroy();
    expect(total(engine.memory())).toBe(0);
  });

  test("three streams at their own lengths, put back and gone on with", async () => {
    const model = await load();
    const options = { streams: 3, chunk: 64 };
    const session = await model.session(options);
    const lists = [prompt(270, 1), prompt(20, 2), prompt(110, 3)];
    await session.prefill(lists);
    const V = model.vocabulary;
    const expectDense = async (of: Float32Array, ids: readonly (readonly number[])[]) => {
      for (const [b, list] of ids.entries()) {
        const wanted = (await denseLogits(llama, list, rule)).slice(-V);
        expect(compare(of.subarray(b * V, (b + 1) * V), wanted).nmse, `stream ${b}`).toBeLessThan(1e-10);
      }
    };
    await expectDense(await session.logits(), lists);
    const snapshot = await session.snapshot();
    // one goes on alone, the others stand still
    await session.prefill([[], [5, 6, 7], []]);
    const longer = [lists[0]!, [...lists[1]!, 5, 6, 7], lists[2]!];
    await expectDense(await session.logits(), longer);
    const generate = () =>
      Promise.all(
        session.streams.map(async (stream) => {
          const ids: number[] = [];
          for await (const id of stream.stream({ maxTokens: 5 })) ids.push(id);
          return ids;
        }),
      );
    await session.restore(snapshot);
    const first = await generate();
    await session.restore(snapshot);
    expect(await generate()).toEqual(first);
    const after = lists.map((list, b) => [...list, ...first[b]!]);
    await expectDense(await session.logits(), after);
    expect(session.memory()).toEqual(await model.predict(options, 275));
    session.destroy();
    model.destroy();
    expect(total(engine.memory())).toBe(0);
  });
});
