// A cache filled with random keys and values: depth without a prefill.

import { cursorWords, GREEDY } from "./cursor.ts";
import type { Machine } from "./machine.ts";
import type { Plan } from "./plan.ts";
import type { Tensor } from "./tensor.ts";
import { Workspace } from "./workspace.ts";

export interface CacheFill {
  /** Fills as many positions of each stream as the cursor says. */
  plan: Plan;
  cursor: Tensor;
  /** Slots of the cache's pages, in order; none where nothing is paged. */
  pages: readonly number[];
}

/**
 * Fills the next `tokens` positions of streams that stand at `positions`, one page a submit. What it needs beside the cache
 * is freed again. Throws OutOfMemoryError, with nothing filled.
 */
export async function fillCache(
  machine: Machine,
  { plan, cursor, pages }: CacheFill,
  positions: readonly number[],
  tokens: number,
  seed: number,
): Promise<void> {
  const workspace = new Workspace(machine, [plan]);
  try {
    await workspace.open();
    const pieces = windows(pages, Math.max(...positions) + tokens).flatMap(({ begin, end }) => {
      const from = positions.map((p) => Math.max(p, begin));
      const counts = positions.map((p, b) => Math.max(0, Math.min(p + tokens, end) - from[b]!));
      if (Math.max(...counts) === 0) return [];
      return [{ from, counts, run: workspace.run(plan, { first: begin, last: end - 1 }) }];
    });
    for (const { run } of pieces) await machine.prepare(run.dispatches);
    for (const { from, counts, run } of pieces) {
      const words = cursorWords(Math.max(...counts), from, counts, () => ({ ...GREEDY, seed }));
      machine.write(cursor, words);
      machine.submit([run]);
    }
  } finally {
    workspace.destroy();
  }
}

/** The positions [begin, end) of each page. */
function windows(pages: readonly number[], end: number): { begin: number; end: number }[] {
  if (pages.length === 0) return [{ begin: 0, end }];
  let begin = 0;
  return pages.map((slots) => {
    begin += slots;
    return { begin: begin - slots, end: begin };
  });
}
