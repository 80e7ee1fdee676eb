// Depth by random keys and values, on the CPU machine: test/sessions.gpu.test.ts sets the adapter beside it.

import { beforeAll, describe, expect, test } from "vitest";
import { Ledger } from "../engine/ledger.ts";
import { VariantTable } from "../engine/machine.ts";
import { Session } from "../engine/session.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import { goldens } from "./tools/folders.ts";

const golden = (name: string) => directorySource(new URL(`goldens/${name}`, import.meta.url).pathname);

let cpu: Engine;
beforeAll(async () => {
  cpu = await createEngine({ machine: "cpu" });
});

describe.each(goldens)("%s", (name) => {
  test("a filled cache is as long as was asked, the same by the same seed, in however many calls", async () => {
    const model = await cpu.load(golden(name));
    const options = { streams: 2, chunk: 8 };
    const filled = async (fills: readonly (readonly [tokens: number, seed: number])[]) => {
      const session = await model.session(options);
      await session.prefill([[1, 2, 3], [4]]);
      for (const [tokens, seed] of fills) await session.fillCache(tokens, seed);
      expect(session.positions).toEqual([303, 301]);
      expect(session.memory()).toEqual(await model.predict(options, 303));
      await session.prefill([[5], [6]]);
      const logits = await session.logits();
      expect(logits.every(Number.isFinite)).toBe(true);
      session.destroy();
      return logits;
    };
    const whole = await filled([[300, 7]]);
    expect(await filled([[300, 7]])).toEqual(whole);
    expect(
      await filled([
        [11, 7],
        [288, 7],
        [0, 8],
        [1, 7],
      ]),
    ).toEqual(whole);
    const { kv } = await model.predict(options, 1);
    if (kv > 0) expect(await filled([[300, 8]])).not.toEqual(whole);
    else expect(await filled([[300, 8]])).toEqual(whole);
    model.destroy();
  });

  test("nothing is drawn from a filled cache before a token is fed", async () => {
    const model = await cpu.load(golden(name));
    const session = await model.session({ chunk: 8 });
    const draw = async () => {
      for await (const _ of session.stream({ maxTokens: 1 }));
    };
    await session.prefill([1, 2]);
    await session.fillCache(5, 1);
    await expect(draw()).rejects.toThrow("stream 0 ends in a filled cache: prefill at least one token");
    const snapshot = await session.snapshot();
    await session.prefill([3]);
    await draw();
    expect(session.positions).toEqual([9]);
    await session.restore(snapshot);
    await expect(draw()).rejects.toThrow("ends in a filled cache");
    await session.prefill([3]);
    const [restored, drawn] = await Promise.allSettled([session.restore(snapshot), draw()]);
    expect(restored.status).toBe("fulfilled");
    expect(String((drawn as PromiseRejectedResult).reason)).toContain("ends in a filled cache");
    expect(session.positions).toEqual([7]);
    session.destroy();
    model.destroy();
  });
});

test("what cannot be filled is refused", async () => {
  const model = await cpu.load(golden("llama"));
  const session = await model.session({ chunk: 8 });
  await expect(session.fillCache(-1, 0)).rejects.toThrow("tokens is -1; a whole number from 0");
  await expect(session.fillCache(1, 0.5)).rejects.toThrow("seed is 0.5; a whole number from 0");
  await expect(session.fillCache(2 ** 20 + 1, 0)).rejects.toThrow("llama reaches 1048576 tokens");
  expect(session.positions).toEqual([0]);
  await session.prefill([1]);
  const stream = session.stream();
  await stream.next();
  await expect(session.fillCache(1, 0)).rejects.toThrow("is being read: end it before fillCache");
  await stream.return();
  session.destroy();
  model.destroy();
});

test("the ledger counts a fill, and a session keeps no room for it", async () => {
  const model = await cpu.load(golden("llama"));
  const ledger = new Ledger(new VariantTable("gpu", new Set()));
  const session = await Session.open({ ...model.loaded, machine: ledger }, { chunk: 8 });
  await session.reserve(5000);
  const before = ledger.live();
  await session.fillCache(5000, 1);
  expect(ledger.dispatches).toBeGreaterThan(0);
  expect(ledger.live()).toEqual(before);
  session.destroy();
  model.destroy();
});
