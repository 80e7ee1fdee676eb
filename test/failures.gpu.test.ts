// What goes wrong on a device: each is one typed error, and nothing is left behind.

import { afterEach, expect, test } from "vitest";
import { DeviceLostError, OutOfMemoryError, UsageError } from "../engine/errors.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { total } from "../engine/memory.ts";
import { createEngine, type Engine, type EngineOptions } from "../models/engine.ts";
import { TensorError } from "../models/safetensors.ts";
import { filesSource, urlSource } from "../models/source.ts";

const golden = (name: string) => urlSource(new URL(`/test/goldens/${name}/`, location.href));
const engines: Engine[] = [];
const open = async (options: EngineOptions = {}) => {
  const engine = await createEngine(options);
  engines.push(engine);
  return engine;
};
afterEach(() => {
  for (const engine of engines.splice(0)) engine.destroy();
});

test("a lost device rejects what is in flight and what comes later with one typed error; another engine works", async () => {
  const engine = await open();
  const model = await engine.load(golden("mamba"), { tune: "off" });
  const session = await model.session({ chunk: 8 });
  await session.prefill([1, 2, 3]);
  const stream = session.stream();
  await stream.next();
  const inFlight = (async () => {
    for await (const _ of stream);
  })();
  (engine.machine as GpuMachine).device.destroy();
  await expect(inFlight).rejects.toThrow(DeviceLostError);
  await expect(session.prefill([1])).rejects.toThrow(/GPU device was lost .*create a new engine/);
  await expect(model.session()).rejects.toThrow(DeviceLostError);

  const next = await open();
  const reloaded = await next.load(golden("mamba"), { tune: "off" });
  const fresh = await reloaded.session({ chunk: 8 });
  await fresh.prefill([1, 2, 3]);
  for await (const id of fresh.stream({ maxTokens: 3 })) expect(id).toBeLessThan(64);
});

test("weights, sessions and contexts past maxBytes are refused before they are allocated", async () => {
  const small = await open({ maxBytes: 50_000 });
  await expect(small.load(golden("llama"), { tune: "off" })).rejects.toThrow(OutOfMemoryError);
  expect(total(small.memory())).toBe(0);

  const probe = await open();
  const weights = total((await probe.load(golden("llama"), { tune: "off" })).loaded.machine.live());
  const engine = await open({ maxBytes: weights + 10_000 });
  const model = await engine.load(golden("llama"), { tune: "off" });
  await expect(model.session({ chunk: 64 })).rejects.toThrow(
    /a session of 1 streams of llama asks .* held, the limit/,
  );
  expect(total(engine.memory())).toBe(weights);
});

test("a context that does not fit says the longest that does, and what was there goes on", async () => {
  const probe = await open();
  const options = { chunk: 8 };
  const needed = total(await (await probe.load(golden("llama"), { tune: "off" })).predict(options, 512));
  const engine = await open({ maxBytes: needed });
  const model = await engine.load(golden("llama"), { tune: "off" });
  const session = await model.session(options);
  await session.prefill([1, 2, 3]);
  const held = total(engine.memory());
  await expect(session.reserve(5000)).rejects.toThrow(
    /a context of 5000 tokens does not fit: .*the longest that fits is 512 tokens/,
  );
  expect(total(engine.memory())).toBe(held);
  await session.reserve(512);
  for await (const id of session.stream({ maxTokens: 3 })) expect(id).toBeLessThan(64);
  expect(session.positions).toEqual([6]);
});

test("a checkpoint that does not fit its config leaves nothing allocated", async () => {
  const engine = await open();
  const url = (file: string) => new URL(`/test/goldens/llama/${file}`, location.href);
  const config = (await (await fetch(url("config.json"))).json()) as Record<string, unknown>;
  const weights = await (await fetch(url("model.safetensors"))).blob();
  const files = (change: Record<string, unknown>) => [
    new File([JSON.stringify({ ...config, ...change })], "config.json"),
    new File([weights], "model.safetensors"),
  ];
  await expect(engine.load(filesSource(files({ intermediate_size: 96 })), { tune: "off" })).rejects.toThrow(
    TensorError,
  );
  expect(total(engine.memory())).toBe(0);
  await expect(engine.load(filesSource(files({ num_hidden_layers: 1 })), { tune: "off" })).rejects.toThrow(
    /layers\.1/,
  );
  expect(total(engine.memory())).toBe(0);
});

test("sessions refuse what they cannot do, in a sentence", async () => {
  const engine = await open();
  const model = await engine.load(golden("gru"), { tune: "off" });
  await expect(model.session({ streams: 0 })).rejects.toThrow(
    "streams is 0; a whole number from 1 is wanted",
  );
  const session = await model.session({ chunk: 8 });
  const first = async (options: object) => {
    for await (const _ of session.stream(options)) return;
  };
  await expect(first({})).rejects.toThrow("holds no tokens yet");
  await expect(session.prefill([1, 64])).rejects.toThrow(
    "prompt 0: token 1 is 64, outside the vocabulary of 64",
  );
  await expect(session.prefill([1, 2.5])).rejects.toThrow(UsageError);
  expect(session.positions, "nothing of a bad prompt is fed").toEqual([0]);
  await session.prefill([1, 2]);
  for (const [options, message] of [
    [{ temperature: -1 }, "temperature is -1; a number from 0 is wanted"],
    [{ topP: 0 }, "topP is 0; a number above 0 and up to 1 is wanted"],
    [{ topK: 1.5 }, "topK is 1.5; a whole number from 0 is wanted"],
    [{ seed: -3 }, "seed is -3; a whole number from 0 below 2^32 is wanted"],
    [{ maxTokens: Number.NaN }, "maxTokens is NaN; a number from 0 is wanted"],
  ] as const) {
    await expect(first(options)).rejects.toThrow(message);
  }
  await expect(session.prefillLogits([1])).rejects.toThrow("allLogits");
  const other = await (await engine.load(golden("lstm"), { tune: "off" })).session({ chunk: 8 });
  await expect(other.restore(await session.snapshot())).rejects.toThrow(
    "the snapshot is of 1 streams of gru, this session has 1 of lstm",
  );
  session.destroy();
  await expect(session.prefill([1])).rejects.toThrow("destroyed");
});
