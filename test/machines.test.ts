// The machines that need no GPU, and the session's parts that they share with it.

import { beforeAll, describe, expect, test } from "vitest";
import { readGolden } from "../bench/golden.ts";
import { compare } from "../bench/kernels/kernelCase.ts";
import { CpuMachine } from "../engine/cpu.ts";
import { CURSOR, CURSOR_COLUMNS, cursorWords } from "../engine/cursor.ts";
import { OutOfMemoryError } from "../engine/errors.ts";
import { defineKernel, paged, read, share, update, write } from "../engine/kernel.ts";
import { laySession, layTree, Slabs } from "../engine/layout.ts";
import { Ledger } from "../engine/ledger.ts";
import { VariantTable } from "../engine/machine.ts";
import { total } from "../engine/memory.ts";
import { kv, pagedKv } from "../engine/model.ts";
import { growPages, PagedTensor } from "../engine/pages.ts";
import { record } from "../engine/plan.ts";
import { Session } from "../engine/session.ts";
import { Shadow } from "../engine/shadow.ts";
import { bytesOf, noBytes, rows, type Storage, storedBytes, type Tensor } from "../engine/tensor.ts";
import { Workspace } from "../engine/workspace.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import { goldens } from "./tools/folders.ts";

const golden = (name: string) => directorySource(new URL(`goldens/${name}`, import.meta.url).pathname);

let cpu: Engine;
beforeAll(async () => {
  cpu = await createEngine({ machine: "cpu" });
});

describe.each(goldens)("%s with no GPU at all", (name) => {
  test("the CPU machine alone gives the golden's logits and continues as the golden does", async () => {
    const source = golden(name);
    const { B, inputs, logits, greedy } = await readGolden(source);
    const model = await cpu.load(source);
    const session = await model.session({ streams: B, chunk: 64, allLogits: true });
    const found = (await session.prefillLogits(inputs)).flatMap((part) => [...part]);
    expect(compare(found, logits).nmse).toBeLessThan(1e-9);
    const continued = await Promise.all(
      session.streams.map(async (stream, b) => {
        const ids: number[] = [];
        for await (const id of stream.stream({ maxTokens: greedy[b]!.length })) ids.push(id);
        return ids;
      }),
    );
    expect(continued).toEqual(greedy);
    session.destroy();
    model.destroy();
    expect(cpu.memory()).toEqual(noBytes());
  });

  test("a session asks of the CPU machine what the ledger says, at every length", async () => {
    const model = await cpu.load(golden(name));
    const options = { streams: 3, chunk: 16 };
    const session = await model.session(options);
    for (const length of [0, 1, 256, 257, 2049, 4097]) {
      await session.reserve(length);
      const predicted = await model.predict(options, length);
      expect(session.memory(), `${length} tokens`).toEqual(predicted);
      expect(cpu.memory(), `${length} tokens, held`).toEqual(predicted);
    }
    session.destroy();
    model.destroy();
    expect(total(cpu.memory())).toBe(0);
  });

  test("the ledger counts a step's dispatches and FLOPs, without running it", async () => {
    const model = await cpu.load(golden(name));
    const ledger = new Ledger(new VariantTable("gpu", new Set()));
    const session = await Session.open({ ...model.loaded, machine: ledger }, { chunk: 8 });
    await session.prefill([1, 2, 3, 4, 5, 6, 7, 8]);
    const { flops, bytesMoved, dispatches } = ledger;
    expect(dispatches).toBeGreaterThan(0);
    // an operation a weight and token, at the least; the embedding is only read
    const matrices = model.parameters - model.vocabulary * 36;
    expect(flops).toBeGreaterThan(8 * matrices);
    expect(bytesMoved).toBeGreaterThan(0);
    const step = session.dispatchesPerToken;
    for await (const _ of session.stream({ maxTokens: 1 }));
    expect(ledger.dispatches - dispatches).toBe(step);
    session.destroy();
    expect(ledger.live()).toEqual(noBytes());
    model.destroy();
  });
});

test("a layer of llama takes eight dispatches a token, as long as one dispatch reads all of its cache", async () => {
  const dispatches = async (layers: number, tokens: number) => {
    const config = {
      model_type: "llama",
      vocab_size: 64,
      hidden_size: 32,
      intermediate_size: 88,
      num_hidden_layers: layers,
      num_attention_heads: 4,
    };
    const model = await cpu.random(config, 1);
    const ledger = new Ledger(new VariantTable("cpu", new Set()));
    const session = await Session.open({ ...model.loaded, machine: ledger }, { chunk: 1 });
    await session.reserve(tokens);
    const count = session.dispatchesPerToken;
    session.destroy();
    model.destroy();
    return count;
  };
  const aLayer = async (tokens: number) => (await dispatches(2, tokens)) - (await dispatches(1, tokens));
  // norm, queries, keys and values; scores; softmax; sums; output; gate and up; down: where there are splits, their sums too
  expect(await aLayer(1)).toBe(7);
  expect(await aLayer(256)).toBe(7);
  expect(await aLayer(257)).toBe(8);
  expect(await aLayer(512)).toBe(8);
});

describe("the cursor", () => {
  test("holds a row a stream: where it stands, what it may take, how it draws", () => {
    const settings = [
      { seed: 7, temperature: 0.5, topK: 40, topP: 0.9, minP: 0.05 },
      { seed: 2 ** 32 - 1, temperature: 0, topK: 0, topP: 1, minP: 0 },
    ];
    const words = cursorWords(8, [131_071, 5], [3, 100], (b) => settings[b]!);
    expect(words).toHaveLength(2 * CURSOR_COLUMNS);
    expect([...words.subarray(0, 4)]).toEqual([131_071, 3, 3, 7]);
    expect([...words.subarray(8, 12)]).toEqual([5, 8, 100, 2 ** 32 - 1]);
    const floats = new Float32Array(words.buffer);
    expect(floats[CURSOR.temperature]).toBe(0.5);
    expect(words[CURSOR.topK]).toBe(40);
    expect(floats[CURSOR.topP]).toBe(Math.fround(0.9));
    expect(floats[CURSOR.minP]).toBe(Math.fround(0.05));
    expect([...floats.subarray(12, 13), words[13], floats[14], floats[15]]).toEqual([0, 0, 1, 0]);
  });
});

describe("slabs", () => {
  test("set tensors at multiples of 256 bytes in as few storages as may be", () => {
    const { tensors, storages } = layTree({ a: rows(3), b: [rows(100), rows(2, 2)] }, "weights", "w");
    expect(storages).toEqual([{ category: "weights", label: "w 0", bytes: 768 + 32 }]);
    expect([tensors.a.offset, tensors.b[0].offset, tensors.b[1].offset]).toEqual([0, 256, 768]);
    expect(tensors.b[1].label).toBe("b.1");
  });

  test("begin another storage past 256 MiB; one tensor is never split", () => {
    const slabs = new Slabs("weights", "w");
    const half = rows(2 ** 25);
    for (let i = 0; i < 3; i++) slabs.add(`${i}`, half);
    slabs.add("large", rows(2 ** 27));
    const { tensors, storages } = slabs.close();
    expect(storages.map((s) => s.bytes / 2 ** 20)).toEqual([256, 128, 512]);
    expect(tensors.map((t) => storages.indexOf(t.storages[0]!))).toEqual([0, 0, 1, 2]);
  });
});

test("a layout finds the keys and values among twins and state", async () => {
  const model = await cpu.load(golden("lstm"));
  const { architecture, config, weights } = model.loaded;
  const withCache = {
    ...architecture,
    state: (c: unknown, B: number) => ({
      ring: kv(rows(B, 3)),
      own: architecture.state(c, B),
      paged: pagedKv(1, rows(B, 0, 2)),
    }),
    forward() {},
    fillCache() {},
  };
  const { carried } = laySession(withCache, config, weights, { B: 2, chunk: 1, allLogits: false });
  expect(carried.kv.map(({ tensor }) => tensor.label)).toEqual(["ring", "paged"]);
  model.destroy();
});

describe("a shadow", () => {
  test("gives back what was overwritten, whichever side of the twins it was taken on", async () => {
    const machine = new CpuMachine();
    const model = await cpu.load(golden("lstm"));
    const { architecture, config, weights } = model.loaded;
    const layout = laySession(architecture, config, weights, { B: 2, chunk: 1, allLogits: false });
    const { carried, io } = layout;
    const shadow = new Shadow(layout, { category: "scratch", label: "for roll-back" });
    await machine.allocate([...carried.fixed, ...carried.sides.flat(), ...io.storages, ...shadow.storages]);
    expect(() => shadow.putBack(machine)).toThrow("no shadow was taken");
    const fill = (parity: 0 | 1, by: number) => {
      for (const [, t] of carried.tensors(parity))
        machine.write(t, new Float32Array(t.spec.shape.reduce((a, b) => a * b)).fill(by));
    };
    for (const parity of [0, 1] as const) {
      fill(parity, 5 + parity);
      shadow.take(machine, [3, 4], parity);
      fill(0, 99);
      fill(1, 99);
      expect(shadow.putBack(machine)).toEqual({ positions: [3, 4], parity });
      for (const [path, t] of carried.tensors(parity))
        expect(new Set(await machine.read(t)), path).toEqual(new Set([5 + parity]));
    }
    model.destroy();
  });
});

describe("a workspace", () => {
  const scratchy = defineKernel({
    name: "scratchy",
    consts: ["D"],
    params: ["offset"],
    bindings: { x: read("f32", "D"), y: write("f32", "D") },
    variants: {
      two: {
        suits: "any",
        scratch: { sums: ["D"], tops: [2] },
        passes: [
          { workgroup: 1, grid: ({ D }) => D, writes: ["sums", "tops"], wgsl: "x sums tops params" },
          { workgroup: 1, grid: () => 1, repeat: () => 3, wgsl: "sums y params.step" },
        ],
      },
    },
    reference() {},
    flops: ({ D }) => D,
    cases: [],
  });
  const append = defineKernel({
    name: "append",
    consts: ["D"],
    params: ["N"],
    bindings: { x: read("f32", "D"), kv: paged("N", update("f32", "N", "D")) },
    variants: {
      plain: { suits: "any", passes: [{ overPages: true, workgroup: 1, grid: () => 1, wgsl: "x kv0" }] },
    },
    reference() {},
    flops: () => 0,
    cases: [],
  });
  const vector = (label: string, D: number): Tensor => ({
    label,
    spec: rows(D),
    offset: 0,
    storages: [{ category: "state", label, bytes: storedBytes(rows(D)) }],
  });

  test("sizes scratch for the largest op, and shares it and equal params between all", async () => {
    const ledger = new Ledger(new VariantTable("cpu", new Set()));
    const plan = record("step", (m) => {
      for (const [D, offset] of [
        [5, 1],
        [33, 1],
        [8, 2],
      ] as const)
        m.run(scratchy, { x: vector("x", D), y: vector("y", D) }, { D, offset });
    });
    const workspace = new Workspace(ledger, [plan]);
    await workspace.open();
    // [33] and [2], padded; params (offset 1 or 2) and step 0 to 2, each in 256 bytes
    expect(bytesOf(workspace.storages)).toEqual({ ...noBytes(), scratch: 4 * 36 + 16, uniform: 8 * 256 });
    expect(ledger.live()).toEqual(bytesOf(workspace.storages));
    const run = workspace.run(plan, { first: 0, last: 0 });
    expect(run.dispatches).toHaveLength(3 * 4);
    expect(run.dispatches.map((d) => d.params).slice(0, 4)).toEqual([[1], [1, 0], [1, 1], [1, 2]]);
    expect(new Set(run.dispatches.map((d) => d.uniform!.offset)).size).toBe(8);
    expect(run.dispatches[1]!.bindings.map((b) => b.bytes)).toEqual([32, 32]);
    ledger.submit([run, run]);
    expect(ledger).toMatchObject({
      dispatches: 24,
      flops: 2 * (5 + 33 + 8),
      bytesMoved: 2 * 8 * (5 + 33 + 8),
    });
    workspace.destroy();
    expect(ledger.live()).toEqual(noBytes());
  });

  test("lays out only the paged part again when pages come", async () => {
    const ledger = new Ledger(new VariantTable("cpu", new Set()));
    const kv = new PagedTensor("kv", { ...rows(0, 4), pagedAxis: 0 });
    const plan = record("step", (m) => {
      m.run(scratchy, { x: vector("x", 4), y: vector("y", 4) }, { D: 4, offset: 0 });
      m.run(append, { x: vector("x", 4), kv }, { D: 4, N: 0 });
    });
    const workspace = new Workspace(ledger, [plan]);
    await workspace.open();
    const grow = (length: number) => growPages(ledger, [kv], length, () => workspace.repage());
    await grow(200);
    expect(kv.pages).toEqual([256]);
    const first = workspace.run(plan, { first: 0, last: 9 });
    expect(workspace.run(plan, { first: 10, last: 255 }), "the same pages").toBe(first);
    await grow(257);
    const second = workspace.run(plan, { first: 250, last: 260 });
    for (let i = 0; i < 4; i++) expect(second.dispatches[i]).toBe(first.dispatches[i]);
    expect(second.dispatches.slice(4).map((d) => d.params)).toEqual([
      [512, 0, 1],
      [512, 256, 1],
    ]);
    expect(ledger.live().kv).toBe(2 * 256 * 16);
  });

  test("what finds no room on the way back either is laid out again before the next run", async () => {
    const ledger = new Ledger(new VariantTable("cpu", new Set()));
    const kv = new PagedTensor("kv", { ...rows(0, 4), pagedAxis: 0 });
    const sum = defineKernel({
      name: "sum",
      consts: ["D"],
      params: ["N"],
      bindings: { kv: paged("N", read("f32", "N", "D")), y: write("f32", "D") },
      variants: {
        plain: {
          suits: "any",
          scratch: { parts: [share("N", 4)] },
          passes: [
            { overPages: true, workgroup: 1, grid: () => 1, writes: ["parts"], wgsl: "kv0 parts params" },
            { workgroup: 1, grid: () => 1, wgsl: "parts y" },
          ],
        },
      },
      reference() {},
      flops: () => 0,
      cases: [],
    });
    const plan = record("step", (m) => m.run(sum, { kv, y: vector("y", 4) }, { D: 4, N: 0 }));
    const workspace = new Workspace(ledger, [plan]);
    await workspace.open();
    await growPages(ledger, [kv], 1, () => workspace.repage());
    const held = ledger.live();
    const dispatches = workspace.run(plan, { first: 0, last: 0 }).dispatches.map((d) => d.bindings);
    const allocate = ledger.allocate.bind(ledger);
    ledger.allocate = async (storages) => {
      if (storages.some((s) => s.category === "scratch")) throw new OutOfMemoryError("no more", 1, 1);
      return allocate(storages);
    };
    const grown = growPages(ledger, [kv], 257, () => workspace.repage());
    await expect(grown).rejects.toThrow("the longest that fits is 256 tokens (no more)");
    await expect(workspace.settle()).rejects.toThrow(OutOfMemoryError);
    ledger.allocate = allocate;
    await workspace.settle();
    expect(ledger.live()).toEqual(held);
    const again = workspace.run(plan, { first: 0, last: 0 }).dispatches.map((d) => d.bindings);
    expect(again).toEqual(dispatches);
  });

  test("a page that cannot be had leaves all as it was, and says what fits", async () => {
    const machine = new CpuMachine();
    const limited: CpuMachine = Object.create(machine);
    limited.allocate = async (storages: readonly Storage[]) => {
      const asked = total(bytesOf(storages));
      if (total(machine.live()) + asked > 10_000)
        throw new OutOfMemoryError("no more", asked, total(machine.live()));
      return machine.allocate(storages);
    };
    limited.free = (storages) => machine.free(storages);
    const kv = new PagedTensor("kv", { ...rows(0, 4), pagedAxis: 0 });
    await growPages(limited, [kv], 100, async () => {});
    await expect(growPages(limited, [kv], 2000, async () => {})).rejects.toThrow(
      "a context of 2000 tokens does not fit: to go past 512 asks 4.00 KiB with 8.00 KiB held; the longest that fits is 512 tokens (no more)",
    );
    expect(kv.pages).toEqual([256]);
    expect(total(machine.live())).toBe(4096);
  });
});
