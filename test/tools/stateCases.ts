// What must hold for forks, marks and snapshots on every machine: run on the CPU machine by test/state.test.ts, on the real
// adapter by test/state.gpu.test.ts.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { total } from "../../engine/memory.ts";
import type { Session } from "../../engine/session.ts";
import type { Snapshot } from "../../engine/snapshot.ts";
import { deserialise, serialise } from "../../engine/snapshotFile.ts";
import type { StreamOptions } from "../../engine/stream.ts";
import type { Data } from "../../engine/tensor.ts";
import type { Engine, Model } from "../../models/engine.ts";
import type { Source } from "../../models/source.ts";
import { loadModel, sessionModels } from "./folders.ts";

/** Ids below 64, the goldens' vocabulary. */
const prompt = (length: number, seed = 1): number[] =>
  Array.from({ length }, (_, i) => (i * i * 7 + i * 13 * seed + seed) % 64);

async function take(session: Session, b: number, options: StreamOptions): Promise<number[]> {
  const ids: number[] = [];
  for await (const id of session.streams[b]!.stream(options)) ids.push(id);
  return ids;
}

/** Two streams, one past the edge of the first page; what each draws from there on. */
const options = { streams: 2, chunk: 64 };
const drawn: StreamOptions = { temperature: 0.9, seed: 5, maxTokens: 12 };
async function goOn(session: Session) {
  const ids = await Promise.all([0, 1].map((b) => take(session, b, drawn)));
  return { ids, logits: await session.logits(), positions: [...session.positions] };
}

export function stateCases(open: () => Promise<Engine>, source: (golden: string) => Source): void {
  let engine: Engine;
  beforeAll(async () => {
    engine = await open();
  });
  afterAll(() => {
    engine.destroy();
  });

  describe.each(sessionModels)("%s", (name) => {
    let model: Model;
    let session: Session;
    beforeAll(async () => {
      model = await loadModel(engine, name, source);
      session = await model.session(options);
    });
    afterAll(() => {
      session.destroy();
      model.destroy();
      expect(total(engine.memory()), "bytes left").toBe(0);
    });
    const start = async () => {
      await session.reset();
      await session.prefill([prompt(260), prompt(7, 2)]);
    };

    test("a fork goes on as the session that it was made of, and neither knows of the other", async () => {
      await start();
      // a stream that is being read has run ahead of its consumer
      const reader = session.streams[0]!.stream({ temperature: 1, seed: 2 });
      for (let i = 0; i < 3; i++) await reader.next();
      const fork = await session.fork();
      await reader.return();
      expect(fork.positions).toEqual([263, 7]);
      expect(fork.capacity).toBe(session.capacity);
      expect(await fork.logits()).toEqual(await session.logits());
      const before = engine.memory();
      const wanted = await goOn(session);
      await session.prefill([prompt(30, 3), prompt(30, 4)]);
      expect(await goOn(fork)).toEqual(wanted);
      expect(engine.memory()).toEqual(before);
      expect(fork.memory()).toEqual(await model.predict(options, 300));
      fork.destroy();
      expect(engine.memory()).toEqual(session.memory());
    });

    test("a mark brings the streams back, however far they went", async () => {
      await start();
      const held = session.memory();
      const mark = await session.mark();
      expect(mark.positions).toEqual([260, 7]);
      expect(mark.bytes).toBe(await model.predictMark(options));
      expect(session.memory()).toEqual({ ...held, state: held.state + mark.bytes });
      expect(engine.memory()).toEqual(session.memory());
      const wanted = await goOn(session);
      const later = await session.mark();
      const last = await goOn(session);
      for (const further of [1, 300]) {
        await session.rollback(later);
        expect(await goOn(session)).toEqual(last);
        await session.prefill([prompt(further, 5), []]);
        await session.fillCache(further, 1);
      }
      await session.rollback(mark);
      expect(session.positions).toEqual([260, 7]);
      // a reader has run ahead when it stops
      for await (const _ of session.streams[1]!.stream()) break;
      await session.rollback(mark);
      expect(await goOn(session)).toEqual(wanted);
      later.destroy();
      mark.destroy();
      expect(engine.memory()).toEqual(session.memory());
      expect(session.memory().state).toBe(held.state);
    });

    test("a session destroyed while it is forked, marked or read leaves nothing", async () => {
      const held = total(engine.memory());
      for (const turns of [0, 1, 2, 3, 5, 8, 13, 21, 34]) {
        const doomed = await model.session(options);
        const calls = [doomed.fork(), doomed.mark(), doomed.snapshot()];
        for (let i = 0; i < turns; i++) await Promise.resolve();
        doomed.destroy();
        for (const call of await Promise.allSettled(calls)) {
          if (call.status === "rejected") expect(String(call.reason)).toContain("the session was destroyed");
          else if (!("tensors" in call.value)) call.value.destroy();
        }
        expect(total(engine.memory()), `${turns} turns`).toBe(held);
      }
    });

    test("a snapshot's bytes are those of the tokens held, whatever the capacity, and what theory says", async () => {
      await session.reset();
      await session.reserve(3000);
      let length = 0;
      let ahead = 0;
      for (const to of [0, 1, 7, 8, 9, 255, 256, 257, 2305]) {
        await session.fillCache(to - length, 1);
        length = to;
        if (length === 257) {
          ahead = 3;
          await session.prefill([[], prompt(ahead)]);
        }
        const snapshot = await session.snapshot();
        const longest = length + ahead;
        expect(snapshot.bytes, `${longest} tokens`).toBe(await model.predictSnapshot(options, longest));
        const held = [...snapshot.tensors.values()].reduce((n, data) => n + data.byteLength, 0);
        expect(held, `${longest} tokens, held`).toBe(snapshot.bytes);
      }
    });

    test("a snapshot kept as bytes brings the streams back, here and in another session", async () => {
      await start();
      const snapshot = await session.snapshot();
      const wanted = await goOn(session);
      const kept = deserialise(serialise(snapshot));
      expect(kept).toEqual(snapshot);
      const other = await model.session({ ...options, chunk: 8 });
      await other.prefill([prompt(300, 9), prompt(300, 8)]);
      for (const into of [session, other]) {
        await into.restore(kept);
        expect(into.positions).toEqual([260, 7]);
        expect((await goOn(into)).ids).toEqual(wanted.ids);
      }
      other.destroy();
    });

    test("a snapshot of another version, model or shape is refused, and nothing is changed", async () => {
      await start();
      const before = await session.snapshot();
      const [first, data] = [...before.tensors][0]!;
      const tensors = (change: [string, Data][]) => new Map([...before.tensors, ...change]);
      const n = data.length;
      const bad: [Partial<Snapshot>, string][] = [
        [{ version: 7 }, "the snapshot is of version 7, version 1 is wanted"],
        [{ architecture: "abacus" }, "the snapshot is of 2 streams of abacus, this session has 2 of"],
        [{ positions: [3] }, "the snapshot is of 1 streams of"],
        [{ positions: [3, -1] }, "stream 1 holds -1 tokens, a whole number from 0 is wanted"],
        [{ model: "0123456789abcdef" }, "model 0123456789abcdef, this session runs"],
        [{ drawable: [] }, "the snapshot's drawable has 0 entries, 2 are wanted"],
        [{ tensors: tensors([["more", data]]) }, "tensors, this session carries"],
        [{ tensors: tensors([[first, data.subarray(1)]]) }, `${first} has ${n - 1} elements, wanted ${n}`],
        [{ tensors: tensors([[first, new Uint32Array(n)]]) }, `${first} is of type u32, wanted f32`],
      ];
      for (const [change, message] of bad)
        await expect(session.restore({ ...before, ...change })).rejects.toThrow(message);
      expect(await session.snapshot()).toEqual(before);
    });

    test("a stream that is put elsewhere under its reader draws there, or says why it cannot", async () => {
      await start();
      const kept = await session.snapshot();
      const wanted = await take(session, 0, drawn);
      await session.restore(kept);
      const reader = session.streams[0]!.stream(drawn);
      for (let i = 0; i < 5; i++) await reader.next();
      await session.restore(kept);
      const again: unknown[] = [];
      for (let i = 0; i < 6; i++) again.push((await reader.next()).value);
      expect(again).toEqual(wanted.slice(0, 6));
      await session.reset();
      await expect(reader.next()).rejects.toThrow("stream 0 holds no tokens yet: prefill at least one");
      expect(session.positions).toEqual([0, 0]);
    });

    test("a mark whose pages were overwritten is refused, and one that needs none is not", async () => {
      await start();
      const early = await session.mark();
      await session.prefill([prompt(9), prompt(9)]);
      const late = await session.mark();
      const wanted = await goOn(session);
      await session.rollback(early);
      if (session.capacity > 0) {
        await expect(session.rollback(late)).rejects.toThrow(
          "the mark at positions 269, 16 lost its cache: the streams were put back before it since",
        );
        await session.reset();
        await expect(session.rollback(early)).rejects.toThrow("lost its cache");
      } else {
        await session.reset();
        await session.rollback(late);
        expect(await goOn(session)).toEqual(wanted);
      }
      early.destroy();
      await expect(session.rollback(early)).rejects.toThrow("the mark was destroyed");
      const other = await model.session(options);
      await expect(other.rollback(late)).rejects.toThrow("the mark is of another session");
      const left = await other.mark();
      other.destroy();
      expect(left.destroyed).toBe(true);
      late.destroy();
    });
  });
}
