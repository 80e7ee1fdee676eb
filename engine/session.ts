// A session: B streams over one model, in lock-step. It owns the state, lays out the plans, runs tokens ahead of the
// consumer without waiting for the GPU, and takes back what was run ahead and not consumed.
//
// Invariant between calls: state and logits are those after exactly the tokens that each stream has been given and has
// yielded.

import { cursorWords, ID_RING } from "./cursor.ts";
import { OutOfMemoryError, UsageError } from "./errors.ts";
import { laySession, type SessionLayout } from "./layout.ts";
import { Ledger } from "./ledger.ts";
import type { Run } from "./machine.ts";
import { formatBytes, total } from "./memory.ts";
import type { Model } from "./model.ts";
import { growPages } from "./pages.ts";
import type { Plan, Reach } from "./plan.ts";
import { Shadow } from "./shadow.ts";
import { clearAll, readAll, type Snapshot, writeAll } from "./snapshot.ts";
import { Stream, type StreamHost, type StreamOptions } from "./stream.ts";
import { type Bytes, bytesOf, type Data, type Storage, type Tensor } from "./tensor.ts";
import { Workspace } from "./workspace.ts";

export interface SessionOptions {
  /** Independent streams, B. Default 1. */
  streams?: number;
  /** Largest number of tokens that one run of prefill takes a stream (llama.cpp's n_ubatch). Default 512. */
  chunk?: number;
  /** Keep room for the logits of every prompt position: see `prefillLogits`. */
  allLogits?: boolean;
}

/** Tokens run ahead in one submit, and tokens that a roll-back may have to replay. */
const MOST_AHEAD = ID_RING / 2;
/** A submit is sized to take about this long: short beside a browser's watchdog, long beside a readback. */
const SUBMIT_MS = 25;

interface Ahead {
  /** Tokens run for each stream. */
  counts: readonly number[];
  /** Each stream's position before. */
  from: readonly number[];
  ids: Promise<Data>;
}

export class Session implements StreamHost {
  readonly model: Model;
  readonly streams: readonly Stream[];
  /** Tokens that each stream holds: given and yielded. */
  readonly positions: number[];
  readonly chunk: number;

  readonly #B: number;
  readonly #allLogits: boolean;
  readonly #layout: SessionLayout;
  readonly #shadow: Shadow;
  readonly #staging: readonly Storage[];
  /** All that is allocated here and does not grow. */
  readonly #held: readonly Storage[];
  readonly #workspace: Workspace;

  /** Positions with what was run ahead. */
  #run: number[];
  #parity: 0 | 1 = 0;
  #ahead: Ahead[] = [];
  #stagingTurn = 0;
  #batch = 1;
  #lock: Promise<unknown> = Promise.resolve();
  #destroyed = false;

  /** Lays everything out and allocates it. Throws OutOfMemoryError with nothing left allocated, or UsageError. */
  static async open(model: Model, options: SessionOptions = {}): Promise<Session> {
    const { streams = 1, chunk = 512, allLogits = false } = options;
    for (const [name, value] of [
      ["streams", streams],
      ["chunk", chunk],
    ] as const) {
      if (!Number.isInteger(value) || value < 1)
        throw new UsageError(`${name} is ${value}; a whole number from 1 is wanted`);
    }
    const session = new Session(model, streams, chunk, allLogits);
    if (model.machine.kind === "gpu") await session.#preflight(options);
    try {
      await model.machine.allocate(session.#held);
      await session.#workspace.open();
    } catch (error) {
      session.destroy();
      throw error;
    }
    return session;
  }

  /**
   * Bytes by category that a session of this model will hold with a cache for `length` tokens a stream, weights included:
   * the same session opened on the ledger, with the machine's own variants.
   */
  static async predict(model: Model, options: SessionOptions = {}, length = 0): Promise<Bytes> {
    const session = await Session.open({ ...model, machine: new Ledger(model.machine.variants) }, options);
    await session.reserve(length);
    return session.memory();
  }

  private constructor(model: Model, B: number, chunk: number, allLogits: boolean) {
    this.model = model;
    this.chunk = chunk;
    this.#B = B;
    this.#allLogits = allLogits;
    this.positions = new Array<number>(B).fill(0);
    this.#run = [...this.positions];
    this.streams = this.positions.map((_, b) => new Stream(this, b));
    this.#layout = laySession(model.architecture, model.config, model.weights, { B, chunk, allLogits });
    const { carried, io, scratch, greedy, sampled, prefill } = this.#layout;
    this.#workspace = new Workspace(model.machine, [...greedy, ...sampled, ...[...prefill.values()].flat()]);
    this.#shadow = new Shadow(carried, io.view(1));
    const { bytes } = io.view(1).ids.storages[0]!;
    this.#staging = [0, 1].map((i) => ({ category: "staging", label: `ids ${i}`, bytes }));
    const { storages: shadows } = this.#shadow;
    this.#held = [
      ...carried.fixed,
      ...carried.sides.flat(),
      ...io.storages,
      ...scratch,
      ...shadows,
      ...this.#staging,
    ];
  }

  /** What the session will ask is known before anything is allocated: the ledger opens the same one. */
  async #preflight(options: SessionOptions): Promise<void> {
    const { machine, architecture, storages } = this.model;
    const asked = total(await Session.predict(this.model, options)) - total(bytesOf(storages));
    const held = total(machine.live());
    if (held + asked <= machine.maxBytes) return;
    throw new OutOfMemoryError(
      `a session of ${this.#B} streams of ${architecture.name} asks ${formatBytes(asked)} with ${formatBytes(held)} held, the limit (maxBytes) is ${formatBytes(machine.maxBytes)}`,
      asked,
      held,
    );
  }

  /** Dispatches that one token takes at the length that the streams have now. */
  get dispatchesPerToken(): number {
    return this.#plan(this.#layout.greedy).dispatches.length;
  }

  /** Slots of the paged cache; 0 where the model has none. */
  get capacity(): number {
    return this.#layout.carried.paged[0]?.capacity ?? 0;
  }

  /** Bytes that this session and its model hold, by category. */
  memory(): Bytes {
    const paged = this.#layout.carried.paged.flatMap((t) => t.storages);
    return bytesOf([...this.model.storages, ...this.#held, ...this.#workspace.storages, ...paged]);
  }

  /**
   * Grows the cache to hold `length` tokens a stream; a model without one has nothing to grow.
   * Throws OutOfMemoryError, which says what is held and the longest context that fits; what was there stays usable.
   */
  async reserve(length: number): Promise<void> {
    await this.#locked(() => this.#reserve(length));
  }

  /**
   * Feeds token ids: one list, or one a stream (they may differ in length, or be empty).
   * An aborted prefill leaves the streams with the chunks that were fed. Throws UsageError for an id outside the
   * vocabulary, before anything is run; OutOfMemoryError; DeviceLostError; the signal's reason.
   */
  async prefill(
    ids: readonly number[] | readonly (readonly number[])[],
    options: { signal?: AbortSignal; onProgress?: (done: number, of: number) => void } = {},
  ): Promise<void> {
    await this.#locked(() => this.#feed(this.#lists(ids), options));
  }

  /** As `prefill`, and gives each stream's logits at every position it was fed, [tokens, V]: needs `allLogits`. */
  async prefillLogits(ids: readonly number[] | readonly (readonly number[])[]): Promise<Float32Array[]> {
    if (!this.#allLogits) throw new UsageError("prefillLogits needs a session opened with allLogits: true");
    const lists = this.#lists(ids);
    const V = this.model.architecture.vocabulary(this.model.config);
    const out = lists.map((list) => new Float32Array(list.length * V));
    const collect = async (T: number, counts: readonly number[], done: readonly number[]) => {
      const all = (await this.model.machine.read(this.#layout.io.view(T).allLogits!)) as Float32Array;
      counts.forEach((n, b) => {
        out[b]!.set(all.subarray(b * T * V, (b * T + n) * V), done[b]! * V);
      });
    };
    await this.#locked(() => this.#feed(lists, {}, collect));
    return out;
  }

  /** The logits that follow each stream's last token, [B, V]. */
  async logits(): Promise<Float32Array> {
    return this.#locked(async () => {
      await this.#takeBack();
      return (await this.model.machine.read(this.#layout.io.view(1).logits)) as Float32Array;
    });
  }

  /** Generates tokens from the only stream: see `Stream.stream`. With more streams use `session.streams[b]`. */
  stream(options: StreamOptions = {}): AsyncGenerator<number, void, void> {
    if (this.#B !== 1)
      throw new UsageError(`this session has ${this.#B} streams: read session.streams[b].stream()`);
    return this.streams[0]!.stream(options);
  }

  async snapshot(): Promise<Snapshot> {
    return this.#locked(async () => {
      await this.#takeBack();
      const held = await readAll(this.model.machine, this.#saved());
      return { architecture: this.model.architecture.name, positions: [...this.positions], ...held };
    });
  }

  /** Puts a snapshot's streams in the place of this session's. Throws UsageError where it is another model's or shape. */
  async restore(snapshot: Snapshot): Promise<void> {
    const { architecture, machine } = this.model;
    if (snapshot.architecture !== architecture.name || snapshot.positions.length !== this.#B) {
      throw new UsageError(
        `the snapshot is of ${snapshot.positions.length} streams of ${snapshot.architecture}, this session has ${this.#B} of ${architecture.name}`,
      );
    }
    await this.#locked(async () => {
      await this.#takeBack();
      await this.#reserve(Math.max(...snapshot.positions));
      writeAll(machine, this.#saved(), snapshot);
      this.#stand(snapshot.positions);
    });
  }

  /** Empties every stream: state and logits as at the start; pages stay. */
  async reset(): Promise<void> {
    await this.#locked(async () => {
      await this.#takeBack();
      clearAll(this.model.machine, this.#saved());
      this.#stand(this.positions.map(() => 0));
    });
  }

  #stand(positions: readonly number[]): void {
    positions.forEach((p, b) => {
      this.positions[b] = p;
    });
    this.#run = [...positions];
    this.#shadow.taken = null;
  }

  /** Frees what the session holds; the model stays. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#workspace.destroy();
    this.model.machine.free(this.#held);
    for (const t of this.#layout.carried.paged) this.model.machine.free(t.storages);
  }

  /** @internal `enter` is called in the same turn, so that streams begun together run together from the first token. */
  async begin(enter: () => void): Promise<void> {
    await this.#locked(async () => {
      await this.#takeBack();
      enter();
    });
  }

  /** @internal Runs ahead where the queue is short. */
  async next(b: number, signal?: AbortSignal): Promise<number> {
    const stream = this.streams[b]!;
    // in the turn in which the id is seen: a roll-back in between would count it as not taken
    const take = () => {
      signal?.throwIfAborted();
      this.positions[b]!++;
      return stream.queue.shift()!;
    };
    if (stream.queue.length > 0) return take();
    return this.#locked(async () => {
      while (stream.queue.length === 0) {
        if (this.#ahead.length === 0) await this.#runAhead();
        // the GPU works on the next tokens while these come back
        if (this.#ahead.length === 1) await this.#runAhead();
        await this.#collect();
      }
      return take();
    });
  }

  /** @internal */
  async settle(): Promise<void> {
    if (this.#destroyed) return;
    await this.#locked(async () => {
      if (this.#run.some((p, b) => !this.streams[b]!.open && p !== this.positions[b])) await this.#takeBack();
    });
  }

  async #reserve(length: number): Promise<void> {
    if (length > this.#longest)
      throw new UsageError(
        `a context of ${length} tokens is asked for; ${this.model.architecture.name} reaches ${this.#longest} tokens`,
      );
    const { paged } = this.#layout.carried;
    if (paged.length === 0 || this.capacity >= length) return;
    await growPages(this.model.machine, paged, length, () => this.#workspace.repage());
  }

  /** Tokens that the model's mathematics reaches. */
  get #longest(): number {
    const { architecture, config } = this.model;
    return architecture.longest?.(config) ?? Number.POSITIVE_INFINITY;
  }

  /** Calls run one after the other. */
  #locked<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#lock.then(() => {
      if (this.#destroyed) throw new UsageError("the session was destroyed");
      return run();
    });
    this.#lock = result.catch(() => undefined);
    return result;
  }

  #plan(plans: readonly Plan[], reach = this.#reach(1)): Run {
    return this.#workspace.run(plans[this.#parity % plans.length]!, reach);
  }

  /** What the streams write when each goes `n` tokens on. */
  #reach(n: number | readonly number[]): Reach {
    let first = Number.POSITIVE_INFINITY;
    let last = 0;
    this.#run.forEach((p, b) => {
      const count = typeof n === "number" ? n : n[b]!;
      if (count === 0) return;
      first = Math.min(first, p);
      last = Math.max(last, p + count - 1);
    });
    return { first, last };
  }

  #flip(runs: number): void {
    if (this.#layout.carried.sides[0].length > 0) this.#parity = ((this.#parity + runs) % 2) as 0 | 1;
  }

  #writeCursor(T: number, remaining: readonly number[]): void {
    const words = cursorWords(T, this.#run, remaining, (b) => this.streams[b]!.settings);
    this.model.machine.write(this.#layout.io.view(T).cursor, words);
  }

  #lists(ids: readonly number[] | readonly (readonly number[])[]): readonly (readonly number[])[] {
    const lists = (
      ids.length > 0 && typeof ids[0] === "number" ? [ids] : ids
    ) as readonly (readonly number[])[];
    if (lists.length !== this.#B)
      throw new UsageError(`${lists.length} prompts were given, this session has ${this.#B} streams`);
    const V = this.model.architecture.vocabulary(this.model.config);
    lists.forEach((list, b) => {
      list.forEach((id, i) => {
        if (!Number.isInteger(id) || id < 0 || id >= V) {
          throw new UsageError(`prompt ${b}: token ${i} is ${id}, outside the vocabulary of ${V}`);
        }
      });
    });
    if (this.streams.some((s) => s.open))
      throw new UsageError("a stream of this session is being read: end it before prefill");
    return lists;
  }

  async #feed(
    lists: readonly (readonly number[])[],
    { signal, onProgress }: { signal?: AbortSignal; onProgress?: (done: number, of: number) => void },
    collect?: (T: number, counts: readonly number[], done: readonly number[]) => Promise<void>,
  ): Promise<void> {
    await this.#takeBack();
    this.#shadow.taken = null;
    const { machine } = this.model;
    await this.#reserve(Math.max(...lists.map((list, b) => this.positions[b]! + list.length)));
    const of = Math.max(...lists.map((list) => list.length));
    const done = lists.map(() => 0);
    while (done.some((n, b) => n < lists[b]!.length)) {
      signal?.throwIfAborted();
      const left = lists.map((list, b) => list.length - done[b]!);
      const T = this.#chunkSize(Math.max(...left));
      const counts = left.map((n) => Math.min(T, n));
      const tokens = new Uint32Array(this.#B * T);
      counts.forEach((n, b) => {
        tokens.set(lists[b]!.slice(done[b]!, done[b]! + n), b * T);
      });
      const run = this.#plan(this.#layout.prefill.get(T)!, this.#reach(counts));
      await machine.prepare(run.dispatches);
      machine.write(this.#layout.io.view(T).tokens, tokens);
      this.#writeCursor(T, counts);
      machine.submit([run]);
      this.#flip(1);
      await collect?.(T, counts, done);
      counts.forEach((n, b) => {
        done[b]! += n;
        this.positions[b]! += n;
        this.#run[b]! += n;
      });
      onProgress?.(Math.max(...done), of);
    }
  }

  /** The chunk that takes `left` tokens with the least work: padding up to half a chunk beats a second run. */
  #chunkSize(left: number): number {
    const sizes = [...this.#layout.prefill.keys()].sort((a, b) => a - b);
    return sizes.find((T) => T >= left && left > T / 2) ?? sizes.filter((T) => T <= left).at(-1)!;
  }

  /**
   * Submits the next tokens of every open stream, so that streams read side by side take the same steps; one whose
   * consumer lags far behind waits.
   */
  async #runAhead(): Promise<void> {
    const { machine } = this.model;
    const idle = () => this.#run.every((p, b) => p === this.positions[b]);
    if (!idle() && this.#age() + MOST_AHEAD > ID_RING) {
      // the shadow has grown old: go on when the consumers have caught up; a laggard's tokens are run again later
      if (this.#ahead.length > 0) return;
      await new Promise((resolve) => setTimeout(resolve));
      if (!idle()) await this.#takeBack();
    }
    const counts = this.streams.map((s) =>
      s.open && s.queue.length < MOST_AHEAD ? Math.min(this.#batch, s.wanted) : 0,
    );
    const steps = Math.max(...counts);
    if (steps === 0) return;
    await this.#reserve(Math.max(...this.#run.map((p, b) => p + counts[b]!)));
    if (idle()) this.#shadow.take(machine, this.#run, this.#parity);
    const sampled = this.streams.some((s, b) => counts[b]! > 0 && s.settings.temperature > 0);
    const from = [...this.#run];
    await this.#steps(counts, sampled);
    counts.forEach((n, b) => {
      this.streams[b]!.wanted -= n;
    });
    const staging = this.#staging[this.#stagingTurn++ % this.#staging.length]!;
    const ids = machine.fetch(this.#layout.io.view(1).ids, staging);
    ids.catch(() => undefined);
    this.#ahead.push({ counts, from, ids });
    this.#pace(steps, ids);
  }

  /** Tokens that a roll-back would have to replay. */
  #age(): number {
    const { positions } = this.#shadow.taken ?? { positions: this.#run };
    return Math.max(...this.#run.map((p, b) => p - positions[b]!));
  }

  /** Sizes the next submit by how long this one took. */
  #pace(steps: number, ids: Promise<unknown>): void {
    const started = performance.now();
    ids.then(
      () => {
        const perStep = (performance.now() - started) / steps;
        this.#batch = Math.max(
          1,
          Math.min(MOST_AHEAD, 2 * steps, Math.ceil(SUBMIT_MS / Math.max(perStep, 0.01))),
        );
      },
      () => undefined,
    );
  }

  /** One submit of as many steps as the busiest stream takes; a stream with fewer is frozen for the rest. */
  async #steps(counts: readonly number[], sampled: boolean): Promise<void> {
    const { machine } = this.model;
    const steps = Math.max(...counts);
    const plans = sampled ? this.#layout.sampled : this.#layout.greedy;
    const reach = this.#reach(counts);
    const runs: Run[] = [];
    for (let i = 0; i < steps; i++) {
      runs.push(this.#plan(plans, reach));
      this.#flip(1);
    }
    for (const run of new Set(runs)) await machine.prepare(run.dispatches);
    this.#writeCursor(1, counts);
    machine.submit(runs);
    counts.forEach((n, b) => {
      this.#run[b]! += n;
    });
  }

  async #collect(): Promise<void> {
    const ahead = this.#ahead.shift();
    if (!ahead) return;
    const ids = await ahead.ids;
    ahead.counts.forEach((n, b) => {
      for (let i = 0; i < n; i++)
        this.streams[b]!.queue.push(ids[((ahead.from[b]! + i) % ID_RING) * this.#B + b]!);
    });
  }

  /** Rolls every stream back to what it has yielded: the shadow's state, and the steps since then run again. */
  async #takeBack(): Promise<void> {
    while (this.#ahead.length > 0) await this.#ahead.shift()!.ids;
    this.streams.forEach((stream, b) => {
      stream.wanted += this.#run[b]! - this.positions[b]!;
      stream.queue = [];
    });
    if (this.#run.every((p, b) => p === this.positions[b])) return;
    const { positions, parity } = this.#shadow.putBack(this.model.machine);
    this.#parity = parity;
    const counts = this.positions.map((p, b) => p - positions[b]!);
    const sampled = this.streams.some((s, b) => counts[b]! > 0 && s.settings.temperature > 0);
    this.#run = [...positions];
    if (Math.max(...counts) > 0) await this.#steps(counts, sampled);
  }

  /** What a snapshot holds, by name. */
  #saved(): [string, Tensor][] {
    const { last, logits } = this.#layout.io.view(1);
    const paged = this.#layout.carried.paged.map((t): [string, Tensor] => [t.label, t]);
    return [...this.#layout.carried.tensors(this.#parity), ...paged, ["last", last], ["logits", logits]];
  }
}
