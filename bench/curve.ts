// One long stream through one model: a row for every stretch of it, then its speed at the end against that at the start.

import type { GpuMachine } from "../engine/gpu.ts";
import { formatBytes, total } from "../engine/memory.ts";
import { Session } from "../engine/session.ts";
import type { Snapshot } from "../engine/snapshot.ts";
import { type Drift, DriftMeter } from "./drift.ts";
import { failure, type Phase, stackOf } from "./failure.ts";
import { closedHeld, closedOf, memoryFields, speedFields, theoryFields } from "./fields.ts";
import { type Fill, pieces } from "./fill.ts";
import { notFinite, refusal } from "./gate.ts";
import type { Held } from "./measure.ts";
import type { Counter } from "./meters/asked.ts";
import type { Resident } from "./meters/resident.ts";
import type { Roof } from "./meters/roof.ts";
import { TheoryAlong } from "./meters/theory.ts";
import type { Alternation, Row } from "./row.ts";
import type { Emit, Loaded } from "./run.ts";
import { median, medianInterval } from "./stats.ts";
import type { Test } from "./tests.ts";
import { generateTimed, prefillTimed } from "./timed.ts";
import { formatCount } from "./units.ts";

/** Chunks that are handed over at once: the queue and the list of ids stay short, however long the stream. */
const CHUNKS = 64;
/** Rounds of the comparison, and tokens generated at either end in each. */
const ROUNDS = 20;
const GENERATED = 64;
/** Progress is told no more often than this. */
const TELL_MS = 1000;

/** What a curve needs of the bench. */
export interface CurveHost {
  counter: Counter;
  roof: Roof;
  warmup: boolean;
  resident(): Promise<Resident | null>;
  /** A row that says what is to be run. */
  row(test: Test): Row;
  nmse(test: Test): Promise<number>;
}

/** `tests` are the stretches of one stream, end to end. A stream that ends early gives one row that says why. */
export async function runCurve(
  loaded: Loaded,
  tests: readonly Test[],
  host: CurveHost,
  emit: Emit,
): Promise<void> {
  const { model, subject, layers, machine, fill } = loaded;
  const { architecture, config } = model.loaded;
  const { n_parallel: streams, n_ubatch: chunk } = tests[0]!;
  const shape = { n_parallel: streams, n_ubatch: chunk };
  let phase: Phase = "preflight";
  let row = host.row(tests[0]!);
  let stream: LongStream | null = null;
  try {
    row.nmse_vs_reference = await host.nmse(tests[0]!);
    const refused = refusal(row.nmse_vs_reference, subject.types?.cacheType);
    if (refused) throw new Error(refused);
    const { nmse_vs_reference } = row;
    const along = await TheoryAlong.open(machine, architecture, config, { streams, chunk }, host.roof);
    const session = await model.session({ streams, chunk });
    const drift = await DriftMeter.open(model);
    stream = new LongStream(session, machine, fill, host, drift);
    await emit({ type: "step", test: row.test, what: "first token" });
    await stream.begin(tests[0]!.n_prompt);
    for (const test of tests) {
      row = { ...host.row(test), nmse_vs_reference };
      // past the model's reach "no" is the ledger's answer, before anything is run
      phase = "preflight";
      const theory = await along.prefill(test.n_prompt);
      phase = "run";
      const closed = layers && closedOf(model.parameters, layers, subject, test);
      row = { ...row, ...theoryFields(theory, subject, test), ...closed };
      const onPiece = (done: number) =>
        emit({
          type: "step",
          test: row.test,
          what: `${formatCount(done)} of ${formatCount(test.n_prompt)} tokens`,
        });
      const { held, samplesNs, latenciesNs, fault } = await stream.stretch(test.n_prompt, onPiece);
      row = {
        ...row,
        ...memoryFields(held, loaded.resident, theory, closed && closedHeld(closed, layers), test),
        ...speedFields({ samplesNs, latenciesNs }, theory, host.roof, test),
      };
      if (fault) row = { ...row, status: "failed", reason: fault };
      const drifted = await stream.drift();
      await emit({ type: "row", row });
      if (drifted) await emit({ type: "drift", drift: { model: row.model, ...shape, ...drifted } });
    }
  } catch (error) {
    stream?.destroy();
    await emit({ type: "trace", stack: stackOf(error) });
    await emit({ type: "row", row: { ...row, ...failure(error, phase) } });
    return;
  }
  try {
    const to = Math.max(...stream.positions);
    const onRound = (what: string) => emit({ type: "step", test: row.test, what });
    const found = await stream.alternate(onRound).catch(async (error: unknown) => {
      await emit({ type: "trace", stack: stackOf(error) });
      const { status, reason } = failure(error, phase);
      return { ...noRounds(reason), status };
    });
    const about = { arch: model.name, model: row.model, ...shape, n_gen: GENERATED, from: 1, to };
    await emit({ type: "alternation", alternation: { ...about, ...found } });
  } finally {
    stream.destroy();
  }
}

interface Stretch {
  held: Held;
  samplesNs: number[];
  latenciesNs: number[];
  /** What must not be; null: nothing. */
  fault: string | null;
}

class LongStream {
  readonly #session: Session;
  readonly #machine: GpuMachine;
  readonly #fill: Fill;
  readonly #host: CurveHost;
  /** Of the first stream; null where the model has no sums that only grow. */
  readonly #drift: DriftMeter | null;
  /** Bytes held after the first token, and the streams there, where their state is of fixed size. */
  #first: { live: number; snapshot: Snapshot } | null = null;

  constructor(session: Session, machine: GpuMachine, fill: Fill, host: CurveHost, drift: DriftMeter | null) {
    this.#session = session;
    this.#machine = machine;
    this.#fill = fill;
    this.#host = host;
    this.#drift = drift;
  }

  get positions(): readonly number[] {
    return this.#session.positions;
  }

  /** Compiles, looks at what the first token leaves, and empties the streams again. */
  async begin(stretch: number): Promise<void> {
    const session = this.#session;
    const { chunk } = session;
    if (this.#host.warmup) {
      // whole chunks, and the rest that every stretch ends with
      await this.#prefill(stretch <= chunk ? stretch : chunk + (stretch % chunk));
      await generateTimed(session, 1);
      await session.reset();
    }
    await this.#prefill(1);
    await this.#machine.idle();
    const live = total(this.#machine.live());
    if (session.capacity === 0) this.#first = { live, snapshot: await session.snapshot() };
    await session.reset();
    const { tally } = this.#machine.memory;
    tally.peakTotal = total(tally.live);
  }

  /** Feeds the next tokens. Buffers are made before the clock starts, while counting is on; nothing is counted under it. */
  async stretch(tokens: number, onPiece: (done: number) => void | Promise<void>): Promise<Stretch> {
    const session = this.#session;
    const { counter, resident } = this.#host;
    await session.reserve(Math.max(...session.positions) + tokens);
    let elapsedNs = 0;
    const latenciesNs: number[] = [];
    let done = 0;
    let told = Number.NEGATIVE_INFINITY;
    await counter.paused(async () => {
      for (const piece of pieces(tokens, session.chunk, CHUNKS)) {
        if (performance.now() - told > TELL_MS) {
          await onPiece(done);
          told = performance.now();
        }
        const prompts = this.#prompts(piece);
        const { started, ended, latenciesNs: some } = await prefillTimed(session, this.#machine, prompts);
        elapsedNs += (ended - started) * 1e6;
        latenciesNs.push(...some);
        done += piece;
        this.#drift?.add(prompts[0]!);
      }
    });
    const live = this.#machine.live();
    const { tally } = this.#machine.memory;
    const peak = tally.peakTotal;
    const held = { live, peak, asked: counter.bytes(this.#machine.device), resident: await resident() };
    // reading logits takes a buffer of its own, which is no part of the stream
    const fault = this.#grown(total(live)) ?? (await notFinite(session));
    tally.peakTotal = peak;
    return { held, samplesNs: [elapsedNs], latenciesNs, fault };
  }

  /** How far the first stream's sums have drifted; null where the model has none. */
  async drift(): Promise<Drift | null> {
    return this.#drift?.of(await this.#session.snapshot()) ?? null;
  }

  /** Generation at both ends in turn, the order changed every round. */
  async alternate(onRound: (what: string) => void | Promise<void>): Promise<Rounds> {
    const session = this.#session;
    const timeAfter = async (session: Session, back: () => Promise<void>) => {
      await back();
      await this.#machine.idle();
      const { started, ended } = await generateTimed(session, GENERATED);
      return ended - started;
    };
    const rounds = (first: () => Promise<number>, last: () => Promise<number>) =>
      this.#host.counter.paused(() => alternating(first, last, onRound));
    if (this.#first) {
      const first = this.#first.snapshot;
      const last = await session.snapshot();
      const ratios = await rounds(
        () => timeAfter(session, () => session.restore(first)),
        () => timeAfter(session, () => session.restore(last)),
      );
      return summary(ratios, `snapshots of ${formatBytes(last.bytes)} restored into one session`);
    }
    const { chunk, streams } = session;
    const young = await Session.open(session.model, { streams: streams.length, chunk });
    try {
      await young.prefill(young.positions.map(() => this.#fill.ids(1)));
      const [first, last] = [await young.mark(), await session.mark()];
      const ratios = await rounds(
        () => timeAfter(young, () => young.rollback(first)),
        () => timeAfter(session, () => session.rollback(last)),
      );
      return summary(ratios, "two sessions, each rolled back: a snapshot of pages grows with the context");
    } finally {
      young.destroy();
    }
  }

  destroy(): void {
    this.#session.destroy();
  }

  #prompts(tokens: number): number[][] {
    return this.#session.positions.map((position) => this.#fill.ids(tokens, position));
  }

  #prefill(tokens: number): Promise<void> {
    return this.#session.prefill(this.#prompts(tokens));
  }

  /** A state of fixed size holds no more than it did after the first token. */
  #grown(live: number): string | null {
    if (!this.#first || live === this.#first.live) return null;
    return `${live} bytes are live, after the first token there were ${this.#first.live}`;
  }
}

type Rounds = Pick<Alternation, "status" | "ratios" | "ratio" | "low" | "high" | "method">;

const summary = (ratios: number[], method: string): Rounds => ({
  status: "ok",
  ratios,
  ratio: median(ratios),
  ...medianInterval(ratios),
  method,
});

const noRounds = (method: string): Omit<Rounds, "status"> => ({
  ratios: [],
  ratio: null,
  low: null,
  high: null,
  method,
});

/** The first's time over the second's in every round, after one that is not kept. */
export async function alternating(
  first: () => Promise<number>,
  second: () => Promise<number>,
  onRound: (what: string) => void | Promise<void>,
): Promise<number[]> {
  const ratios: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    await onRound(`round ${round} of ${ROUNDS}, both ends by turns`);
    const swapped = round % 2 === 1;
    const before = await (swapped ? second : first)();
    const after = await (swapped ? first : second)();
    if (round > 0) ratios.push(swapped ? after / before : before / after);
  }
  return ratios;
}

/** The stretches of each stream: those of the same streams and chunk. */
export function curvesOf(tests: readonly Test[]): Test[][] {
  const curves = new Map<string, Test[]>();
  for (const test of tests) {
    const key = `${test.n_parallel} ${test.n_ubatch}`;
    curves.set(key, [...(curves.get(key) ?? []), test]);
  }
  return [...curves.values()];
}
