// One model in another runtime: first a run for memory, counted from outside, in which nothing is timed; then, loaded
// anew, rounds for time by turns with ours. What goes wrong is a row that says so.

import { failure, type Phase, stackOf } from "../failure.ts";
import type { Fill } from "../fill.ts";
import { nmse } from "../gate.ts";
import type { Counter } from "../meters/asked.ts";
import { countDispatches } from "../meters/dispatches.ts";
import { filled, held } from "../meters/theory.ts";
import type { PeerFacts, Row } from "../row.ts";
import { mean, quantile, timing } from "../stats.ts";
import { type Test, testName } from "../tests.ts";
import type { Expected } from "./expected.ts";
import { openPeer, type RivalName } from "./index.ts";
import { PEER_NMSE, type Peer, type PeerModel, type Saved, Unsupported } from "./peer.ts";

/** A runtime that says nothing for so long has hung. */
const MOST_MS = 120_000;
/** A depth that would take longer, by the speed of the golden's prompt, is not fed: a run of many tests would have no end. */
const DEPTH_MS = 15_000;
/** Of generated tokens as many are timed as take this long, and its remark says how many: a slow runtime's rate needs no more. */
const STEPS_MS = 2000;
const FEWEST_STEPS = 4;
/** A test's rounds that would take longer in all are fewer. */
const ROUNDS_MS = 20_000;

/** Of one test, before it was timed. */
interface Memory {
  asked: number | null;
  peak: number | null;
  own: number | null;
  /** A token. */
  dispatches: number;
}

interface Time {
  samplesNs: number[];
  latenciesNs: number[];
  /** To the first id, where the stream was empty. */
  firstsNs: number[];
}

export interface ContenderHost {
  model: PeerModel;
  expected: Expected;
  fill: Fill;
  counter: Counter;
  onStep(what: string): Promise<void>;
  onTrace(stack: string): Promise<void>;
}

export class Contender {
  readonly #name: RivalName;
  readonly #host: ContenderHost;
  readonly #memory = new Map<string, Memory>();
  #peer: Peer | null = null;
  #version: string | null = null;
  #failed: Pick<Row, "status" | "reason"> | null = null;
  /** Of the test that is being timed. */
  #testFailed: Pick<Row, "status" | "reason"> | null = null;
  #test: Test | null = null;
  /** Tokens at the mark; null: there is none. */
  #marked: number | null = null;
  /** Streams by the tokens that they hold: a depth is fed once. */
  readonly #depths = new Map<number, Saved>();
  #time: Time = { samplesNs: [], latenciesNs: [], firstsNs: [] };
  #left: number | null = null;
  #loadNs: number | null = null;
  #nmse: number | null = null;
  /** Milliseconds of a prompt's token, and of a generated one. */
  #msPerToken = 0;
  #msPerStep = 0;

  constructor(name: RivalName, host: ContenderHost) {
    this.#name = name;
    this.#host = host;
  }

  /** Version and settings; null where the runtime did not open. */
  get facts(): PeerFacts | null {
    if (!this.#peer || !this.#version) return null;
    return { peer: this.#name, version: this.#version, settings: this.#peer.settings };
  }

  /** Loads the model, holds its logits against those expected, runs every test once, and gives all back. */
  async measure(tests: readonly Test[]): Promise<void> {
    await this.#guarded("preflight", async () => {
      const { counter, model } = this.#host;
      await this.#say("opening");
      const opened = await this.#within("opening", openPeer(this.#name));
      this.#peer = opened.peer;
      this.#version = opened.version;
      const { peer } = opened;
      const before = peer.device ? counter.bytes(peer.device) : 0;
      await this.#say("loading");
      await this.#within("loading", peer.load(model));
      await this.#gate(peer);
      for (const test of tests.filter((one) => this.#refusal(one) === null)) {
        await this.#say(`memory, ${testName(test)}`);
        await this.#start(peer, test);
        const dispatches = await countDispatches(() => this.#run(peer, test).then(() => undefined));
        this.#memory.set(testName(test), {
          asked: peer.device && counter.bytes(peer.device),
          peak: peer.device && counter.peak(peer.device),
          own: peer.memory(),
          dispatches: dispatches / (test.n_prompt + this.#steps(test.n_gen)),
        });
      }
      await this.#within("giving back its memory", peer.dispose());
      if (peer.device) this.#left = counter.bytes(peer.device) - before;
    });
  }

  /** Loads the model once more, uncounted: for time. */
  async load(): Promise<void> {
    await this.#guarded("preflight", async () => {
      await this.#say("loading, for time");
      const started = performance.now();
      await this.#within("loading", this.#peer!.load(this.#host.model));
      this.#loadNs = (performance.now() - started) * 1e6;
    });
  }

  /** Brings the stream to where the test starts, and runs it once untimed where that is asked. */
  async begin(test: Test, warmup: boolean): Promise<void> {
    this.#test = test;
    this.#testFailed = this.#refusal(test);
    this.#time = { samplesNs: [], latenciesNs: [], firstsNs: [] };
    await this.#guardedTest(async (peer) => {
      // a depth is made once
      if (this.#marked === filled(test)) peer.rollback();
      else {
        this.#marked = null;
        await this.#say("depth");
        await this.#start(peer, test);
        peer.mark();
        this.#marked = filled(test);
      }
      if (!warmup) return;
      await this.#say("warm-up");
      await this.#run(peer, { ...test, n_gen: Math.min(test.n_gen, 1) });
    });
  }

  /** One timed repetition. Where the rounds before took long, none. */
  async round(): Promise<void> {
    const { samplesNs, latenciesNs, firstsNs } = this.#time;
    const spent = samplesNs.reduce((sum, ns) => sum + ns, 0);
    if (samplesNs.length > 0 && (spent + spent / samplesNs.length) / 1e6 > ROUNDS_MS) return;
    await this.#guardedTest(async (peer) => {
      peer.rollback();
      const test = this.#test!;
      const { started, arrivals, fed } = await this.#run(peer, test);
      const ended = arrivals.at(-1) ?? fed;
      // as if all had been timed: the rate is that of those that were
      const steps = this.#steps(test.n_gen);
      samplesNs.push((fed - started + (steps > 0 ? ((ended - fed) * test.n_gen) / steps : 0)) * 1e6);
      arrivals.forEach((arrival, i) => {
        if (i > 0) latenciesNs.push((arrival - arrivals[i - 1]!) * 1e6);
      });
      if (filled(test) === 0) {
        if (arrivals.length === 0) await this.#within("a token", peer.step());
        firstsNs.push(((arrivals[0] ?? performance.now()) - started) * 1e6);
      }
      // what a peer runs ahead would run into the next one's round
      await this.#within("its work", peer.device?.queue.onSubmittedWorkDone() ?? Promise.resolve());
    });
  }

  /** The row of the test that was begun last. */
  row(row: Row): Row {
    const { samplesNs, latenciesNs, firstsNs } = this.#time;
    const test = this.#test!;
    const tokens = test.n_prompt + test.n_gen;
    const memory = this.#memory.get(testName(test));
    const found: Row = {
      ...row,
      peer: this.#name,
      peer_version: this.#version,
      model_n_params: this.#host.model.parameters,
      ...this.#where(row),
      fill: this.#host.fill.kind,
      nmse_vs_reference: this.#nmse,
      mem_asked: memory?.asked ?? null,
      mem_peak: memory?.peak ?? null,
      mem_own: memory?.own ?? null,
      mem_left: this.#left,
      dispatches_per_token: memory && this.#peer?.device ? memory.dispatches : null,
      load_ns: this.#loadNs,
      remark: this.#remark(),
    };
    const failed = this.#failed ?? this.#testFailed;
    if (failed) return { ...found, ...failed };
    const figures = timing(samplesNs, tokens);
    const latency = (q: number) => (latenciesNs.length > 0 ? quantile(latenciesNs, q) : null);
    return {
      ...found,
      ...figures,
      avg_ts_stream: figures.avg_ts,
      latency_p50_ns: latency(0.5),
      latency_p95_ns: latency(0.95),
      ttft_ns: firstsNs.length > 0 ? this.#loadNs! + mean(firstsNs) : null,
    };
  }

  async dispose(): Promise<void> {
    const peer = this.#peer;
    this.#peer = null;
    await this.#within("giving back its memory", peer?.dispose() ?? Promise.resolve()).catch(() => {});
  }

  /** A row of nodes that ran on the CPU is no WebGPU row. */
  #where({ adapter, software }: Row): Pick<Row, "backend" | "adapter" | "software"> {
    if (this.#name === "ort-wasm") return { backend: "wasm", adapter: null, software: null };
    const partly = (this.#peer?.fallbacks() ?? []).length > 0;
    return { backend: partly ? "webgpu and cpu" : "webgpu", adapter, software };
  }

  #remark(): string | null {
    const { reason } = this.#host.model.tolerance;
    const { n_gen } = this.#test!;
    const steps = this.#steps(n_gen);
    const loose = this.#nmse !== null && this.#nmse > PEER_NMSE;
    const all = [
      ...(this.#peer?.fallbacks() ?? []),
      ...(this.#peer?.remarks() ?? []),
      ...(steps < n_gen ? [`${steps} of ${n_gen} tokens timed`] : []),
      ...(loose && reason ? [`NMSE ${this.#nmse!.toExponential(1)}: ${reason}`] : []),
    ];
    return all.join("; ") || null;
  }

  /** Half of the prompt and then the rest, so that what is carried is under test, and the tokens that follow. */
  async #gate(peer: Peer): Promise<void> {
    const { expected, model } = this.#host;
    const V = model.vocabulary;
    await this.#say("against the golden");
    await peer.reset();
    const half = Math.ceil(expected.ids.length / 2);
    const found: Float32Array[] = [];
    const wanted = new Float32Array(2 * V);
    for (const [i, part] of [expected.ids.slice(0, half), expected.ids.slice(half)].entries()) {
      const started = performance.now();
      await this.#within("a prompt", peer.prefill(part));
      // the first half compiles
      this.#msPerToken = (performance.now() - started) / Math.max(1, part.length);
      found.push(await this.#within("logits", peer.logits()));
      const last = i === 0 ? half : expected.ids.length;
      wanted.set(expected.logits.subarray((last - 1) * V, last * V), i * V);
    }
    this.#nmse = nmse(wanted, found);
    // not <=: NaN is no pass
    if (!(this.#nmse <= model.tolerance.nmse))
      throw new Error(
        `the logits differ from the golden's by an NMSE of ${this.#nmse.toExponential(1)}, at most ${model.tolerance.nmse} is wanted`,
      );
    const started = performance.now();
    for (const [place, id] of expected.greedy.entries()) {
      const next = await this.#within("a token", peer.step());
      if (next !== id) throw new Error(`token ${next} follows at place ${place}, the golden has ${id}`);
    }
    // the first may compile
    const again = performance.now();
    await this.#within("a token", peer.step());
    this.#msPerStep = Math.min(performance.now() - again, performance.now() - started);
  }

  /** Why a test is not run; null: it is. */
  #refusal(test: Test): Pick<Row, "status" | "reason"> | null {
    if (test.n_parallel !== 1)
      return { status: "unsupported", reason: `peers run one stream, found ${test.n_parallel}` };
    const depth = filled(test);
    const ms = depth * this.#msPerToken;
    if (ms <= DEPTH_MS) return null;
    const rate = (1000 / this.#msPerToken).toFixed(1);
    return {
      status: "refused",
      reason: `a depth of ${depth} tokens takes ${(ms / 1000).toFixed(0)} s at ${rate} tokens a second, wanted at most ${DEPTH_MS / 1000} s`,
    };
  }

  /** An empty stream, then the depth. */
  async #start(peer: Peer, test: Test): Promise<void> {
    const depth = filled(test);
    const saved = this.#depths.get(depth);
    if (saved) return this.#within("putting back its stream", peer.restore(saved));
    await peer.reset();
    for (let from = 0; from < depth; from += test.n_ubatch) {
      const count = Math.min(test.n_ubatch, depth - from);
      await this.#within("a prompt", peer.prefill(this.#host.fill.ids(count, from)));
    }
    // what reading takes is no part of what the runtime needs
    const now = await this.#host.counter.paused(() => this.#within("reading its stream", peer.save()));
    if (now) this.#depths.set(depth, now);
  }

  /** The timed part. `fed`: when the prompt was over; `arrivals`: when each id was in JavaScript. */
  async #run(peer: Peer, { n_prompt, n_gen, n_ubatch, n_depth }: Test) {
    const depth = filled({ n_prompt, n_depth });
    const arrivals: number[] = [];
    const started = performance.now();
    for (let from = 0; from < n_prompt; from += n_ubatch) {
      const ids = this.#host.fill.ids(Math.min(n_ubatch, n_prompt - from), depth + from);
      await this.#within("a prompt", peer.prefill(ids));
    }
    const fed = performance.now();
    for (let i = 0; i < this.#steps(n_gen); i++) {
      await this.#within("a token", peer.step());
      arrivals.push(performance.now());
    }
    return { started, fed, arrivals };
  }

  /** How many of these generated tokens are taken. */
  #steps(n_gen: number): number {
    const fitting = Math.max(FEWEST_STEPS, Math.floor(STEPS_MS / this.#msPerStep));
    return Math.min(n_gen, fitting);
  }

  #say(what: string): Promise<void> {
    return this.#host.onStep(`${this.#name}: ${what}`);
  }

  async #guarded(phase: Phase, work: () => Promise<void>): Promise<void> {
    if (this.#failed) return;
    try {
      await work();
    } catch (error) {
      this.#failed = await this.#told(error, phase);
    }
  }

  async #guardedTest(work: (peer: Peer) => Promise<void>): Promise<void> {
    if (this.#failed || this.#testFailed) return;
    try {
      await work(this.#peer!);
    } catch (error) {
      this.#testFailed = await this.#told(error, "run");
    }
  }

  async #told(error: unknown, phase: Phase): Promise<Pick<Row, "status" | "reason">> {
    await this.#host.onTrace(stackOf(error));
    const found = failure(error, phase);
    return error instanceof Unsupported ? { ...found, status: "unsupported" } : found;
  }

  async #within<T>(what: string, work: Promise<T>): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const hung = new Promise<never>((_, fail) => {
      const reason = `${what} did not end within ${MOST_MS / 1000} s`;
      timer = setTimeout(() => fail(new Error(reason)), MOST_MS);
    });
    try {
      return await Promise.race([work, hung]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Tokens that a peer's stream holds at most over these tests and the gate. */
export const contextFor = (tests: readonly Test[], { ids, greedy }: Expected): number =>
  Math.max(ids.length + greedy.length + 1, ...tests.map((test) => held(test) + 1));
