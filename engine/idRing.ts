// Sampled ids on their way to JavaScript: the ring that the sampler writes is fetched whole through two staging buffers in
// turn, so that one submit's ids come back while the next runs.

import { ID_RING } from "./cursor.ts";
import type { Machine } from "./machine.ts";
import type { Data, Storage, Tensor } from "./tensor.ts";

export class IdRing {
  readonly storages: readonly Storage[];
  /** u32 [ID_RING, B]. */
  readonly #ids: Tensor;
  #turn = 0;

  constructor(ids: Tensor) {
    this.#ids = ids;
    const { bytes } = ids.storages[0]!;
    this.storages = [0, 1].map((i) => ({ category: "staging", label: `ids ${i}`, bytes }));
  }

  /** The ring as it is after all that was submitted; at most two fetches may be under way. */
  fetch(machine: Machine): Promise<Data> {
    return machine.fetch(this.#ids, this.storages[this.#turn++ % 2]!);
  }
}

/** Tokens run before their consumers ask for them, in one submit. */
export interface Ahead {
  /** Tokens run for each stream. */
  counts: readonly number[];
  /** Each stream's position before. */
  from: readonly number[];
  /** The ring as it is after them. */
  ids: Promise<Data>;
}

/** Each stream's ids, in order, from the ring. */
export function idsOf({ counts, from }: Ahead, ring: Data): number[][] {
  const B = counts.length;
  return counts.map((count, b) =>
    Array.from({ length: count }, (_, i) => ring[((from[b]! + i) % ID_RING) * B + b]!),
  );
}
