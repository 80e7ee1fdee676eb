// A session: B streams over one model, in lock-step. It owns the state, lays out the plans, runs tokens ahead of the
// consumer without waiting for the GPU, and takes back what was run ahead and not consumed.
//
// Invariant between calls: state and logits are those after exactly the tokens that each stream has been given and has
// yielded.

import { fillCache } from "./cacheFill.ts";
import { cursorWords, ID_RING } from "./cursor.ts";
import { OutOfMemoryError, UsageError } from "./errors.ts";
import { type Ahead, IdRing, idsOf } from "./idRing.ts";
import { chunkFor, laySession, type SessionLayout } from "./layout.ts";
import { Ledger } from "./ledger.ts";
import type { Run } from "./machine.ts";
import { formatBytes, total } from "./memory.ts";
import type { Model } from "./model.ts";
import { Pace } from "./pace.ts";
import { growPages } from "./pages.ts";
import type { Plan, Reach } from "./plan.ts";
import { type Prompts, promptLists } from "./prompts.ts";
import { Shadow } from "./shadow.ts";
import { clearAll, readAll, type Snapshot, writeAll } from "./snapshot.ts";
import { Stream, type StreamHost, type StreamOptions } from "./stream.ts";
import { type Bytes, bytesOf, type Storage, type Tensor } from "./tensor.ts";
import { Workspace } from "./workspace.ts";

export interface SessionOptions {
  /** Independent streams, B. Default 1. */
  streams?: number;
  /** Largest number of tokens that one run of prefill takes a stream (llama.cpp's n_ubatch). Default 512. */
  chunk?: number;
  /** Keep room for the logits of every prompt position: see `prefillLogits`. */
  allLogits?: boolean;
}

/** Tokens run ahead in one submit; a roll-back replays at most ID_RING. */
const MOST_AHEAD = ID_RING / 2;

export class Session implements StreamHost {
  readonly model: Model;
  readonly streams: readonly Stream[];
  /** Tokens that each stream holds: given and yielded. */
  readonly positions: number[];
  readonly chunk: number;

  readonly #B: number;
  readonly #allLogits: boolean;
  /** Tokens that the model's mathematics reaches. */
  readonly #longest: number;
  readonly #layout: SessionLayout;
  readonly #shadow: Shadow;
  readonly #ids: IdRing;
  /** All that is allocated here and does not grow. */
  readonly #held: readonly Storage[];
  readonly #workspace: Workspace;

  /** Positions with what was run ahead. */
  #run: number[];
  /** Which side of the twins is now: every run turns it. */
  #parity: 0 | 1 = 0;
  #ahead: Ahead[] = [];
  readonly #pace = new Pace(MOST_AHEAD);
  /** Whether the logits are those after each stream's last token. */
  #drawable: boolean[];
  #lock: Promise<unknown> = Promise.resolve();
  #destroyed = false;

  /** Lays everything out and allocates it. Throws OutOfMemoryError with nothing left allocated, or UsageError. */
  static async open(model: Model, options: SessionOptions = {}): Promise<Session> {
    const { streams = 1, chunk = 512, allLogits = false } = options;
    for (const [name, value] of Object.entries({ streams, chunk })) {
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
    const { variants, maxBindingBytes } = model.machine;
    const session = await Session.open({ ...model, machine: new Ledger(variants, maxBindingBytes) }, options);
    await session.reserve(length);
    return session.memory();
  }

  private constructor(model: Model, B: number, chunk: number, allLogits: boolean) {
    this.model = model;
    this.chunk = chunk;
    this.#B = B;
    this.#allLogits = allLogits;
    this.#longest = model.architecture.longest?.(model.config) ?? Number.POSITIVE_INFINITY;
    this.positions = new Array<number>(B).fill(0);
    this.#run = [...this.positions];
    this.#drawable = this.positions.map(() => false);
    this.streams = this.positions.map((_, b) => new Stream(this, b));
    this.#layout = laySession(model.architecture, model.config, model.weights, { B, chunk, allLogits });
    const { carried, io, scratch, greedy, sampled, prefill } = this.#layout;
    this.#workspace = new Workspace(model.machine, [...greedy, ...sampled, ...[...prefill.values()].flat()]);
    this.#shadow = new Shadow(carried, io.view(1));
    this.#ids = new IdRing(io.view(1).ids);
    const { storages: shadows } = this.#shadow;
    this.#held = [
      ...carried.fixed,
      ...carried.sides.flat(),
      ...io.storages,
      ...scratch,
      ...shadows,
      ...this.#ids.storages,
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
    ids: Prompts,
    options: { signal?: AbortSignal; onProgress?: (done: number, of: number) => void } = {},
  ): Promise<void> {
    await this.#locked(() => this.#feed(this.#lists(ids), options));
  }

  /** As `prefill`, and gives each stream's logits at every position it was fed, [tokens, V]: needs `allLogits`. */
  async prefillLogits(ids: Prompts): Promise<Float32Array[]> {
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

  /**
   * Moves every stream `tokens` positions on with keys and values that are random numbers of this seed, uniform in [-1, 1):
   * the depth of a cache without the time of a prefill. The rest of the state stays as it is, and the logits mean nothing
   * until a token is fed: prefill at least one before streaming. Throws UsageError; OutOfMemoryError; DeviceLostError.
   */
  async fillCache(tokens: number, seed: number): Promise<void> {
    for (const [name, value] of Object.entries({ tokens, seed })) {
      if (!Number.isInteger(value) || value < 0 || value >= 2 ** 32)
        throw new UsageError(`${name} is ${value}; a whole number from 0 below 2^32 is wanted`);
    }
    this.#expectNoReader("fillCache");
    await this.#locked(async () => {
      await this.#takeBack();
      await this.#reserve(Math.max(...this.positions) + tokens);
      const { fill: plan, io, carried } = this.#layout;
      const fill = { plan, cursor: io.view(1).cursor, pages: carried.paged[0]?.pages ?? [] };
      await fillCache(this.model.machine, fill, this.positions, tokens, seed);
      if (tokens === 0) return;
      this.#stand(this.positions.map((p) => p + tokens));
      this.#drawable.fill(false);
    });
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
      return {
        architecture: this.model.architecture.name,
        positions: [...this.positions],
        drawable: [...this.#drawable],
        ...held,
      };
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
      this.#drawable = [...snapshot.drawable];
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

  /** Frees what the session holds; the model stays. A call in flight is rejected with UsageError. */
  destroy(): void {
    this.#destroyed = true;
    this.#free();
  }

  #free(): void {
    this.#workspace.destroy();
    this.model.machine.free(this.#held);
    for (const t of this.#layout.carried.paged) this.model.machine.free(t.storages);
  }

  /** @internal */
  drawable(b: number): boolean {
    return this.#drawable[b]!;
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
        if (this.#ahead.length === 0) await this.#runAhead(b);
        // the GPU works on the next tokens while these come back
        if (this.#ahead.length === 1) await this.#runAhead(b);
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

  /** Calls run one after the other. */
  #locked<T>(run: () => Promise<T>): Promise<T> {
    const expectLive = () => {
      if (this.#destroyed) throw new UsageError("the session was destroyed");
    };
    const result = this.#lock.then(async () => {
      expectLive();
      try {
        return await run();
      } finally {
        // destroyed meanwhile: what was allocated since has no other owner
        if (this.#destroyed) this.#free();
        expectLive();
      }
    });
    this.#lock = result.catch(() => undefined);
    return result;
  }

  /** The plan for the `ahead`th run from now. */
  #plan(plans: readonly Plan[], reach = this.#reach(1), ahead = 0): Run {
    return this.#workspace.run(plans[(this.#parity + ahead) % plans.length]!, reach);
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
    this.#parity = ((this.#parity + runs) % 2) as 0 | 1;
  }

  #writeCursor(T: number, remaining: readonly number[]): void {
    const words = cursorWords(T, this.#run, remaining, (b) => this.streams[b]!.settings);
    this.model.machine.write(this.#layout.io.view(T).cursor, words);
  }

  #lists(ids: Prompts): readonly (readonly number[])[] {
    const { architecture, config } = this.model;
    const lists = promptLists(ids, this.#B, architecture.vocabulary(config));
    this.#expectNoReader("prefill");
    return lists;
  }

  #expectNoReader(before: string): void {
    if (this.streams.some((s) => s.open))
      throw new UsageError(`a stream of this session is being read: end it before ${before}`);
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
      const T = chunkFor(this.#layout, Math.max(...left));
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
      counts.forEach((n, b) => {
        this.positions[b]! += n;
        this.#run[b]! += n;
        if (n > 0) this.#drawable[b] = true;
      });
      await collect?.(T, counts, done);
      counts.forEach((n, b) => {
        done[b]! += n;
      });
      onProgress?.(Math.max(...done), of);
    }
  }

  /**
   * Submits the next tokens of every open stream, so that streams read side by side take the same steps; one whose
   * consumer lags far behind waits. Throws where there is no room for what stream b asks.
   */
  async #runAhead(b: number): Promise<void> {
    const { machine } = this.model;
    const idle = () => this.#run.every((p, b) => p === this.positions[b]);
    if (!idle() && this.#age() + MOST_AHEAD > ID_RING) {
      // the shadow has grown old: go on when the consumers have caught up; a laggard's tokens are run again later
      if (this.#ahead.length > 0) return;
      await new Promise((resolve) => setTimeout(resolve));
      if (!idle()) await this.#takeBack();
    }
    const wanted = this.streams.map((s) =>
      s.open && s.queue.length < MOST_AHEAD ? Math.min(this.#pace.steps, s.wanted) : 0,
    );
    const counts = await this.#fitting(wanted, b);
    const steps = Math.max(...counts);
    if (steps === 0) return;
    if (idle()) this.#shadow.take(machine, this.#run, this.#parity);
    const sampled = this.streams.some((s, b) => counts[b]! > 0 && s.settings.temperature > 0);
    const from = [...this.#run];
    await this.#steps(counts, sampled);
    counts.forEach((n, b) => {
      this.streams[b]!.wanted -= n;
    });
    const ids = this.#ids.fetch(machine);
    this.#ahead.push({ counts, from, ids });
    this.#pace.follow(steps, ids);
  }

  /**
   * As many of these tokens as there is room for, or can be made. Throws why there is none where stream b wants some and
   * none of its are under way: whatever still fits comes out first, and a full stream does not end the others.
   */
  async #fitting(wanted: readonly number[], b: number): Promise<readonly number[]> {
    const needed = Math.max(...this.#run.map((p, i) => p + wanted[i]!));
    try {
      await this.#reserve(Math.min(needed, this.#longest));
    } catch (error) {
      if (!(error instanceof OutOfMemoryError || error instanceof UsageError)) throw error;
    }
    const room =
      this.#layout.carried.paged.length > 0 ? Math.min(this.capacity, this.#longest) : this.#longest;
    const counts = this.#run.map((p, i) => Math.min(wanted[i]!, room - p));
    const underWay = this.#ahead.some((ahead) => ahead.counts[b]! > 0);
    if (wanted[b]! > 0 && counts[b] === 0 && !underWay) await this.#reserve(this.#run[b]! + 1);
    return counts;
  }

  /** Tokens that a roll-back would have to replay. */
  #age(): number {
    const { positions } = this.#shadow.taken ?? { positions: this.#run };
    return Math.max(...this.#run.map((p, b) => p - positions[b]!));
  }

  /** One submit of as many steps as the busiest stream takes; a stream with fewer is frozen for the rest. */
  async #steps(counts: readonly number[], sampled: boolean): Promise<void> {
    const { machine } = this.model;
    const steps = Math.max(...counts);
    const plans = sampled ? this.#layout.sampled : this.#layout.greedy;
    const reach = this.#reach(counts);
    const runs = Array.from({ length: steps }, (_, i) => this.#plan(plans, reach, i));
    for (const run of new Set(runs)) await machine.prepare(run.dispatches);
    this.#writeCursor(1, counts);
    machine.submit(runs);
    this.#flip(steps);
    counts.forEach((n, b) => {
      this.#run[b]! += n;
    });
  }

  async #collect(): Promise<void> {
    const ahead = this.#ahead.shift();
    if (!ahead) return;
    const ids = idsOf(ahead, await ahead.ids);
    this.streams.forEach((stream, b) => {
      stream.queue.push(...ids[b]!);
    });
  }

  /** Rolls every stream back to what it has yielded: the shadow's state, and the steps since then once more. */
  async #takeBack(): Promise<void> {
    while (this.#ahead.length > 0) await this.#ahead.shift()!.ids;
    this.streams.forEach((stream, b) => {
      if (stream.open) stream.wanted += this.#run[b]! - this.positions[b]!;
      stream.queue = [];
    });
    if (this.#run.every((p, b) => p === this.positions[b])) return;
    const { positions, parity } = this.#shadow.putBack(this.model.machine);
    this.#parity = parity;
    const counts = this.positions.map((p, b) => p - positions[b]!);
    const sampled = this.streams.some((s, b) => counts[b]! > 0 && s.settings.temperature > 0);
    this.#run = [...positions];
    // in submits as short as those that ran ahead
    let left = counts;
    while (Math.max(...left) > 0) {
      const taken = left.map((n) => Math.min(n, this.#pace.steps));
      await this.#steps(taken, sampled);
      left = left.map((n, b) => n - taken[b]!);
    }
  }

  /** What a snapshot holds, by name. */
  #saved(): [string, Tensor][] {
    const { last, logits } = this.#layout.io.view(1);
    const paged = this.#layout.carried.paged.map((t): [string, Tensor] => [t.label, t]);
    return [...this.#layout.carried.tensors(this.#parity), ...paged, ["last", last], ["logits", logits]];
  }
}
