// Pages where an adapter binds little at once, and room that two ask for at the same time.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { GpuMachine } from "../engine/gpu.ts";
import { total } from "../engine/memory.ts";
import { race } from "../engine/tune.ts";
import { attention } from "../kernels/attention.ts";
import { createEngine, type Engine } from "../models/engine.ts";

const config = {
  model_type: "llama",
  vocab_size: 64,
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  head_dim: 8,
  intermediate_size: 40,
};
const prompt = (length: number): number[] => Array.from({ length }, (_, i) => (i * i * 7 + i * 13 + 1) % 64);

let engine: Engine;
let narrow: Engine;
beforeAll(async () => {
  engine = await createEngine();
  narrow = await createEngine();
  // a page of 256 slots of two streams takes 64 KiB, one of 512 would take 128
  Object.defineProperty(narrow.machine, "maxBindingBytes", { value: 100 * 1024 });
});
afterAll(() => {
  engine.destroy();
  narrow.destroy();
});

test("pages stop growing at what can be bound, and nothing else changes", async () => {
  const options = { streams: 2, chunk: 128 };
  const run = async (on: Engine) => {
    const model = await on.random(config, 1, { tune: "off" });
    const session = await model.session(options);
    await session.prefill([prompt(4200), prompt(300)]);
    const logits = await session.logits();
    expect(session.memory()).toEqual(await model.predict(options, session.capacity));
    return { model, session, logits, capacity: session.capacity };
  };
  const wide = await run(engine);
  const cut = await run(narrow);
  expect(wide.capacity).toBe(4608);
  expect(cut.capacity).toBe(4352);
  expect(cut.logits).toEqual(wide.logits);
  // a snapshot knows no pages
  const snapshot = await wide.session.snapshot();
  await cut.session.reset();
  await cut.session.restore(snapshot);
  await cut.session.prefill([prompt(3), prompt(2)]);
  await wide.session.prefill([prompt(3), prompt(2)]);
  expect(await cut.session.logits()).toEqual(await wide.session.logits());
  for (const { model, session } of [wide, cut]) {
    session.destroy();
    model.destroy();
  }
});

test("what cannot be bound whatever the pages says the longest context that fits", async () => {
  const model = await narrow.random(config, 1, { tune: "off" });
  // two streams' scores take 16 bytes a slot
  const session = await model.session({ streams: 2, chunk: 8 });
  await expect(session.reserve(10_000)).rejects.toThrow(
    /a context of 10000 tokens does not fit: .* binds at most 100\.00 KiB at once; the longest that fits is \d+ tokens/,
  );
  await session.prefill([prompt(3), prompt(3)]);
  session.destroy();
  model.destroy();
  expect(total(narrow.memory())).toBe(0);
});

test("a cache that is cut off, or another model's, is no snapshot of this session", async () => {
  const model = await engine.random(config, 1, { tune: "off" });
  const session = await model.session({ chunk: 8 });
  await session.prefill(prompt(300));
  const snapshot = await session.snapshot();
  const [name, cache] = [...snapshot.tensors].find(([name]) => name.startsWith("layers.0"))!;
  const changed = (data: Float32Array) => ({
    ...snapshot,
    tensors: new Map([...snapshot.tensors, [name, data]]),
  });
  const data = cache as Float32Array;
  for (const bad of [data.subarray(0, data.length - 1), data.subarray(0, data.length / 2)])
    await expect(session.restore(changed(bad))).rejects.toThrow(
      /the snapshot's layers\.0\.attn has .* wanted/,
    );
  const deeper = { ...snapshot, tensors: new Map([...snapshot.tensors, ["layers.2", data]]) };
  await expect(session.restore(deeper)).rejects.toThrow(
    "the snapshot holds 5 tensors, this session carries 4",
  );
  session.destroy();
  model.destroy();
});

test("two sessions opened at once do not both get the last room", async () => {
  const model = await engine.random(config, 1, { tune: "off" });
  const options = { chunk: 8 };
  const limited = await createEngine({ maxBytes: total(await model.predict(options)) + 1000 });
  const small = await limited.random(config, 1, { tune: "off" });
  const opened = await Promise.allSettled([small.session(options), small.session(options)]);
  expect(opened.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  limited.destroy();
  model.destroy();
});

test("attention over pages is raced at the end of a full cache, though it was recorded over an empty one", async () => {
  const machine = engine.machine as GpuMachine;
  const write = machine.write.bind(machine);
  const cursors: number[][] = [];
  machine.write = (tensor, data) => {
    if (tensor.label === "cursor") cursors.push([...data]);
    write(tensor, data);
  };
  try {
    const kernel = attention({ pattern: "full" });
    const sizes = { B: 1, T: 1, H: 4, K: 2, D: 8, Y: 32, N: 0 };
    const [verdict] = await race(machine, [{ kernel, sizes }]);
    machine.variants.verdicts.delete(verdict!.key);
    expect(cursors).toEqual(
      [kernel.fill!.cursor!({ ...sizes, N: 1024 } as never, Math.random)].map((c) => [...c]),
    );
    expect(cursors[0]).toContain(1023);
  } finally {
    machine.write = write;
  }
});
