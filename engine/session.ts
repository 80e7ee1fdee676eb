// A session: B streams over one model, in lock-step. It checks what it is asked, makes calls wait for each other, and owns
// what is held; engine/runner.ts moves the streams.
//
// Invariant between calls: state and logits are those after exactly the tokens that each stream has been given and has
// yielded.

import { OutOfMemoryError, UsageError } from "./errors.ts";
import { Ledger } from "./ledger.ts";
import { Mark } from "./mark.ts";
import { formatBytes, total } from "./memory.ts";
import type { Model } from "./model.ts";
import { type Prompts, promptLists } from "./prompts.ts";
import { Runner } from "./runner.ts";
import {
  clearAll,
  expectFits,
  type Holder,
  type Snapshot,
  snapshotBytes,
  takeSnapshot,
  writeSnapshot,
} from "./snapshot.ts";
import { Stream, type StreamHost, type StreamOptions } from "./stream.ts";
import { type Bytes, bytesOf } from "./tensor.ts";

export interface SessionOptions {
  /** Independent streams, B. Default 1. */
  streams?: number;
  /** Largest number of tokens that one run of prefill takes a stream (llama.cpp's n_ubatch). Default 512. */
  chunk?: number;
  /** Keep room for the logits of every prompt position: see `prefillLogits`. */
  allLogits?: boolean;
}

export class Session implements StreamHost {
  readonly model: Model;
  readonly streams: readonly Stream[];
  readonly chunk: number;

  readonly #B: number;
  readonly #allLogits: boolean;
  readonly #runner: Runner;
  readonly #marks = new Set<Mark>();
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
      await session.#runner.open();
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
    const session = await Session.#onLedger(model, options);
    await session.reserve(length);
    return session.memory();
  }

  /** Bytes that a mark of such a session will hold, at any length. */
  static async predictMark(model: Model, options: SessionOptions = {}): Promise<number> {
    return (await (await Session.#onLedger(model, options)).mark()).bytes;
  }

  /** `bytes` of a snapshot of such a session while its longest stream holds `length` tokens. */
  static async predictSnapshot(model: Model, options: SessionOptions = {}, length = 0): Promise<number> {
    return snapshotBytes((await Session.#onLedger(model, options)).#holder().tensors, length);
  }

  static #onLedger(model: Model, options: SessionOptions): Promise<Session> {
    const { variants, maxBindingBytes } = model.machine;
    return Session.open({ ...model, machine: new Ledger(variants, maxBindingBytes) }, options);
  }

  private constructor(model: Model, B: number, chunk: number, allLogits: boolean) {
    this.model = model;
    this.chunk = chunk;
    this.#B = B;
    this.#allLogits = allLogits;
    this.streams = Array.from({ length: B }, (_, b) => new Stream(this, b));
    const lanes = this.streams.map((stream) => stream.lane);
    this.#runner = new Runner(model, { B, chunk, allLogits }, lanes);
  }

  /** Tokens that each stream holds: given and yielded. */
  get positions(): readonly number[] {
    return this.#runner.positions;
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
    return this.#runner.dispatchesPerToken;
  }

  /** Slots of the paged cache; 0 where the model has none. */
  get capacity(): number {
    return this.#runner.capacity;
  }

  /** Bytes that this session, its marks and its model hold, by category. */
  memory(): Bytes {
    const marked = [...this.#marks].flatMap((mark) => mark.storages);
    return bytesOf([...this.model.storages, ...this.#runner.storages, ...marked]);
  }

  /**
   * Grows the cache to hold `length` tokens a stream; a model without one has nothing to grow.
   * Throws OutOfMemoryError, which says what is held and the longest context that fits; what was there stays usable.
   */
  async reserve(length: number): Promise<void> {
    await this.#locked(() => this.#runner.reserve(length));
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
    await this.#locked(() => this.#runner.feed(this.#lists(ids), options));
  }

  /** As `prefill`, and gives each stream's logits at every position it was fed, [tokens, V]: needs `allLogits`. */
  async prefillLogits(ids: Prompts): Promise<Float32Array[]> {
    if (!this.#allLogits) throw new UsageError("prefillLogits needs a session opened with allLogits: true");
    const lists = this.#lists(ids);
    const V = this.model.architecture.vocabulary(this.model.config);
    const out = lists.map((list) => new Float32Array(list.length * V));
    const collect = async (T: number, counts: readonly number[], done: readonly number[]) => {
      const all = (await this.model.machine.read(this.#runner.layout.io.view(T).allLogits!)) as Float32Array;
      counts.forEach((n, b) => {
        out[b]!.set(all.subarray(b * T * V, (b * T + n) * V), done[b]! * V);
      });
    };
    await this.#locked(() => this.#runner.feed(lists, { collect }));
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
    await this.#locked(async () => {
      this.#expectNoReader("fillCache");
      await this.#runner.fill(tokens, seed);
    });
  }

  /** The logits that follow each stream's last token, [B, V]. */
  async logits(): Promise<Float32Array> {
    return this.#locked(async () => {
      await this.#runner.takeBack();
      return (await this.model.machine.read(this.#runner.layout.io.view(1).logits)) as Float32Array;
    });
  }

  /** Generates tokens from the only stream: see `Stream.stream`. With more streams use `session.streams[b]`. */
  stream(options: StreamOptions = {}): AsyncGenerator<number, void, void> {
    if (this.#B !== 1)
      throw new UsageError(`this session has ${this.#B} streams: read session.streams[b].stream()`);
    return this.streams[0]!.stream(options);
  }

  /**
   * A second session that holds the same tokens, in memory of its own: state, cache and logits are copied on the device.
   * Either goes on without the other. Throws OutOfMemoryError with nothing left allocated; DeviceLostError.
   */
  async fork(): Promise<Session> {
    return this.#locked(
      async () => {
        await this.#runner.takeBack();
        const options = { streams: this.#B, chunk: this.chunk, allLogits: this.#allLogits };
        const fork = await Session.open(this.model, options);
        try {
          this.#expectLive();
          await fork.#runner.become(this.#runner);
        } catch (error) {
          fork.destroy();
          throw error;
        }
        return fork;
      },
      (fork) => fork.destroy(),
    );
  }

  /**
   * Remembers where the streams stand, on the device, for `rollback`: what it costs does not grow with the cache.
   * Throws OutOfMemoryError with nothing left allocated; DeviceLostError.
   */
  async mark(): Promise<Mark> {
    return this.#locked(async () => {
      await this.#runner.takeBack();
      const { machine } = this.model;
      const mark = new Mark(machine, this.#runner.layout, this.#runner, (m) => this.#marks.delete(m));
      this.#marks.add(mark);
      try {
        await mark.take(this.#runner.parity);
        this.#expectLive();
      } catch (error) {
        mark.destroy();
        throw error;
      }
      return mark;
    });
  }

  /**
   * Takes every stream back to where it stood at the mark, however many tokens ago; the mark stays. Throws UsageError for a
   * mark that is destroyed or another session's, or whose cache was overwritten since: by a restore, a reset, or a roll-back
   * to a mark before it.
   */
  async rollback(mark: Mark): Promise<void> {
    await this.#locked(async () => {
      if (mark.destroyed) throw new UsageError("the mark was destroyed; one that still holds is wanted");
      if (!this.#marks.has(mark))
        throw new UsageError("the mark is of another session; one of this session is wanted");
      if (mark.stale)
        throw new UsageError(
          `the mark at positions ${mark.positions.join(", ")} lost its cache: the streams were put back before it since`,
        );
      this.#expectNoReader("rollback");
      await this.#runner.takeBack();
      this.#runner.parity = mark.putBack();
      this.#rewrite(mark.positions);
      this.#runner.stand(mark.positions, mark.drawable);
    });
  }

  /** What the cache holds past these positions will be overwritten: marks that stand there end. */
  #rewrite(positions: readonly number[]): void {
    if (this.#runner.layout.carried.paged.length === 0) return;
    for (const mark of this.#marks) if (mark.positions.some((p, b) => p > positions[b]!)) mark.stale = true;
  }

  /** All that the streams carry, on the host. */
  async snapshot(): Promise<Snapshot> {
    return this.#locked(async () => {
      await this.#runner.takeBack();
      return takeSnapshot(this.model.machine, this.#holder(), this.#runner);
    });
  }

  /**
   * Puts a snapshot's streams in the place of this session's. Throws UsageError, before anything is changed, where it is of
   * another version, another model (other weights too) or another shape; OutOfMemoryError; DeviceLostError.
   */
  async restore(snapshot: Snapshot): Promise<void> {
    await this.#locked(async () => {
      expectFits(snapshot, this.#holder());
      await this.#runner.takeBack();
      await this.#runner.reserve(Math.max(...snapshot.positions));
      writeSnapshot(this.model.machine, this.#holder().tensors, snapshot);
      this.#rewrite(this.positions.map(() => 0));
      this.#runner.stand(snapshot.positions, snapshot.drawable);
    });
  }

  /** Empties every stream: state and logits as at the start; pages stay. */
  async reset(): Promise<void> {
    await this.#locked(async () => {
      await this.#runner.takeBack();
      clearAll(this.model.machine, this.#holder().tensors);
      const empty = this.positions.map(() => 0);
      const undrawable = empty.map(() => false);
      this.#rewrite(empty);
      this.#runner.stand(empty, undrawable);
    });
  }

  /** Frees what the session and its marks hold; the model stays. A call in flight is rejected with UsageError. */
  destroy(): void {
    this.#destroyed = true;
    this.#free();
  }

  #free(): void {
    this.#runner.free();
    for (const mark of this.#marks) mark.destroy();
  }

  #expectLive(): void {
    if (this.#destroyed) throw new UsageError("the session was destroyed");
  }

  /** @internal */
  drawable(b: number): boolean {
    return this.#runner.drawable[b]!;
  }

  /** @internal `enter` is called in the same turn, so that streams begun together run together from the first token. */
  async begin(enter: () => void): Promise<void> {
    await this.#locked(async () => {
      await this.#runner.takeBack();
      enter();
    });
  }

  /** @internal Runs ahead where the queue is short. */
  async next(b: number, signal?: AbortSignal): Promise<number> {
    const { queue } = this.streams[b]!.lane;
    // in the turn in which the id is seen: a roll-back in between would count it as not taken
    const take = () => {
      signal?.throwIfAborted();
      return this.#runner.take(b);
    };
    if (queue.length > 0) return take();
    return this.#locked(async () => {
      // calls that were made before may have put the stream elsewhere
      this.streams[b]!.expectDrawable();
      await this.#runner.provide(b);
      return take();
    });
  }

  /** @internal */
  async settle(): Promise<void> {
    if (this.#destroyed) return;
    await this.#locked(async () => {
      if (this.#runner.unsettled) await this.#runner.takeBack();
    });
  }

  /** Calls run one after the other. Where the session was destroyed meanwhile, `discard` takes what the call made. */
  #locked<T>(run: () => Promise<T>, discard?: (made: T) => void): Promise<T> {
    const result = this.#lock.then(async () => {
      this.#expectLive();
      try {
        const made = await run();
        if (this.#destroyed) discard?.(made);
        return made;
      } finally {
        // destroyed meanwhile: what was allocated since has no other owner
        if (this.#destroyed) this.#free();
        this.#expectLive();
      }
    });
    this.#lock = result.catch(() => undefined);
    return result;
  }

  #lists(ids: Prompts): readonly (readonly number[])[] {
    const { architecture, config } = this.model;
    const lists = promptLists(ids, this.#B, architecture.vocabulary(config));
    this.#expectNoReader("prefill");
    return lists;
  }

  #expectNoReader(before: string): void {
    if (this.streams.some((s) => s.lane.open))
      throw new UsageError(`a stream of this session is being read: end it before ${before}`);
  }

  /** What it carries now, as snapshots see it. */
  #holder(): Holder {
    const { layout, parity } = this.#runner;
    const { last, logits } = layout.io.view(1);
    const paged = layout.carried.paged.map((t) => [t.label, t] as const);
    return {
      architecture: this.model.architecture.name,
      model: this.model.hash,
      streams: this.#B,
      tensors: [...layout.carried.tensors(parity), ...paged, ["last", last], ["logits", logits]],
    };
  }
}
