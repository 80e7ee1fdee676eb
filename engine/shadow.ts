// A copy, on the device, of all that is overwritten in place, and of what the next token is drawn from: what it takes to bring
// streams back to where they stood. Pages are not in it: they only grow, and the positions say how much of them counts.

import type { SessionLayout } from "./layout.ts";
import type { Machine } from "./machine.ts";
import type { Category, Storage } from "./tensor.ts";

export type Parity = 0 | 1;

export class Shadow {
  readonly storages: readonly Storage[];
  /** What is copied, for either side of the twins, in the order of `storages`. */
  readonly #originals: Record<Parity, readonly Storage[]>;
  /** Where the streams stood when it was taken; null: it holds nothing. */
  taken: { positions: readonly number[]; parity: Parity } | null = null;

  constructor(
    { carried: { fixed, sides }, io }: Pick<SessionLayout, "carried" | "io">,
    { category, label }: { category: Category; label: string },
  ) {
    const { last, logits } = io.view(1);
    const always = [...fixed, ...last.storages, ...logits.storages];
    this.#originals = { 0: [...always, ...sides[0]], 1: [...always, ...sides[1]] };
    this.storages = this.#originals[0].map((s) => ({
      category,
      label: `${s.label}, ${label}`,
      bytes: s.bytes,
    }));
  }

  take(machine: Machine, positions: readonly number[], parity: Parity): void {
    this.taken = { positions: [...positions], parity };
    machine.copy(this.#originals[parity].map((s, i) => [s, this.storages[i]!]));
  }

  /** Puts everything back as it was and says where the streams stand now. */
  putBack(machine: Machine): { positions: readonly number[]; parity: Parity } {
    if (!this.taken) throw new Error("no shadow was taken");
    machine.copy(this.#originals[this.taken.parity].map((s, i) => [this.storages[i]!, s]));
    return this.taken;
  }
}
