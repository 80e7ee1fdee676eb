// A session: B streams over one model, in lock-step. It owns the state, lays out the plans, runs tokens ahead of the
// consumer without waiting for the GPU, and takes back what was run ahead and not consumed.
//
// Invariant between calls: state and logits are those after exactly the tokens that each stream has been given and has
// yielded.

import { CURSOR, CURSOR_COLUMNS, ID_RING } from "./cursor.ts";
import { OutOfMemoryError, UsageError } from "./errors.ts";
import { Ledger } from "./ledger.ts";
import { type Run, VariantTable } from "./machine.ts";
import { formatBytes, total } from "./memory.ts";
import {
  type Architecture,
  type CarriedTensors,
  type Io,
  layIo,
  layScratch,
  layState,
  layTree,
  type Model,
} from "./model.ts";
import { type Plan, type Reach, record } from "./plan.ts";
import { type Bytes, type Data, nextPage, noBytes, type Storage, type Tensor } from "./tensor.ts";
import type { Contest } from "./tune.ts";
import { Workspace } from "./workspace.ts";

export interface SessionOptions {
  /** Independent streams, B. Default 1. */
  streams?: number;
  /** Largest number of tokens that one run of prefill takes a stream (llama.cpp's n_ubatch). Default 512. */
  chunk?: number;
  /** Keep room for the logits of every prompt position: see `prefillLogits`. */
  allLogits?: boolean;
}

export interface StreamOptions {
  /** Tokens to generate. Default: until the consumer stops. */
  maxTokens?: number;
  /** 0 (the default) takes the likeliest token. */
  temperature?: number;
  /** Keep the k likeliest; 0 (the default) keeps all. */
  topK?: number;
  /** Keep the smallest set whose probability is at least p; 1 (the default) keeps all. */
  topP?: number;
  /** Keep tokens at least this share as likely as the likeliest; 0 (the default) keeps all. */
  minP?: number;
  /** Default 0. Same adapter, variants and seed: same tokens. */
  seed?: number;
  /** Ends after the token that completes one of these sequences of ids. */
  stop?: readonly (number | readonly number[])[];
  signal?: AbortSignal;
}

/** Everything that a session carries: state, cache up to each stream's length, and the logits that come next. */
export interface Snapshot {
  readonly architecture: string;
  readonly positions: readonly number[];
  readonly tensors: ReadonlyMap<string, Data>;
  /** Bytes of the tensors held here. */
  readonly bytes: number;
}

/** Tokens run ahead in one submit, and tokens that a roll-back may have to replay. */
const MOST_AHEAD = ID_RING / 2;
/** A submit is sized to take about this long: short beside a browser's watchdog, long beside a readback. */
const SUBMIT_MS = 25;

const bits = (x: number): number => new Uint32Array(new Float32Array([x]).buffer)[0]!;

interface Settings {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  seed: number;
}
const GREEDY: Settings = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0 };

interface Ahead {
  /** Tokens run for each stream. */
  counts: readonly number[];
  /** Each stream's position before. */
  from: readonly number[];
  ids: Promise<Data>;
}

/** One stream of a session. */
export class Stream {
  readonly #session: Session;
  readonly #index: number;
  /** @internal Ids that were run ahead and not yet yielded. */
  queue: number[] = [];
  /** @internal */
  open = false;
  /** @internal Tokens that the consumer may still ask for and that are not run yet. */
  wanted = 0;
  /** @internal */
  settings: Settings = GREEDY;

  constructor(session: Session, index: number) {
    this.#session = session;
    this.#index = index;
  }

  /** Tokens that the stream holds: given and yielded. */
  get position(): number {
    return this.#session.positions[this.#index]!;
  }

  /**
   * Generates tokens. When the consumer stops early (break, an abort, a stop sequence), the stream holds exactly the
   * tokens that it has yielded. Throws UsageError, OutOfMemoryError, DeviceLostError, or the signal's reason.
   */
  async *stream(options: StreamOptions = {}): AsyncGenerator<number, void, void> {
    const { maxTokens = Number.POSITIVE_INFINITY, signal } = options;
    const settings = checkSettings(options);
    const stops = (options.stop ?? [])
      .map((s) => (typeof s === "number" ? [s] : [...s]))
      .filter((s) => s.length > 0);
    if (!(maxTokens >= 0)) throw new UsageError(`maxTokens is ${maxTokens}; a number from 0 is wanted`);
    if (this.open) throw new UsageError(`stream ${this.#index} is already being read`);
    if (this.position === 0)
      throw new UsageError(`stream ${this.#index} holds no tokens yet: prefill at least one`);
    signal?.throwIfAborted();
    this.open = true;
    const tail: number[] = [];
    const longest = Math.max(0, ...stops.map((s) => s.length));
    try {
      await this.#session.begin(() => {
        this.wanted = Math.ceil(maxTokens);
        this.settings = settings;
      });
      for (let n = 0; n < maxTokens; n++) {
        const id = await this.#session.next(this.#index);
        signal?.throwIfAborted();
        this.#session.accept(this.#index);
        yield id;
        tail.push(id);
        if (tail.length > longest) tail.shift();
        if (
          stops.some(
            (s) => s.length <= tail.length && s.every((x, i) => x === tail[tail.length - s.length + i]),
          )
        )
          return;
      }
    } finally {
      this.open = false;
      this.wanted = 0;
      await this.#session.settle();
    }
  }
}

function checkSettings(o: StreamOptions): Settings {
  const wanted = (name: keyof Settings, value: number, ok: boolean, what: string) => {
    if (!ok) throw new UsageError(`${name} is ${value}; ${what} is wanted`);
    return value;
  };
  const { temperature = 0, topK = 0, topP = 1, minP = 0, seed = 0 } = o;
  return {
    temperature: wanted(
      "temperature",
      temperature,
      temperature >= 0 && Number.isFinite(temperature),
      "a number from 0",
    ),
    topK: wanted("topK", topK, Number.isInteger(topK) && topK >= 0, "a whole number from 0"),
    topP: wanted("topP", topP, topP > 0 && topP <= 1, "a number above 0 and up to 1"),
    minP: wanted("minP", minP, minP >= 0 && minP <= 1, "a number from 0 to 1"),
    seed: wanted(
      "seed",
      seed,
      Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32,
      "a whole number from 0 below 2^32",
    ),
  };
}

interface Shadow {
  positions: number[];
  parity: 0 | 1;
}

export class Session {
  readonly model: Model;
  readonly streams: readonly Stream[];
  /** Tokens that each stream holds: given and yielded. */
  readonly positions: number[];
  readonly chunk: number;

  readonly #B: number;
  readonly #carried: CarriedTensors;
  readonly #io: { storages: Storage[]; view(T: number): Io };
  readonly #allLogits: boolean;
  readonly #held: Storage[];
  readonly #plans: readonly Plan[];
  readonly #workspace: Workspace;
  readonly #step: { greedy: readonly Plan[]; sampled: readonly Plan[] };
  readonly #prefill: ReadonlyMap<number, readonly Plan[]>;
  readonly #staging: readonly Storage[];
  readonly #shadows: readonly (readonly [from: () => Storage, shadow: Storage])[];

  /** Positions with what was run ahead. */
  #run: number[];
  #parity: 0 | 1 = 0;
  #shadow: Shadow | null = null;
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
    await preflight(model, session, options);
    try {
      await model.machine.allocate(session.#held);
      await session.#workspace.open();
    } catch (error) {
      session.destroy();
      throw error;
    }
    return session;
  }

  /** @internal The plans that a session runs most, with nothing allocated: steps, and prefill by whole chunks. */
  static plans(model: Model, { streams = 1, chunk = 512 }: SessionOptions): readonly Plan[] {
    const session = new Session(model, streams, chunk, false);
    return [...session.#step.greedy, ...session.#step.sampled, ...session.#prefill.get(chunk)!];
  }

  private constructor(model: Model, B: number, chunk: number, allLogits: boolean) {
    const { architecture, config } = model;
    this.model = model;
    this.chunk = chunk;
    this.#B = B;
    this.#allLogits = allLogits;
    this.positions = new Array<number>(B).fill(0);
    this.#run = [...this.positions];
    this.streams = this.positions.map((_, b) => new Stream(this, b));

    const sizes = [...new Set([chunk, 64, 8, 1])].filter((T) => T <= chunk);
    this.#carried = layState(architecture, config, B);
    this.#io = layIo(architecture, config, { B, T: chunk }, allLogits);
    const scratch = layScratch(architecture, config, B, sizes);
    const V = architecture.vocabulary(config);
    const plan = (label: string, T: number, parity: 0 | 1, sample?: { greedy: boolean }) =>
      record(`${label} ${T}`, (m) => {
        const full = this.#io.view(T);
        // only prefill fills the logits of every position
        const { allLogits: _, ...io } = full;
        if (sample) architecture.sample(m, io, { B, V, ...sample });
        const t = { w: model.weights, s: this.#carried.tree(parity), x: scratch.view(T) };
        architecture.forward(m, config, t, sample ? io : full, { B, T });
        architecture.advance(m, io, { B, T });
      });
    const parities = this.#carried.sides[0].length > 0 ? ([0, 1] as const) : ([0] as const);
    this.#step = {
      greedy: parities.map((p) => plan("step", 1, p, { greedy: true })),
      sampled: parities.map((p) => plan("sampled step", 1, p, { greedy: false })),
    };
    this.#prefill = new Map(sizes.map((T) => [T, parities.map((p) => plan("prefill", T, p))]));
    this.#plans = [...this.#step.greedy, ...this.#step.sampled, ...[...this.#prefill.values()].flat()];
    this.#workspace = new Workspace(model.machine, this.#plans);

    // what a roll-back needs: all that is overwritten in place, and the logits that the next token is drawn from
    const shadow = (of: Storage): Storage => ({
      category: "scratch",
      label: `${of.label}, for roll-back`,
      bytes: of.bytes,
    });
    const { last, logits, ids } = this.#io.view(1);
    this.#shadows = [
      ...[...this.#carried.fixed, ...last.storages, ...logits.storages].map(
        (s) => [() => s, shadow(s)] as const,
      ),
      ...this.#carried.sides[0].map(
        (s, i) => [() => this.#carried.sides[this.#parity][i]!, shadow(s)] as const,
      ),
    ];
    this.#staging = [0, 1].map((i) => ({
      category: "staging",
      label: `ids ${i}`,
      bytes: ids.storages[0]!.bytes,
    }));
    const { fixed, sides } = this.#carried;
    const shadows = this.#shadows.map(([, s]) => s);
    this.#held = [
      ...fixed,
      ...sides.flat(),
      ...this.#io.storages,
      ...scratch.storages,
      ...shadows,
      ...this.#staging,
    ];
  }

  /** Dispatches that one token takes at the length that the streams have now. */
  get dispatchesPerToken(): number {
    return this.#plan(this.#step.greedy).dispatches.length;
  }

  /** Slots of the paged cache; 0 where the model has none. */
  get capacity(): number {
    return this.#carried.paged[0]?.capacity ?? 0;
  }

  /** Bytes that this session and its model hold, by category. */
  memory(): Bytes {
    const paged = this.#carried.paged.flatMap((t) => t.storages);
    return bytesOf([...this.model.storages, ...this.#held, ...this.#workspace.storages, ...paged]);
  }

  /**
   * Grows the cache to hold `length` tokens a stream; a model without one has nothing to grow.
   * Throws OutOfMemoryError, which says what is held and the longest context that fits; what was there stays usable.
   */
  async reserve(length: number): Promise<void> {
    const { architecture, config } = this.model;
    const longest = architecture.longest?.(config) ?? Number.POSITIVE_INFINITY;
    if (length > longest)
      throw new UsageError(
        `a context of ${length} tokens is asked for; ${architecture.name} reaches ${longest} tokens`,
      );
    const { paged } = this.#carried;
    if (paged.length === 0 || this.capacity >= length) return;
    const { machine } = this.model;
    const before = this.capacity;
    const grown: Storage[] = [];
    try {
      while (this.capacity < length) {
        const slots = nextPage(this.capacity);
        const pages = paged.map((t) => t.pageStorage(slots));
        await machine.allocate(pages);
        grown.push(...pages);
        paged.forEach((t, i) => {
          t.pages.push(slots);
          t.storages.push(pages[i]!);
        });
      }
      await this.#workspace.repage();
    } catch (error) {
      const reached = this.capacity;
      for (const t of paged) {
        while (t.capacity > before) {
          t.pages.pop();
          t.storages.pop();
        }
      }
      machine.free(grown);
      await this.#workspace.repage();
      if (!(error instanceof OutOfMemoryError)) throw error;
      const { askedBytes, heldBytes } = error;
      throw new OutOfMemoryError(
        `a context of ${length} tokens does not fit: the page after token ${reached} asks ${formatBytes(askedBytes)} with ${formatBytes(heldBytes)} held; the longest that fits is ${reached} tokens (${error.message})`,
        askedBytes,
        heldBytes,
      );
    }
  }

  /**
   * Feeds token ids: one list, or one a stream (they may differ in length, or be empty).
   * Throws UsageError for an id outside the vocabulary, before anything is run; OutOfMemoryError; DeviceLostError.
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
      const all = (await this.model.machine.read(this.#io.view(T).allLogits!)) as Float32Array;
      counts.forEach((n, b) => {
        out[b]!.set(all.subarray(b * T * V, (b * T + n) * V), done[b]! * V);
      });
    };
    await this.#locked(() => this.#feed(lists, {}, collect));
    return out;
  }

  /** The logits that follow each stream's last token, [B, V]. */
  async logits(): Promise<Float32Array> {
    return (await this.#locked(() => this.model.machine.read(this.#io.view(1).logits))) as Float32Array;
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
      const tensors = new Map<string, Data>();
      for (const [path, tensor] of this.#saved()) tensors.set(path, await this.model.machine.read(tensor));
      let bytes = 0;
      for (const data of tensors.values()) bytes += data.byteLength;
      return { architecture: this.model.architecture.name, positions: [...this.positions], tensors, bytes };
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
      await this.reserve(Math.max(...snapshot.positions));
      for (const [path, tensor] of this.#saved()) {
        const data = snapshot.tensors.get(path);
        if (!data) throw new UsageError(`the snapshot has no ${path}`);
        machine.write(tensor, resized(tensor, data));
      }
      snapshot.positions.forEach((p, b) => {
        this.positions[b] = p;
      });
      this.#run = [...this.positions];
      this.#shadow = null;
    });
  }

  /** Empties every stream: state and logits as at the start; pages stay. */
  async reset(): Promise<void> {
    await this.#locked(async () => {
      await this.#takeBack();
      for (const [, tensor] of this.#saved())
        if (!tensor.pages) this.model.machine.write(tensor, zerosOf(tensor));
      this.positions.fill(0);
      this.#run = [...this.positions];
      this.#shadow = null;
    });
  }

  /** Frees what the session holds; the model stays. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#workspace.destroy();
    this.model.machine.free(this.#held);
    for (const t of this.#carried.paged) this.model.machine.free(t.storages);
  }

  /**
   * @internal Lets a stream in: a roll-back replays with the settings of now, so nothing that was drawn with others may
   * be left to replay. `enter` is called in the same turn, so that streams begun together run together from the first
   * token on.
   */
  async begin(enter: () => void): Promise<void> {
    await this.#locked(async () => {
      await this.#takeBack();
      enter();
    });
  }

  /** @internal The next id of a stream; runs ahead where the queue is short. */
  async next(b: number): Promise<number> {
    const stream = this.streams[b]!;
    while (stream.queue.length === 0) {
      await this.#locked(async () => {
        if (stream.queue.length > 0) return;
        if (this.#ahead.length === 0) await this.#runAhead();
        // the GPU works on the next tokens while these come back
        if (this.#ahead.length === 1) await this.#runAhead();
        await this.#collect();
      });
    }
    return stream.queue[0]!;
  }

  /** @internal The consumer takes the id that `next` gave. */
  accept(b: number): void {
    this.streams[b]!.queue.shift();
    this.positions[b]!++;
  }

  /** @internal Takes back what was run ahead and will not be consumed. */
  async settle(): Promise<void> {
    if (this.#destroyed) return;
    await this.#locked(async () => {
      if (this.#run.some((p, b) => !this.streams[b]!.open && p !== this.positions[b])) await this.#takeBack();
    });
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
    if (this.#carried.sides[0].length > 0) this.#parity = ((this.#parity + runs) % 2) as 0 | 1;
  }

  /** Writes the cursor: each stream's position, what it may consume in a run, and what it still has to. */
  #writeCursor(T: number, remaining: readonly number[]): void {
    const words = new Uint32Array(this.#B * CURSOR_COLUMNS);
    this.#run.forEach((position, b) => {
      const { settings } = this.streams[b]!;
      const row = b * CURSOR_COLUMNS;
      words[row + CURSOR.position] = position;
      words[row + CURSOR.count] = Math.min(T, remaining[b]!);
      words[row + CURSOR.remaining] = remaining[b]!;
      words[row + CURSOR.seed] = settings.seed;
      words[row + CURSOR.temperature] = bits(settings.temperature);
      words[row + CURSOR.topK] = settings.topK;
      words[row + CURSOR.topP] = bits(settings.topP);
      words[row + CURSOR.minP] = bits(settings.minP);
    });
    this.model.machine.write(this.#io.view(T).cursor, words);
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
    this.#shadow = null;
    const { machine } = this.model;
    await this.reserve(Math.max(...lists.map((list, b) => this.positions[b]! + list.length)));
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
      const run = this.#plan(this.#prefill.get(T)!, this.#reach(counts));
      await machine.prepare(run.dispatches);
      machine.write(this.#io.view(T).tokens, tokens);
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
    const sizes = [...this.#prefill.keys()].sort((a, b) => a - b);
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
    await this.reserve(Math.max(...this.#run.map((p, b) => p + counts[b]!)));
    if (idle()) this.#takeShadow();
    const sampled = this.streams.some((s, b) => counts[b]! > 0 && s.settings.temperature > 0);
    const from = [...this.#run];
    await this.#steps(counts, sampled);
    counts.forEach((n, b) => {
      this.streams[b]!.wanted -= n;
    });
    const staging = this.#staging[this.#stagingTurn++ % this.#staging.length]!;
    const ids = machine.fetch(this.#io.view(1).ids, staging);
    ids.catch(() => undefined);
    this.#ahead.push({ counts, from, ids });
    this.#pace(steps, ids);
  }

  /** Tokens that a roll-back would have to replay. */
  #age(): number {
    const { positions } = this.#shadow ?? { positions: this.#run };
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
    const plans = sampled ? this.#step.sampled : this.#step.greedy;
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

  #takeShadow(): void {
    this.#shadow = { positions: [...this.#run], parity: this.#parity };
    this.model.machine.copy(this.#shadows.map(([from, shadow]) => [from(), shadow] as const));
  }

  /** Rolls every stream back to what it has yielded: the shadow's state, and the steps since then run again. */
  async #takeBack(): Promise<void> {
    while (this.#ahead.length > 0) await this.#ahead.shift()!.ids;
    this.streams.forEach((stream, b) => {
      stream.wanted += this.#run[b]! - this.positions[b]!;
      stream.queue = [];
    });
    if (this.#run.every((p, b) => p === this.positions[b])) return;
    const { positions, parity } = this.#shadow!;
    this.#parity = parity;
    this.model.machine.copy(this.#shadows.map(([from, shadow]) => [shadow, from()] as const));
    const counts = this.positions.map((p, b) => p - positions[b]!);
    const sampled = this.streams.some((s, b) => counts[b]! > 0 && s.settings.temperature > 0);
    this.#run = [...positions];
    if (Math.max(...counts) > 0) await this.#steps(counts, sampled);
  }

  /** What a snapshot holds, by name. */
  #saved(): [string, Tensor][] {
    const { last, logits } = this.#io.view(1);
    const paged = this.#carried.paged.map((t): [string, Tensor] => [t.label, t]);
    return [...this.#carried.tensors(this.#parity), ...paged, ["last", last], ["logits", logits]];
  }
}

/** What a session will ask is known before anything is allocated: the ledger opens the same one. */
async function preflight(model: Model, session: Session, options: SessionOptions): Promise<void> {
  const { machine } = model;
  if (machine.kind !== "gpu") return;
  const ledger = await predict(model, options);
  const asked = total(ledger) - total(bytesOf(model.storages));
  const held = total(machine.live());
  if (held + asked > machine.maxBytes) {
    throw new OutOfMemoryError(
      `a session of ${session.streams.length} streams of ${model.architecture.name} asks ${formatBytes(asked)} with ${formatBytes(held)} held, the limit (maxBytes) is ${formatBytes(machine.maxBytes)}`,
      asked,
      held,
    );
  }
}

/**
 * Bytes by category that a session of this model will hold with a cache for `length` tokens a stream, weights included:
 * the same session opened on the ledger, with the machine's own variants.
 */
export async function predict(model: Model, options: SessionOptions = {}, length = 0): Promise<Bytes> {
  const session = await Session.open({ ...model, machine: new Ledger(model.machine.variants) }, options);
  await session.reserve(length);
  return session.memory();
}

/** The uses of kernels that sessions of this architecture will make: what a race is run over. */
export function contests(architecture: Architecture, config: unknown, options: SessionOptions): Contest[] {
  const machine = new Ledger(new VariantTable("cpu", new Set()));
  const { tensors } = layTree(architecture.weights(config), "weights", architecture.name);
  const model: Model = {
    architecture,
    config,
    machine,
    weights: tensors,
    storages: [],
    parameters: 0,
    destroy() {},
  };
  return Session.plans(model, options).flatMap((plan) => plan.ops);
}

const bytesOf = (storages: readonly Storage[]): Bytes => {
  const bytes = noBytes();
  for (const s of storages) bytes[s.category] += s.bytes;
  return bytes;
};

const zerosOf = (tensor: Tensor): Data => {
  const n = tensor.spec.shape.reduce((a, b) => a * b, 1);
  return tensor.spec.type === "f32" ? new Float32Array(n) : new Uint32Array(n);
};

/** A paged tensor's data from a session whose cache had another capacity. */
function resized(tensor: Tensor, data: Data): Data {
  const { shape, pagedAxis } = tensor.spec;
  const wanted = zerosOf(tensor);
  if (pagedAxis === undefined || wanted.length === data.length) return data;
  const inner = shape.slice(pagedAxis + 1).reduce((a, b) => a * b, 1);
  const outer = shape.slice(0, pagedAxis).reduce((a, b) => a * b, 1);
  const from = data.length / outer / inner;
  const slots = Math.min(from, shape[pagedAxis]!);
  for (let o = 0; o < outer; o++) {
    wanted.set(data.subarray(o * from * inner, (o * from + slots) * inner), o * shape[pagedAxis]! * inner);
  }
  return wanted;
}
