// Weights and pipelines arrive together, on Dawn in Node.

import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { dawnInNode } from "../bench/node.ts";
import { ShaderError } from "../engine/errors.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { total } from "../engine/memory.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import type { Source } from "../models/source.ts";
import { project } from "./tools/command.ts";
import { goldens } from "./tools/folders.ts";

const golden = (name: string): Source => directorySource(join(project, `test/goldens/${name}`));
const ids = (n: number) => Array.from({ length: n }, (_, i) => i % 50);

let gpu: GPU;
let unheard: unknown[];
const hear = (reason: unknown) => unheard.push(reason);

beforeAll(async () => {
  ({ gpu } = await dawnInNode({ software: true }));
  process.on("unhandledRejection", hear);
});
afterAll(() => {
  process.off("unhandledRejection", hear);
});
beforeEach(() => {
  unheard = [];
});

async function open(): Promise<{ engine: Engine; device: GPUDevice }> {
  const engine = await createEngine({ gpu });
  onTestFinished(() => engine.destroy());
  return { engine, device: (engine.machine as GpuMachine).device };
}

/** Labels of the pipelines that are asked of a device, in order. */
function pipelines(device: GPUDevice): string[] {
  const labels: string[] = [];
  const create = device.createComputePipelineAsync.bind(device);
  device.createComputePipelineAsync = (descriptor) => {
    labels.push(descriptor.label!);
    return create(descriptor);
  };
  return labels;
}

test.each(goldens)("%s: all that a first prompt runs is compiled when the model is loaded", async (name) => {
  const { engine, device } = await open();
  const compiled = pipelines(device);
  const sizes = { streams: 2, chunk: 8 };
  const model = await engine.load(golden(name), { tune: "off", ...sizes, prompt: 21 });
  const loaded = compiled.length;
  expect(loaded).toBeGreaterThan(5);
  const session = await model.session(sizes);
  await session.prefill([ids(21), ids(21)]);
  await Promise.all(
    session.streams.map(async (stream) => {
      for await (const _ of stream.stream({ maxTokens: 1 }));
    }),
  );
  expect(compiled.slice(loaded)).toEqual([]);
  expect(new Set(compiled).size, "each once").toBe(compiled.length);
});

test("pipelines are compiled while the weights are on their way", async () => {
  const { engine, device } = await open();
  const compiled = pipelines(device);
  const source = golden("llama");
  const seen: number[] = [];
  const read: Source["read"] = (file, begin, end) => {
    seen.push(compiled.length);
    return source.read(file, begin, end);
  };
  await engine.load({ ...source, read }, { tune: "off", chunk: 8, prompt: 8 });
  expect(seen[0], "while the configuration is read").toBe(0);
  expect(seen.at(-1), "before the last tensor is read").toBe(compiled.length);
});

test("weights that are missing end the load while pipelines compile: nothing is left, nothing unheard", async () => {
  const { engine } = await open();
  const source = golden("llama");
  let reads = 0;
  const read: Source["read"] = async (file, begin, end) => {
    if (++reads > 8) throw new Error("the cable was pulled");
    return source.read(file, begin, end);
  };
  await expect(engine.load({ ...source, read }, { tune: "off", chunk: 8 })).rejects.toThrow(
    "the cable was pulled",
  );
  expect(total(engine.memory())).toBe(0);
  await engine.load(source, { tune: "off", chunk: 8 });
  expect(unheard).toEqual([]);
});

test.each(["alone", "beside missing weights"])(
  "a pipeline that does not compile, %s, ends the load: nothing is left, nothing unheard",
  async (how) => {
    const { engine, device } = await open();
    const create = device.createShaderModule.bind(device);
    device.createShaderModule = (descriptor) =>
      create({ ...descriptor, code: `${descriptor.code}\nnonsense` });
    const source = golden("gru");
    let reads = 0;
    const read: Source["read"] = async (file, begin, end) => {
      if (how !== "alone" && ++reads > 8) {
        // the pipelines fail first
        await new Promise((resolve) => setTimeout(resolve, 200));
        throw new Error("the cable was pulled");
      }
      return source.read(file, begin, end);
    };
    const loading = engine.load({ ...source, read }, { tune: "off", chunk: 8 });
    if (how === "alone") await expect(loading).rejects.toThrow(ShaderError);
    else await expect(loading).rejects.toThrow("the cable was pulled");
    expect(total(engine.memory())).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(unheard).toEqual([]);
  },
);

test("an engine that is destroyed while pipelines compile ends the load with one error", async () => {
  const { engine, device } = await open();
  const source = golden("gru");
  let reads = 0;
  const read: Source["read"] = async (file, begin, end) => {
    if (++reads === 8) device.destroy();
    return source.read(file, begin, end);
  };
  await expect(engine.load({ ...source, read }, { tune: "off", chunk: 8 })).rejects.toThrow(
    /GPU device was lost/,
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(unheard).toEqual([]);
});

test("a prompt past the longest context does not end the load: the session says it", async () => {
  const { engine } = await open();
  const model = await engine.random(
    {
      model_type: "llama",
      hidden_size: 16,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 1,
      vocab_size: 8,
      max_position_embeddings: 32,
      rms_norm_eps: 1e-5,
      hidden_act: "silu",
    },
    1,
    { tune: "off", chunk: 8, prompt: 2 ** 30 },
  );
  expect(model.parameters).toBeGreaterThan(0);
});
