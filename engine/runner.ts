// What moves B streams: their state and plans on a machine, the tokens that are run before anyone asks for them, and the way
// back from those that nobody took. Knows no locks and no snapshots: engine/session.ts calls it, one call at a time.
//
// Invariant between calls: `positions` are the tokens that each stream has been given and has yielded; `run` may be ahead.

import { fillCache } from "./cacheFill.ts";
import { cursorWords, ID_RING } from "./cursor.ts";
import { OutOfMemoryError, UsageError } from "./errors.ts";
import { type Ahead, IdRing, idsOf } from "./idRing.ts";
import { chunkFor, laySession, type SessionLayout, type SessionSize } from "./layout.ts";
import type { Run } from "./machine.ts";
import type { Model } from "./model.ts";
import { Pace } from "./pace.ts";
import { growPages } from "./pages.ts";
import type { Plan, Reach } from "./plan.ts";
import { type Parity, Shadow } from "./shadow.ts";
import type { Lane } from "./stream.ts";
import type { Storage } from "./tensor.ts";
import { Workspace } from "./workspace.ts";

/** Tokens run ahead in one submit; a roll-back replays at most ID_RING. */
const MOST_AHEAD = ID_RING / 2;

export interface FeedOptions {
  signal?: AbortSignal;
  onProgress?: (done: number, of: number) => void;
  /** Called after each chunk of T tokens: what it took of each stream, and what was fed before. */
  collect?: (T: number, counts: readonly number[], done: readonly number[]) => Promise<void>;
}

export class Runner {
  readonly model: Model;
  readonly layout: SessionLayout;
  readonly positions: number[];
  /** Whether the logits are those after each stream's last token. */
  readonly drawable: boolean[];
  /** Which side of the twins is now: every run turns it. */
  parity: Parity = 0;

  readonly #size: SessionSize;
  readonly #streams: readonly Lane[];
  /** Tokens that the model's mathematics reaches. */
  readonly #longest: number;
  readonly #shadow: Shadow;
  readonly #ids: IdRing;
  /** All that is allocated here and does not grow. */
  readonly #held: readonly Storage[];
  readonly #workspace: Workspace;
  /** Positions with what was run ahead. */
  #run: number[];
  #ahead: Ahead[] = [];
  readonly #pace = new Pace(MOST_AHEAD);

  constructor(model: Model, size: SessionSize, streams: readonly Lane[]) {
    this.model = model;
    this.#size = size;
    this.#streams = streams;
    this.positions = streams.map(() => 0);
    this.drawable = streams.map(() => false);
    this.#run = [...this.positions];
    this.#longest = model.architecture.longest?.(model.config) ?? Number.POSITIVE_INFINITY;
    this.layout = laySession(model.architecture, model.config, model.weights, size);
    const { carried, io, scratch, greedy, sampled, prefill } = this.layout;
    this.#workspace = new Workspace(model.machine, [...greedy, ...sampled, ...[...prefill.values()].flat()]);
    this.#shadow = new Shadow(this.layout, { category: "scratch", label: "for roll-back" });
    this.#ids = new IdRing(io.view(1).ids);
    this.#held = [
      ...carried.fixed,
      ...carried.sides.flat(),
      ...io.storages,
      ...scratch,
      ...this.#shadow.storages,
      ...this.#ids.storages,
    ];
  }

  /** Throws OutOfMemoryError; what was allocated then is freed by `free`. */
  async open(): Promise<void> {
    await this.model.machine.allocate(this.#held);
    await this.#workspace.open();
  }

  free(): void {
    this.#workspace.destroy();
    this.model.machine.free(this.#held);
    for (const t of this.layout.carried.paged) this.model.machine.free(t.storages);
  }

  get storages(): readonly Storage[] {
    const paged = this.layout.carried.paged.flatMap((t) => t.storages);
    return [...this.#held, ...this.#workspace.storages, ...paged];
  }

  get dispatchesPerToken(): number {
    return this.#plan(this.layout.greedy).dispatches.length;
  }

  /** Slots of the paged cache; 0 where the model has none. */
  get capacity(): number {
    return this.layout.carried.paged[0]?.capacity ?? 0;
  }

  async reserve(length: number): Promise<void> {
    if (length > this.#longest)
      throw new UsageError(
        `a context of ${length} tokens is asked for; ${this.model.architecture.name} reaches ${this.#longest} tokens`,
      );
    await this.#grow(length);
  }

  async #grow(slots: number): Promise<void> {
    const { paged } = this.layout.carried;
    if (paged.length === 0 || this.capacity >= slots) return;
    await growPages(this.model.machine, paged, slots, () => this.#workspace.repage());
  }

  /** Becomes what another runner of the same sizes is, by copies on the device. Throws OutOfMemoryError. */
  async become(other: Runner): Promise<void> {
    // pages grow the same way whatever the steps: these are as large as the other's
    await this.#grow(other.capacity);
    const { machine } = this.model;
    const to = this.#carried;
    machine.copy(other.#carried.map((from, i) => [from, to[i]!]));
    this.parity = other.parity;
    this.stand(other.positions, other.drawable);
  }

  get #carried(): readonly Storage[] {
    const { carried, io } = this.layout;
    const { last, logits } = io.view(1);
    const tensors = [...carried.paged, last, logits];
    return [...carried.fixed, ...carried.sides.flat(), ...tensors.flatMap((t) => t.storages)];
  }

  /** From here on the streams stand here, and nothing is ahead of them. */
  stand(positions: readonly number[], drawable: readonly boolean[]): void {
    positions.forEach((p, b) => {
      this.positions[b] = p;
      this.drawable[b] = drawable[b]!;
    });
    this.#run = [...positions];
    this.#shadow.taken = null;
  }

  /** Whether nothing is ahead. */
  get #idle(): boolean {
    return this.#run.every((p, b) => p === this.positions[b]);
  }

  /** Whether something was run for streams that nobody reads any more. */
  get unsettled(): boolean {
    return this.#run.some((p, b) => !this.#streams[b]!.open && p !== this.positions[b]);
  }

  /** Tokens into the streams, in chunks; an abort leaves those that were fed. */
  async feed(
    lists: readonly (readonly number[])[],
    { signal, onProgress, collect }: FeedOptions,
  ): Promise<void> {
    await this.takeBack();
    this.#shadow.taken = null;
    const { machine } = this.model;
    await this.reserve(Math.max(...lists.map((list, b) => this.positions[b]! + list.length)));
    const of = Math.max(...lists.map((list) => list.length));
    const done = lists.map(() => 0);
    while (done.some((n, b) => n < lists[b]!.length)) {
      signal?.throwIfAborted();
      const left = lists.map((list, b) => list.length - done[b]!);
      const T = chunkFor(this.layout, Math.max(...left));
      const counts = left.map((n) => Math.min(T, n));
      const tokens = new Uint32Array(this.#size.B * T);
      counts.forEach((n, b) => {
        tokens.set(lists[b]!.slice(done[b]!, done[b]! + n), b * T);
      });
      await this.#workspace.settle();
      const run = this.#plan(this.layout.prefill.get(T)!, this.#reach(counts));
      await machine.prepare(run.dispatches);
      machine.write(this.layout.io.view(T).tokens, tokens);
      this.#writeCursor(T, counts);
      machine.submit([run]);
      this.#flip(1);
      counts.forEach((n, b) => {
        this.positions[b]! += n;
        this.#run[b]! += n;
        if (n > 0) this.drawable[b] = true;
      });
      await collect?.(T, counts, done);
      counts.forEach((n, b) => {
        done[b]! += n;
      });
      onProgress?.(Math.max(...done), of);
    }
  }

  /** Random keys and values in the place of so many tokens. */
  async fill(tokens: number, seed: number): Promise<void> {
    await this.takeBack();
    await this.reserve(Math.max(...this.positions) + tokens);
    if (tokens === 0) return;
    const { fill: plan, io, carried } = this.layout;
    const fill = { plan, cursor: io.view(1).cursor, pages: carried.paged[0]?.pages ?? [] };
    await fillCache(this.model.machine, fill, this.positions, tokens, seed);
    this.stand(
      this.positions.map((p) => p + tokens),
      this.positions.map(() => false),
    );
  }

  /** Runs ahead until stream b has an id to give. */
  async provide(b: number): Promise<void> {
    while (this.#streams[b]!.queue.length === 0) {
      if (this.#ahead.length === 0) await this.#runAhead(b);
      // the GPU works on the next tokens while these come back
      if (this.#ahead.length === 1) await this.#runAhead(b);
      await this.#collect();
    }
  }

  /** Stream b's next id: from here on the stream holds it. */
  take(b: number): number {
    const id = this.#streams[b]!.queue.shift()!;
    this.positions[b]!++;
    return id;
  }

  /** Rolls every stream back to what it has yielded: the shadow's state, and the steps since then once more. */
  async takeBack(): Promise<void> {
    // what a replay may lack memory for is made before anything is changed
    if (!this.#idle) await this.#workspace.settle();
    while (this.#ahead.length > 0) await this.#ahead.shift()!.ids;
    this.#streams.forEach((stream, b) => {
      if (stream.open) stream.wanted += this.#run[b]! - this.positions[b]!;
      stream.queue = [];
    });
    if (this.#idle) return;
    const { positions, parity } = this.#shadow.putBack(this.model.machine);
    this.parity = parity;
    const counts = this.positions.map((p, b) => p - positions[b]!);
    const sampled = this.#streams.some((s, b) => counts[b]! > 0 && s.settings.temperature > 0);
    this.#run = [...positions];
    // in submits as short as those that ran ahead
    let left = counts;
    while (Math.max(...left) > 0) {
      const taken = left.map((n) => Math.min(n, this.#pace.steps));
      await this.#steps(taken, sampled);
      left = left.map((n, b) => n - taken[b]!);
    }
  }

  /** The plan for the `ahead`th run from now. */
  #plan(plans: readonly Plan[], reach = this.#reach(1), ahead = 0): Run {
    return this.#workspace.run(plans[(this.parity + ahead) % plans.length]!, reach);
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
    this.parity = ((this.parity + runs) % 2) as Parity;
  }

  #writeCursor(T: number, remaining: readonly number[]): void {
    const words = cursorWords(T, this.#run, remaining, (b) => this.#streams[b]!.settings);
    this.model.machine.write(this.layout.io.view(T).cursor, words);
  }

  /**
   * Submits the next tokens of every open stream, so that streams read side by side take the same steps; one whose
   * consumer lags far behind waits. Throws where there is no room for what stream b asks.
   */
  async #runAhead(b: number): Promise<void> {
    const { machine } = this.model;
    if (!this.#idle && this.#age() + MOST_AHEAD > ID_RING) {
      // the shadow has grown old: go on when the consumers have caught up; a laggard's tokens are run again later
      if (this.#ahead.length > 0) return;
      await new Promise((resolve) => setTimeout(resolve));
      if (!this.#idle) await this.takeBack();
    }
    const wanted = this.#streams.map((s) =>
      s.open && s.queue.length < MOST_AHEAD ? Math.min(this.#pace.steps, s.wanted) : 0,
    );
    const counts = await this.#fitting(wanted, b);
    const steps = Math.max(...counts);
    if (steps === 0) return;
    if (this.#idle) this.#shadow.take(machine, this.#run, this.parity);
    const sampled = this.#streams.some((s, b) => counts[b]! > 0 && s.settings.temperature > 0);
    const from = [...this.#run];
    await this.#steps(counts, sampled);
    counts.forEach((n, b) => {
      this.#streams[b]!.wanted -= n;
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
      await this.reserve(Math.min(needed, this.#longest));
    } catch (error) {
      if (!(error instanceof OutOfMemoryError || error instanceof UsageError)) throw error;
    }
    const { paged } = this.layout.carried;
    const room = paged.length > 0 ? Math.min(this.capacity, this.#longest) : this.#longest;
    const counts = this.#run.map((p, i) => Math.min(wanted[i]!, room - p));
    const underWay = this.#ahead.some((ahead) => ahead.counts[b]! > 0);
    if (wanted[b]! > 0 && counts[b] === 0 && !underWay) await this.reserve(this.#run[b]! + 1);
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
    await this.#workspace.settle();
    const plans = sampled ? this.layout.sampled : this.layout.greedy;
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
    this.#streams.forEach((stream, b) => {
      stream.queue.push(...ids[b]!);
    });
  }
}
