// One test of one model: a run for memory, counted from outside, and runs for time, not counted.

import type { GpuMachine } from "../engine/gpu.ts";
import type { Mark } from "../engine/mark.ts";
import { total } from "../engine/memory.ts";
import type { Session } from "../engine/session.ts";
import type { Bytes } from "../engine/tensor.ts";
import type { Depths } from "./depth.ts";
import type { Fill } from "./fill.ts";
import { notFinite } from "./gate.ts";
import type { Counter } from "./meters/asked.ts";
import { gpuNs } from "./meters/gpuTime.ts";
import type { Resident } from "./meters/resident.ts";
import { filled, held } from "./meters/theory.ts";
import { mean } from "./stats.ts";
import type { Test } from "./tests.ts";
import { generateTimed, prefillTimed, type Timed } from "./timed.ts";

export interface Measured {
  machine: GpuMachine;
  fill: Fill;
  depths: Depths;
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

/**
 * A session at the test's depth, and the mark to which it is rolled back before each run: no copy of what it carries crosses
 * to the host and back. The mark is the bench's, so it is in no figure.
 */
export class Measurement {
  readonly #session: Session;
  readonly #measured: Measured;
  readonly #mark: Mark;
  /** Most bytes live before the mark was made. */
  readonly #peak: number;
  readonly #openNs: number;

  /** `open` makes a session of the test's streams and chunk. */
  static async open(
    open: () => Promise<Session>,
    measured: Measured,
    counter: Counter,
  ): Promise<Measurement> {
    const { machine, depths, test } = measured;
    const { tally } = machine.memory;
    tally.peakTotal = total(tally.live);
    const started = performance.now();
    const session = await open();
    const openNs = (performance.now() - started) * 1e6;
    try {
      await depths.take(session, filled(test));
      const peak = tally.peakTotal;
      await depths.keep(session);
      const mark = await counter.paused(() => session.mark());
      tally.peakTotal = total(tally.live);
      return new Measurement(session, measured, mark, peak, openNs);
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  private constructor(session: Session, measured: Measured, mark: Mark, peak: number, openNs: number) {
    this.#session = session;
    this.#measured = measured;
    this.#mark = mark;
    this.#peak = peak;
    this.#openNs = openNs;
  }

  /** The whole test, once, in memory that was never larger. */
  async memory(counter: Counter, resident: () => Promise<Resident | null>): Promise<Held> {
    const { machine } = this.#measured;
    const { bytes } = this.#mark;
    await this.#repetition();
    await machine.idle();
    const live = machine.live();
    return {
      live: { ...live, state: live.state - bytes },
      peak: Math.max(this.#peak, machine.memory.tally.peakTotal - bytes),
      asked: counter.bytes(machine.device),
      resident: await resident(),
    };
  }

  /** What must not be at the end of the test; null: nothing. */
  fault(): Promise<string | null> {
    return notFinite(this.#session);
  }

  /** Repetitions from the same place, then one more under timestamps. */
  async time({ repetitions, warmup, onRun, onRound }: TimeOptions): Promise<TimeFigures> {
    const session = this.#session;
    const { machine, test } = this.#measured;
    const submits = countSubmits(machine.device.queue);
    try {
      // the cache is grown before the clock starts, as for any session that knows how far it will go
      await session.reserve(held(test));
      const restart = async () => {
        await session.rollback(this.#mark);
        await machine.idle();
      };
      if (warmup) {
        await onRun("warm-up");
        await restart();
        await this.#repetition({ ...test, n_gen: 1 });
      }
      const samplesNs: number[] = [];
      const firsts: number[] = [];
      const latenciesNs: number[] = [];
      let submitted = 0;
      for (let r = 1; r <= repetitions; r++) {
        await onRun(`repetition ${r} of ${repetitions}`);
        await restart();
        const before = submits.count();
        const { started, first, ended, latenciesNs: latencies } = await this.#repetition();
        submitted += submits.count() - before;
        samplesNs.push((ended - started) * 1e6);
        for (const latency of latencies) latenciesNs.push(latency);
        // after a prompt alone, one token is drawn for the time to the first
        firsts.push(((first || (await generateTimed(session, 1)).first) - started) * 1e6);
        await onRound?.(r);
      }
      await onRun("timestamps");
      await restart();
      const busyNs = await gpuNs(machine, async () => {
        await this.#repetition();
      });
      return {
        samplesNs,
        openNs: this.#openNs,
        firstNs: mean(firsts),
        latenciesNs,
        gpuNs: busyNs,
        submitsPerToken: submitted / repetitions / (test.n_prompt + test.n_gen),
      };
    } finally {
      submits.stop();
    }
  }

  destroy(): void {
    this.#session.destroy();
  }

  /** The timed part of a test: prompt, then generation. Latencies are of what was generated, else of the prompt. */
  async #repetition({ n_prompt, n_gen }: Test = this.#measured.test): Promise<Timed> {
    const session = this.#session;
    const { machine, fill } = this.#measured;
    const prompts = session.positions.map((position) => fill.ids(n_prompt, position));
    if (n_gen === 0) return prefillTimed(session, machine, prompts);
    const started = performance.now();
    if (n_prompt > 0) await session.prefill(prompts);
    return { ...(await generateTimed(session, n_gen)), started };
  }
}

export interface TimeFigures {
  samplesNs: number[];
  /** The session's opening. */
  openNs: number;
  /** From the clock's start to the first generated id in JavaScript; a prompt's is drawn after it. Mean. */
  firstNs: number;
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
  /** Called after each repetition: what else runs by turns with it. */
  onRound?(r: number): Promise<void>;
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
