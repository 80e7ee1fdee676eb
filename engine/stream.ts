// One stream of a session as its consumer sees it.

import { GREEDY, type Settings } from "./cursor.ts";
import { UsageError } from "./errors.ts";

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

/** What a stream asks of its session. */
export interface StreamHost {
  readonly positions: readonly number[];
  /** Whether the logits of now are those after the stream's last token. */
  drawable(b: number): boolean;
  /**
   * Lets a stream in, calling `enter`: a roll-back replays with the settings of now, so nothing that was drawn with others
   * may be left to replay.
   */
  begin(enter: () => void): Promise<void>;
  /** Takes the stream's next id: from here on the stream holds it. Throws the signal's reason instead of taking. */
  next(b: number, signal?: AbortSignal): Promise<number>;
  /** Takes back what was run ahead and will not be consumed. */
  settle(): Promise<void>;
}

/** What running ahead needs to know of a stream. */
export interface Lane {
  /** Ids that were run ahead and not yet yielded. */
  queue: number[];
  /** Whether a consumer reads it. */
  open: boolean;
  /** Tokens that the consumer may still ask for and that are not run yet. */
  wanted: number;
  settings: Settings;
}

/** One stream of a session. */
export class Stream {
  readonly #session: StreamHost;
  readonly #index: number;
  readonly #lane: Lane = { queue: [], open: false, wanted: 0, settings: GREEDY };

  constructor(session: StreamHost, index: number) {
    this.#session = session;
    this.#index = index;
  }

  /** @internal */
  get lane(): Lane {
    return this.#lane;
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
    if (this.#lane.open) throw new UsageError(`stream ${this.#index} is already being read`);
    this.expectDrawable();
    signal?.throwIfAborted();
    const lane = this.#lane;
    lane.open = true;
    const tail: number[] = [];
    const longest = Math.max(0, ...stops.map((s) => s.length));
    try {
      await this.#session.begin(() => {
        // calls that were made before may have put the stream elsewhere
        this.expectDrawable();
        lane.wanted = Math.ceil(maxTokens);
        lane.settings = settings;
      });
      for (let n = 0; n < maxTokens; n++) {
        const id = await this.#session.next(this.#index, signal);
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
      lane.open = false;
      lane.wanted = 0;
      await this.#session.settle();
    }
  }

  /** @internal A restore or a reset may have put the stream where nothing can be drawn. */
  expectDrawable(): void {
    if (this.position === 0)
      throw new UsageError(`stream ${this.#index} holds no tokens yet: prefill at least one`);
    if (!this.#session.drawable(this.#index))
      throw new UsageError(`stream ${this.#index} ends in a filled cache: prefill at least one token`);
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
