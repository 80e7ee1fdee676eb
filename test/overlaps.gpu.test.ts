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
  mamba = await engine.load(golden("mamba"), { tune: "off" });
  llama = await engine.load(golden("llama"), { tune: "off" });
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

test("a snapshot may be asked for at any token of a stream: each comes out once", async () => {
  const session = await mamba.session({ chunk: 8 });
  await session.prefill(prompt(5));
  const start = await session.snapshot();
  const options = { temperature: 1, seed: 4, maxTokens: 80 };
  const whole: number[] = [];
  for await (const id of session.stream(options)) whole.push(id);
  for (let at = 28; at < 68; at++) {
    await session.restore(start);
    const ids: number[] = [];
    const stream = session.stream(options);
    let snapshot = Promise.resolve(start);
    for (;;) {
      const next = stream.next();
      if (ids.length === at) snapshot = session.snapshot();
      const { done, value } = await next;
      if (done) break;
      ids.push(value);
    }
    expect(ids, `snapshot at token ${at}`).toEqual(whole);
    await session.restore(await snapshot);
    const [position] = session.positions;
    for await (const id of session.stream({ ...options, maxTokens: 1 }))
      expect(id).toBe(whole[position! - 5]);
  }
  session.destroy();
});

test("logits asked for in the middle of a stream follow the token that came out last", async () => {
  const session = await mamba.session({ chunk: 8 });
  const other = await mamba.session({ chunk: 8 });
  await session.prefill(prompt(5));
  await other.prefill(prompt(5));
  const options = { temperature: 1, seed: 9 };
  let taken = 0;
  for await (const id of session.stream({ ...options, maxTokens: 12 })) {
    const found = await session.logits();
    for await (const same of other.stream({ ...options, maxTokens: 1 })) expect(id).toBe(same);
    expect(found, `after token ${taken++}`).toEqual(await other.logits());
  }
  session.destroy();
  other.destroy();
});

test("a session destroyed in the middle of a call leaves nothing, and the call says so", async () => {
  const session = await llama.session({ chunk: 8 });
  await session.prefill(prompt(5));
  const stream = session.stream();
  await stream.next();
  const pending = [stream.next(), session.reserve(5000), session.logits()];
  const said = Promise.allSettled(pending);
  await Promise.resolve();
  session.destroy();
  for (const outcome of await said)
    if (outcome.status === "rejected") expect(String(outcome.reason)).toContain("the session was destroyed");
  expect((await said).map(({ status }) => status)).toContain("rejected");
  expect(total(engine.memory())).toBe(weights);
});

test("an empty prompt feeds nothing", async () => {
  const session = await mamba.session({ chunk: 8 });
  await session.prefill([]);
  await session.prefill(prompt(3));
  await session.prefill([[]]);
  expect(session.positions).toEqual([3]);
  session.destroy();
});

test("a stream runs to the last token that fits, and a full one does not end the others", async () => {
  const options = { chunk: 8, streams: 2 };
  const limited = await createEngine({ maxBytes: total(await llama.predict(options, 256)) });
  const model = await limited.load(golden("llama"), { tune: "off" });
  const session = await model.session(options);
  await session.prefill([prompt(200), prompt(20)]);
  const run = async (b: number, maxTokens?: number) => {
    for await (const _ of session.streams[b]!.stream(maxTokens === undefined ? {} : { maxTokens }));
  };
  const [full, other] = await Promise.allSettled([run(0), run(1, 150)]);
  expect(String((full as PromiseRejectedResult).reason)).toContain("the longest that fits is 256 tokens");
  expect(other.status).toBe("fulfilled");
  expect(session.positions).toEqual([256, 170]);
  limited.destroy();
});

test("a prefill whose logits find no room has fed the chunk that it ran", async () => {
  const options = { chunk: 64, allLogits: true };
  const limited = await createEngine({ maxBytes: total(await mamba.predict(options)) + 4096 });
  const model = await limited.load(golden("mamba"), { tune: "off" });
  const session = await model.session(options);
  await expect(session.prefillLogits(prompt(64))).rejects.toThrow("maxBytes");
  expect(session.positions).toEqual([64]);
  const whole = await mamba.session({ chunk: 64 });
  await whole.prefill(prompt(64));
  expect(await session.logits()).toEqual(await whole.logits());
  whole.destroy();
  limited.destroy();
});
