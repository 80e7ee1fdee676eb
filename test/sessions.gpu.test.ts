// What holds for every model, on the real adapter: GPU = CPU machine, prefill = steps, streams = single streams, chunked
// = whole, restored = unbroken, stopped early = exactly what was yielded, asked = theory.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compare } from "../bench/kernels/kernelCase.ts";
import { total } from "../engine/memory.ts";
import type { Session } from "../engine/session.ts";
import type { StreamOptions } from "../engine/stream.ts";
import { createEngine, type Engine, type Model } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";
import { goldens, loadModel } from "./tools/folders.ts";
import { hybrids } from "./tools/hybrids.ts";

/** The golden of this name, or a hybrid with seeded weights. */
const open = (on: Engine, name: string): Promise<Model> =>
  loadModel(on, name, (golden) => urlSource(new URL(`/test/goldens/${golden}/`, location.href)));

let engine: Engine;
let cpu: Engine;
beforeAll(async () => {
  engine = await createEngine();
  cpu = await createEngine({ machine: "cpu" });
});
afterAll(() => {
  engine.destroy();
});

/** Ids below 64, the goldens' vocabulary. */
const prompt = (length: number, seed = 1): number[] =>
  Array.from({ length }, (_, i) => (i * i * 7 + i * 13 * seed + seed) % 64);

async function take(session: Session, b: number, options: StreamOptions): Promise<number[]> {
  const ids: number[] = [];
  for await (const id of session.streams[b]!.stream(options)) ids.push(id);
  return ids;
}

/** Opens, runs, destroys. */
async function using<T>(
  model: Model,
  options: { streams?: number; chunk?: number },
  run: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await model.session(options);
  try {
    return await run(session);
  } finally {
    session.destroy();
  }
}

for (const name of [...goldens, ...hybrids]) {
  describe(name, () => {
    let model: Model;
    let reference: Model;
    beforeAll(async () => {
      model = await open(engine, name);
      reference = await open(cpu, name);
    });
    afterAll(() => {
      model.destroy();
      reference.destroy();
      expect(total(engine.memory()), "bytes left on the device").toBe(0);
    });

    /** Logits after this prompt, fed in one go on one stream. */
    const logitsAfter = (ids: number[]) =>
      using(model, { chunk: 64 }, async (s) => {
        await s.prefill(ids);
        return s.logits();
      });

    test("the GPU machine agrees with the CPU machine", async () => {
      const run = async (s: Session) => {
        await s.prefill(prompt(37));
        const ids = await take(s, 0, { maxTokens: 9 });
        return { ids, logits: await s.logits() };
      };
      const found = await using(model, { chunk: 64 }, run);
      const wanted = await using(reference, { chunk: 64 }, run);
      expect(found.ids).toEqual(wanted.ids);
      expect(compare(found.logits, wanted.logits).nmse).toBeLessThan(1e-10);
    });

    test("prefill in chunks, and token by token, is prefill in one go", async () => {
      const whole = await logitsAfter(prompt(53));
      for (const chunk of [1, 8, 16]) {
        const logits = await using(model, { chunk }, async (s) => {
          await s.prefill(prompt(53));
          return s.logits();
        });
        expect(compare(logits, whole).nmse, `chunk ${chunk}`).toBeLessThan(1e-11);
      }
    });

    test("a prompt in two calls is the same prompt in one", async () => {
      const whole = await logitsAfter(prompt(53));
      const logits = await using(model, { chunk: 64 }, async (s) => {
        await s.prefill(prompt(53).slice(0, 20));
        await s.prefill(prompt(53).slice(20));
        return s.logits();
      });
      expect(compare(logits, whole).nmse).toBeLessThan(1e-11);
    });

    test("three streams of different lengths are three single streams", async () => {
      const prompts = [prompt(5, 1), prompt(41, 2), prompt(18, 3)];
      const lengths = [12, 3, 30];
      await using(model, { streams: 3, chunk: 16 }, async (s) => {
        await s.prefill(prompts);
        const together = await Promise.all(lengths.map((maxTokens, b) => take(s, b, { maxTokens })));
        const logits = await s.logits();
        for (const [b, ids] of prompts.entries()) {
          const alone = await using(model, { chunk: 16 }, async (one) => {
            await one.prefill(ids);
            const out = await take(one, 0, { maxTokens: lengths[b]! });
            return { out, logits: await one.logits() };
          });
          expect(together[b], `stream ${b}`).toEqual(alone.out);
          const V = alone.logits.length;
          expect(compare(logits.subarray(b * V, (b + 1) * V), alone.logits).nmse, `stream ${b}`).toBeLessThan(
            1e-11,
          );
        }
        expect(s.positions).toEqual(prompts.map((p, b) => p.length + lengths[b]!));
      });
    });

    test("a restored session goes on as the unbroken one", async () => {
      await using(model, { chunk: 64 }, async (s) => {
        await s.prefill(prompt(30));
        await take(s, 0, { maxTokens: 5 });
        const snapshot = await s.snapshot();
        const unbroken = await take(s, 0, { maxTokens: 20 });
        const logits = await s.logits();
        await s.restore(snapshot);
        expect(s.positions).toEqual([35]);
        expect(await take(s, 0, { maxTokens: 20 })).toEqual(unbroken);
        expect(await s.logits()).toEqual(logits);
        await using(model, { chunk: 8 }, async (other) => {
          await other.restore(snapshot);
          expect(await take(other, 0, { maxTokens: 20 })).toEqual(unbroken);
        });
      });
    });

    test("a consumer that stops early leaves exactly the tokens that it took", async () => {
      const options: StreamOptions = { temperature: 0.9, topK: 20, seed: 5 };
      await using(model, { chunk: 64 }, async (s) => {
        await s.prefill(prompt(20));
        const snapshot = await s.snapshot();
        const whole = await take(s, 0, { ...options, maxTokens: 100 });
        for (const taken of [1, 37, 70]) {
          await s.restore(snapshot);
          const ids: number[] = [];
          for await (const id of s.stream(options)) {
            ids.push(id);
            if (ids.length === taken) break;
          }
          expect(ids).toEqual(whole.slice(0, taken));
          expect(s.positions).toEqual([20 + taken]);
          const logits = await s.logits();
          expect(await take(s, 0, { ...options, maxTokens: 10 })).toEqual(whole.slice(taken, taken + 10));
          // bit for bit what a stream holds that was never run ahead of its consumer
          await s.restore(snapshot);
          await take(s, 0, { ...options, maxTokens: taken });
          expect(await s.logits()).toEqual(logits);
        }
      });
    });

    test("stop sequences and aborts end a stream where they should", async () => {
      await using(model, { chunk: 64 }, async (s) => {
        await s.prefill(prompt(20));
        const snapshot = await s.snapshot();
        const options: StreamOptions = { temperature: 1, seed: 3 };
        const whole = await take(s, 0, { ...options, maxTokens: 40 });
        await s.restore(snapshot);
        const stop = whole.slice(10, 12);
        const end = whole.findIndex((id, i) => id === stop[1] && whole[i - 1] === stop[0]) + 1;
        expect(await take(s, 0, { ...options, maxTokens: 40, stop: [stop] })).toEqual(whole.slice(0, end));
        await s.restore(snapshot);
        const controller = new AbortController();
        const ids: number[] = [];
        const aborted = (async () => {
          for await (const id of s.stream({ ...options, signal: controller.signal })) {
            ids.push(id);
            if (ids.length === 7) controller.abort();
          }
        })();
        await expect(aborted).rejects.toThrow(/abort/i);
        expect(ids).toEqual(whole.slice(0, 7));
        expect(s.positions).toEqual([27]);
      });
    });

    test("same seed, same tokens; another seed, others", async () => {
      await using(model, { chunk: 64 }, async (s) => {
        await s.prefill(prompt(20));
        const snapshot = await s.snapshot();
        const draw = async (seed: number) => {
          await s.restore(snapshot);
          return take(s, 0, { temperature: 1, topP: 0.95, minP: 0.01, seed, maxTokens: 24 });
        };
        const first = await draw(11);
        expect(await draw(11)).toEqual(first);
        expect(await draw(12)).not.toEqual(first);
      });
    });

    test("a cache filled at random is the CPU machine's, bit for bit", async () => {
      const run = async (s: Session) => {
        await s.fillCache(70, 3);
        await s.fillCache(250, 4);
        const { tensors } = await s.snapshot();
        return [...tensors].filter(([path]) => path !== "last" && path !== "logits");
      };
      const options = { streams: 2, chunk: 8 };
      expect(await using(model, options, run)).toEqual(await using(reference, options, run));
    });

    test("what is asked is what theory says, across page and window edges", async () => {
      for (const streams of [1, 3]) {
        const options = { streams, chunk: 64 };
        await using(model, options, async (s) => {
          for (const length of [1, 7, 8, 9, 255, 256, 257, 2048, 2049, 2305, 4096, 4097]) {
            await s.reserve(length);
            const predicted = await model.predict(options, length);
            expect(s.memory(), `${streams} streams of ${length}`).toEqual(predicted);
            expect(engine.memory(), `${streams} streams of ${length}, on the device`).toEqual(predicted);
          }
        });
      }
    });
  });
}

test("after everything is destroyed nothing is held", () => {
  expect(total(engine.memory())).toBe(0);
});
