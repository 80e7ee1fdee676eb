// Snapshots as bytes: what is malformed is refused in a sentence. And which model a snapshot is of.

import { beforeAll, describe, expect, test } from "vitest";
import { Fingerprint } from "../engine/fingerprint.ts";
import type { Snapshot } from "../engine/snapshot.ts";
import { deserialise, serialise } from "../engine/snapshotFile.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine, type Engine } from "../models/engine.ts";

const snapshot: Snapshot = {
  version: 1,
  architecture: "llama",
  model: "0123456789abcdef",
  positions: [3, 2 ** 40],
  drawable: [true, false],
  tensors: new Map<string, Float32Array | Uint32Array>([
    ["layers.0", Float32Array.of(1, -2.5, Number.NaN)],
    ["größe", Uint32Array.of(2 ** 32 - 1)],
    ["nothing", new Float32Array()],
  ]),
  bytes: 16,
};

test("a snapshot comes back from its bytes, wherever they lie", () => {
  const bytes = serialise(snapshot);
  expect(bytes.length % 4).toBe(0);
  expect(deserialise(bytes)).toEqual(snapshot);
  const shifted = new Uint8Array(bytes.length + 3);
  shifted.set(bytes, 3);
  expect(deserialise(shifted.subarray(3))).toEqual(snapshot);
  // what readFile gives
  expect(deserialise(Buffer.from(bytes))).toEqual(snapshot);
});

describe("bytes that are no snapshot", () => {
  const good = serialise(snapshot);
  const changed = (change: (view: DataView) => void) => {
    const bytes = good.slice();
    change(new DataView(bytes.buffer));
    return bytes;
  };
  const headed = (header: unknown, data = 0) => {
    const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
    const bytes = new Uint8Array(16 + json.length + data);
    bytes.set(good.subarray(0, 12));
    new DataView(bytes.buffer).setUint32(12, json.length, true);
    bytes.set(json, 16);
    return bytes;
  };
  const header = {
    architecture: "gru",
    model: "ab",
    positions: [1],
    drawable: [true],
    tensors: [] as unknown[],
  };
  const entry = { name: "h", type: "f32", elements: 1 };
  test.each<[string, Uint8Array, string]>([
    ["few", good.subarray(0, 15), "found 15 bytes, wanted at least 16"],
    ["foreign", changed((v) => v.setUint8(0, 77)), 'they start with "Mongtape", wanted "longtape"'],
    ["of another version", changed((v) => v.setUint32(8, 2, true)), "is of version 2, version 1 is wanted"],
    ["with a huge header", changed((v) => v.setUint32(12, 2 ** 31, true)), "wanted at most 16777216"],
    ["with a long header", changed((v) => v.setUint32(12, 9999, true)), "the header claims 9999 bytes, "],
    ["with no JSON", headed("{no"), "the header is not JSON in UTF-8"],
    ["with a list", headed([]), "the header lacks architecture"],
    [
      "with half a token",
      headed({ ...header, positions: [0.5] }),
      "the header's positions.0 is 0.5, wanted a whole number from 0",
    ],
    [
      "with no stream",
      headed({ ...header, positions: [] }),
      "the header's positions is [], wanted at least one stream",
    ],
    ["with a spare flag", headed({ ...header, drawable: [] }), "drawable has 0 entries, positions has 1"],
    [
      "of f64",
      headed({ ...header, tensors: [{ ...entry, type: "f64" }] }),
      'the header\'s tensors.0.type is "f64", wanted f32 or u32',
    ],
    ["cut short", good.subarray(0, good.length - 4), "the tensors claim 16 bytes, 12 follow the header"],
    ["with a rest", headed(header, 4), "the tensors claim 0 bytes, 4 follow the header"],
    ["with twins", headed({ ...header, tensors: [entry, entry] }, 8), "tensor h is there twice, wanted once"],
  ])("%s", (_, bytes, message) => {
    expect(() => deserialise(bytes)).toThrow(message);
  });
});

describe("a model's hash", () => {
  let cpu: Engine;
  beforeAll(async () => {
    cpu = await createEngine({ machine: "cpu" });
  });
  const config = { model_type: "gru", vocab_size: 9, embedding_size: 4, hidden_size: 8, num_layers: 1 };
  const golden = (name: string, overlay = {}) =>
    cpu.load(directorySource(new URL(`goldens/${name}`, import.meta.url).pathname), { overlay });

  test("is the same for the same checkpoint, another for other weights or another configuration", async () => {
    const models = [
      await cpu.random(config, 1),
      await cpu.random(config, 1),
      await cpu.random(config, 2),
      await golden("mamba"),
      await golden("mamba"),
      await golden("mamba", { layer_norm_epsilon: 0.01 }),
    ];
    const [a, b, c, d, e, f] = models.map((model) => model.hash);
    expect(a).toMatch(/^[0-9a-f]{16}$/);
    expect(b).toBe(a);
    expect(e).toBe(d);
    expect(new Set([a, c, d, f]).size).toBe(4);
    const session = await models[0]!.session({ chunk: 1 });
    const other = await models[2]!.session({ chunk: 1 });
    await session.prefill([1]);
    await expect(other.restore(await session.snapshot())).rejects.toThrow(
      `the snapshot is of the gru model ${a}, this session runs ${c}: the weights or the configuration differ`,
    );
    session.destroy();
    other.destroy();
    for (const model of models) model.destroy();
  });

  test("sees every bit of every tensor, its name and its length, in whatever order they come", () => {
    const of = (...tensors: [string, number[]][]) => {
      const fingerprint = new Fingerprint("x");
      for (const [name, data] of tensors) fingerprint.add(name, Float32Array.from(data));
      return fingerprint.hex;
    };
    const all = [
      of(["a", [1, 2]], ["b", [3]]),
      of(["a", [1, 2]], ["b", [-3]]),
      of(["a", [1, 2.0000002]], ["b", [3]]),
      of(["a", [2, 1]], ["b", [3]]),
      of(["a", [1, 2, 0]], ["b", [3]]),
      of(["a", [1, 2]], ["c", [3]]),
      of(["a", [3]], ["b", [1, 2]]),
      of(["a", [1, 2]]),
      new Fingerprint("y").hex,
    ];
    expect(new Set(all).size).toBe(all.length);
    expect(of(["b", [3]], ["a", [1, 2]])).toBe(all[0]);
  });
});
