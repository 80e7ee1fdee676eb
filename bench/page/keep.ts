// What was measured is kept in this browser while it is measured, so that a reload loses nothing.

import { del, get, set } from "idb-keyval";
import type { Results } from "../row.ts";

const EVERY_MS = 2000;

export class Keeper {
  /** What a page before this one kept; null: nothing. */
  found: Results | null = null;
  readonly #key: string;
  #last = 0;

  constructor(name: string) {
    this.#key = `longtape ${name}`;
  }

  async open(): Promise<void> {
    // a browser that keeps nothing, as in a private window, is no failure
    this.found = await get<Results>(this.#key).then(
      (kept) => (kept?.schema === "longtape/1" ? kept : null),
      () => null,
    );
  }

  /** Keeps it, now or when enough time has gone by. */
  keep(results: () => Results, now: boolean): void {
    if (!now && performance.now() - this.#last < EVERY_MS) return;
    this.#last = performance.now();
    set(this.#key, results()).catch(() => {});
  }

  discard(): void {
    this.found = null;
    del(this.#key).catch(() => {});
  }
}
