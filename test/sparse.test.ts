// Patterns of attention without a GPU: the mask by counting, and whole models on the CPU machine against a dense model
// that knows the pattern by another definition.

import { beforeAll, describe, expect, test } from "vitest";
import { compare } from "../bench/kernels/kernelCase.ts";
import { UsageError } from "../engine/errors.ts";
import { Ledger } from "../engine/ledger.ts";
import { VariantTable } from "../engine/machine.ts";
import { Session } from "../engine/session.ts";
import { keysRead, keysSeen, type Pattern, pairsScored, sees } from "../kernels/attention/pattern.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import { denseLogits, rules } from "./tools/dense.ts";

const llama = directorySource(new URL("goldens/llama", import.meta.url).pathname);
const prompt = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => (i * i * 7 + i * 13 * seed + seed) % 64);

const positions = (n: number) => Array.from({ length: n }, (_, i) => i);

describe.each<Pattern>([
  { kind: "full" },
  { kind: "materialised" },
  { kind: "window", window: 7 },
  { kind: "local", window: 1 },
  { kind: "local", window: 30 },
  { kind: "sinks", sinks: 4, window: 9 },
  { kind: "sinks", sinks: 1, window: 1 },
  { kind: "strided", stride: 1 },
  { kind: "strided", stride: 3 },
  { kind: "strided", stride: 16 },
  { kind: "strided", stride: 200 },
])("the mask of $kind %j", (pattern) => {
  test("a query sees itself, nothing after it, and as many keys as the formula says", () => {
    for (const query of positions(100)) {
      const keys = positions(120).filter((key) => sees(pattern, query, key));
      expect(keys.at(-1)).toBe(query);
      expect(keysSeen(pattern, query), `at ${query}`).toEqual(keys);
      expect(keys, `at ${query}`).toHaveLength(pairsScored(pattern, query));
    }
  });

  test("a chunk's queries read the keys that one of them sees", () => {
    for (const first of [0, 1, 5, 31, 64, 97])
      for (const tokens of [1, 2, 3, 8, 40]) {
        const read = positions(first + tokens).filter((key) =>
          positions(tokens).some((t) => sees(pattern, first + t, key)),
        );
        expect(keysRead(pattern, first, tokens), `${tokens} from ${first}`).toBe(read.length);
      }
  });
});

const cases = [
  { pattern: { pattern: "materialised" }, name: "materialised", rule: rules.everything() },
  { pattern: { pattern: "local", window: 37 }, name: "local", rule: rules.last(37) },
  { pattern: { pattern: "strided", stride: 13 }, name: "strided", rule: rules.strided(13) },
  { pattern: { pattern: "sinks", sinks: 3, window: 21 }, name: "sinks", rule: rules.sinks(3, 21) },
];

let cpu: Engine;
beforeAll(async () => {
  cpu = await createEngine({ machine: "cpu" });
});
const loaded = (longtape_attention: object) => cpu.load(llama, { overlay: { longtape_attention } });

describe.each(cases)("$name", ({ pattern, name, rule }) => {
  test("the CPU machine's logits are the dense model's, whatever the chunks", async () => {
    const model = await loaded(pattern);
    expect(model.name).toBe(name);
    const ids = prompt(70, 1);
    const wanted = await denseLogits(llama, ids, rule);
    for (const chunk of [64, 5, 1]) {
      const session = await model.session({ chunk, allLogits: true });
      const [found] = await session.prefillLogits(ids);
      expect(compare(found!, wanted).nmse, `chunks of ${chunk}`).toBeLessThan(1e-11);
      session.destroy();
    }
    model.destroy();
  });

  test("a session asks what the ledger says, at every length", async () => {
    const model = await loaded(pattern);
    for (const streams of [1, 3]) {
      const options = { streams, chunk: 16 };
      const session = await model.session(options);
      for (const length of [0, 1, 256, 257, 600]) {
        await session.reserve(length);
        expect(session.memory(), `${length} tokens`).toEqual(await model.predict(options, length));
      }
      session.destroy();
    }
    model.destroy();
  });
});

test("a stream that sinks and window hold is the full model's, bit for bit", async () => {
  const [sinks, full] = [await loaded({ pattern: "sinks", sinks: 3, window: 21 }), await cpu.load(llama)];
  const ids = prompt(25, 2);
  const logits = async (model: typeof full) => {
    const session = await model.session({ chunk: 8, allLogits: true });
    const [found] = await session.prefillLogits(ids);
    session.destroy();
    return found!;
  };
  const [found, wanted] = [await logits(sinks), await logits(full)];
  const V = full.vocabulary;
  expect(found.subarray(0, 24 * V)).toEqual(wanted.subarray(0, 24 * V));
  expect(found.subarray(24 * V)).not.toEqual(wanted.subarray(24 * V));
});

test("a cache of sinks is filled as it is read: by position, in however many calls", async () => {
  const model = await loaded({ pattern: "sinks", sinks: 3, window: 21 });
  const filled = async (...calls: number[]) => {
    const session = await model.session({ chunk: 8 });
    for (const tokens of calls) await session.fillCache(tokens, 7);
    await session.prefill([5]);
    const logits = await session.logits();
    session.destroy();
    return logits;
  };
  // the first three tokens, and what the window of token 100 keeps
  const whole = await filled(100);
  expect(await filled(1, 1, 78, 20)).toEqual(whole);
  expect(await filled(99)).not.toEqual(whole);
  model.destroy();
});

test("sinks keep as many slots as they say, in whole tiles", async () => {
  const bytes = async (sinks: number, window: number) => {
    const model = await loaded({ pattern: "sinks", sinks, window });
    const { kv } = await model.predict({ streams: 3 }, 5000);
    model.destroy();
    // two layers of two heads of eight, keys and values, three streams
    return kv / (2 * 2 * 2 * 8 * 4 * 3);
  };
  expect(await bytes(4, 60)).toBe(64);
  expect(await bytes(3, 21)).toBe(4 + 24);
});

/** FLOPs of one step where a stream stands at `length`. */
async function stepFlops(pattern: object | null, length: number): Promise<number> {
  const model = pattern ? await loaded(pattern) : await cpu.load(llama);
  const ledger = new Ledger(new VariantTable("cpu", new Set()));
  const session = await Session.open({ ...model.loaded, machine: ledger }, { chunk: 512 });
  await session.reserve(length);
  const { flops } = ledger;
  await session.prefill([1]);
  const taken = ledger.flops - flops;
  session.destroy();
  model.destroy();
  return taken;
}

test("a step's work grows with the context for full attention, by a stride less for strided, and not for local", async () => {
  const grown = async (pattern: object | null) =>
    (await stepFlops(pattern, 65_536)) - (await stepFlops(pattern, 4096));
  const full = await grown(null);
  expect(full).toBeGreaterThan(0);
  expect(await grown({ pattern: "materialised" })).toBe(full);
  expect(await grown({ pattern: "strided", stride: 64 })).toBe(full / 64);
  expect(await grown({ pattern: "local", window: 64 })).toBe(0);
  expect(await grown({ pattern: "sinks", sinks: 4, window: 60 })).toBe(0);
});

test("the matrix of scores is asked of the ledger before the machine, which binds so much at once", async () => {
  const model = await loaded({ pattern: "materialised" });
  const before = cpu.memory();
  Object.defineProperty(cpu.machine, "maxBindingBytes", { value: 40 * 2 ** 20, configurable: true });
  // four heads' scores, 16 bytes a pair: 1,536 squared is 36 MiB
  const message =
    /a context of 5000 tokens does not fit: attention\[materialised\].* binds .*, this adapter binds at most 40\.00 MiB at once; the longest that fits is 1536 tokens/;
  const refused = model.predict({}, 5000);
  await expect(refused).rejects.toThrow(message);
  await expect(refused).rejects.toThrow(UsageError);
  expect(cpu.memory()).toEqual(before);
  const session = await model.session({ chunk: 8 });
  await expect(session.reserve(5000)).rejects.toThrow(message);
  expect((await model.predict({}, 1536)).scratch).toBeGreaterThan(36 * 2 ** 20);
  Reflect.deleteProperty(cpu.machine, "maxBindingBytes");
  session.destroy();
  model.destroy();
});
