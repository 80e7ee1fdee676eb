// One test of one model: a run for memory, counted from outside, and runs for time, not counted.

import type { GpuMachine } from "../engine/gpu.ts";
import { total } from "../engine/memory.ts";
import type { Session } from "../engine/session.ts";
import type { Snapshot } from "../engine/snapshot.ts";
import type { Bytes } from "../engine/tensor.ts";
import { type Fill, pieces } from "./fill.ts";
import type { Counter } from "./meters/asked.ts";
import { gpuNs } from "./meters/gpuTime.ts";
import type { Resident } from "./meters/resident.ts";
import { filled, held } from "./meters/theory.ts";
import { mean } from "./stats.ts";
import type { Test } from "./tests.ts";
import { generateTimed, prefillTimed, type Timed } from "./timed.ts";

export interface Measured {
  /** A session of the test's streams and chunk. */
  open(): Promise<Session>;
  machine: GpuMachine;
  fill: Fill;
  test: Test;
}

/** What a session holds at one time. */
export interface Held {
  /** Our own count at the end of the test: all that the engine holds. */
  live: Bytes;
  peak: number;
  asked: number;
  resident: Resident | null;
}

export interface MemoryFigures extends Held {
  /** The streams before the clock starts, for the timed runs. */
  filled: Snapshot;
}

/** A fresh session, through the whole test, once. */
export async function measureMemory(
  { open, machine, fill, test }: Measured,
  counter: Counter,
  resident: () => Promise<Resident | null>,
): Promise<MemoryFigures> {
  const { tally } = machine.memory;
  tally.peakTotal = total(tally.live);
  const session = await open();
  try {
    await feed(session, fill, filled(test));
    // reading the state takes buffers of its own, which are no part of the test
    const peak = tally.peakTotal;
    const snapshot = await session.snapshot();
    tally.peakTotal = peak;
    await repetition({ session, fill, test, machine });
    await machine.idle();
    return {
      live: machine.live(),
      peak: tally.peakTotal,
      asked: counter.bytes(machine.device),
      resident: await resident(),
      filled: snapshot,
    };
  } finally {
    session.destroy();
  }
}

export interface TimeFigures {
  samplesNs: number[];
  ttftNs: number;
  /** Of all repetitions and streams. */
  latenciesNs: number[];
  gpuNs: number | null;
  submitsPerToken: number;
}

export interface TimeOptions {
  repetitions: number;
  warmup: boolean;
  /** Called before each run. */
  onRun(what: string): Promise<void>;
}

/** Repetitions from the same filled streams, then one more under timestamps. */
export async function measureTime(
  { open, machine, fill, test }: Measured,
  from: Snapshot,
  { repetitions, warmup, onRun }: TimeOptions,
): Promise<TimeFigures> {
  const session = await open();
  const timed = { session, fill, test, machine };
  const submits = countSubmits(machine.device.queue);
  try {
    // the cache is grown before the clock starts, as for any session that knows how far it will go
    await session.reserve(held(test));
    const restart = async () => {
      await session.restore(from);
      await machine.idle();
    };
    if (warmup) {
      await onRun("warm-up");
      await restart();
      await repetition({ ...timed, test: { ...test, n_gen: 1 } });
    }
    const samplesNs: number[] = [];
    const firsts: number[] = [];
    const latenciesNs: number[] = [];
    let submitted = 0;
    for (let r = 1; r <= repetitions; r++) {
      await onRun(`repetition ${r} of ${repetitions}`);
      await restart();
      const before = submits.count();
      const { started, first, ended, latenciesNs: latencies } = await repetition(timed);
      submitted += submits.count() - before;
      samplesNs.push((ended - started) * 1e6);
      for (const latency of latencies) latenciesNs.push(latency);
      // after a prompt alone, one token is drawn for the time to the first
      firsts.push(((first || (await generateTimed(session, 1)).first) - started) * 1e6);
    }
    await onRun("timestamps");
    await restart();
    const busyNs = await gpuNs(machine, async () => {
      await repetition(timed);
    });
    return {
      samplesNs,
      ttftNs: mean(firsts),
      latenciesNs,
      gpuNs: busyNs,
      submitsPerToken: submitted / repetitions / (test.n_prompt + test.n_gen),
    };
  } finally {
    submits.stop();
    session.destroy();
  }
}

/** Every stream takes the next `count` tokens of the text after those that it holds. */
async function feed(session: Session, fill: Fill, count: number): Promise<void> {
  // what does not fit is known before hours are spent on filling it
  await session.reserve(Math.max(...session.positions) + count);
  for (const piece of pieces(count, session.chunk))
    await session.prefill(session.positions.map((position) => fill.ids(piece, position)));
}

interface Repetition extends Omit<Measured, "open"> {
  session: Session;
}

/** The timed part of a test: prompt, then generation. Latencies are of what was generated, else of the prompt. */
async function repetition({ session, fill, test, machine }: Repetition): Promise<Timed> {
  const { n_prompt, n_gen } = test;
  const prompts = session.positions.map((position) => fill.ids(n_prompt, position));
  if (n_gen === 0) return prefillTimed(session, machine, prompts);
  const started = performance.now();
  if (n_prompt > 0) await session.prefill(prompts);
  return { ...(await generateTimed(session, n_gen)), started };
}

function countSubmits(queue: GPUQueue): { count(): number; stop(): void } {
  let submits = 0;
  const submit = queue.submit.bind(queue);
  queue.submit = (commands) => {
    submits++;
    return submit(commands);
  };
  return {
    count: () => submits,
    stop: () => {
      Reflect.deleteProperty(queue, "submit");
    },
  };
}
