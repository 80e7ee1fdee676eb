// A place to which a session's streams can be rolled back.

import type { SessionLayout } from "./layout.ts";
import type { Machine } from "./machine.ts";
import { type Parity, Shadow } from "./shadow.ts";
import type { Storage } from "./tensor.ts";

/**
 * Where a session's streams stood, kept on the device: state that is overwritten in place, rings, and what the next token is
 * drawn from. Pages are not copied, for what they held is still there. Made by `session.mark()`.
 */
export class Mark {
  /** Tokens that each stream held. */
  readonly positions: readonly number[];
  /** @internal Whether the logits are those after each stream's last token. */
  readonly drawable: readonly boolean[];
  /** @internal Set where the pages no longer hold what they held. */
  stale = false;
  readonly #machine: Machine;
  readonly #shadow: Shadow;
  readonly #forget: (mark: Mark) => void;
  #destroyed = false;

  /** @internal */
  constructor(
    machine: Machine,
    layout: SessionLayout,
    { positions, drawable }: { positions: readonly number[]; drawable: readonly boolean[] },
    forget: (mark: Mark) => void,
  ) {
    this.#machine = machine;
    this.positions = [...positions];
    this.drawable = [...drawable];
    // what streams carried, for as long as the caller wants it: state, where scratch is what a run needs
    this.#shadow = new Shadow(layout, { category: "state", label: "marked" });
    this.#forget = forget;
  }

  /** Bytes that it holds: counted as `state`. */
  get bytes(): number {
    return this.#shadow.storages.reduce((n, s) => n + s.bytes, 0);
  }

  get destroyed(): boolean {
    return this.#destroyed;
  }

  /** @internal */
  get storages(): readonly Storage[] {
    return this.#shadow.storages;
  }

  /** @internal Throws OutOfMemoryError, with nothing left allocated. */
  async take(parity: Parity): Promise<void> {
    await this.#machine.allocate(this.storages);
    this.#shadow.take(this.#machine, this.positions, parity);
  }

  /** @internal Gives the side of the twins that is now. */
  putBack(): Parity {
    return this.#shadow.putBack(this.#machine).parity;
  }

  /** Frees what it holds. The session frees the marks that are left when it is destroyed. */
  destroy(): void {
    this.#destroyed = true;
    this.#machine.free(this.storages);
    this.#forget(this);
  }
}
