// Tokens that are in the context before the clock starts.

import type { Session } from "../engine/session.ts";
import type { Snapshot } from "../engine/snapshot.ts";
import { type Fill, pieces } from "./fill.ts";

/** A snapshot of more bytes is not kept on the host: to make the depth again takes less than to carry it about. */
const MOST_KEPT_BYTES = 64 * 2 ** 20;

/** Takes fresh sessions of one model to the depths of its tests; goes on from the last depth where that was kept. */
export class Depths {
  readonly #fill: Fill;
  /** Seed of random keys and values; null: tokens are fed. */
  readonly #randomCache: number | null;
  /** By the number of streams. */
  readonly #kept = new Map<number, Snapshot>();

  constructor(fill: Fill, randomCache: number | null) {
    this.#fill = fill;
    this.#randomCache = randomCache;
  }

  /** What this depth is made of, in a model with a cache or without. */
  kind(tokens: number, hasCache: boolean): string {
    return this.#isRandom(tokens, hasCache) ? "random cache" : this.#fill.kind;
  }

  async take(session: Session, tokens: number): Promise<void> {
    // what does not fit is known before hours are spent on filling it
    await session.reserve(tokens);
    if (this.#isRandom(tokens, session.memory().kv > 0)) {
      await session.fillCache(tokens - 1, this.#randomCache!);
      // the logits to go on from
      return this.#feed(session, 1);
    }
    const kept = this.#kept.get(session.streams.length);
    if (kept && kept.positions[0]! <= tokens) await session.restore(kept);
    await this.#feed(session, tokens - session.positions[0]!);
  }

  /** Keeps the depth for the next test, where it was fed and is small. */
  async keep(session: Session): Promise<void> {
    const { state, kv } = session.memory();
    if (this.#isRandom(session.positions[0]!, kv > 0) || state + kv > MOST_KEPT_BYTES) return;
    this.#kept.set(session.streams.length, await session.snapshot());
  }

  #isRandom(tokens: number, hasCache: boolean): boolean {
    return this.#randomCache !== null && hasCache && tokens > 1;
  }

  /** Every stream takes the next tokens of the text after those that it holds. */
  async #feed(session: Session, tokens: number): Promise<void> {
    for (const piece of pieces(tokens, session.chunk))
      await session.prefill(session.positions.map((position) => this.#fill.ids(piece, position)));
  }
}
