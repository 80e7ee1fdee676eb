// What a run is doing now and how long it may still take, on stderr.

import type { Test } from "./tests.ts";

interface Place {
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  write(text: string): unknown;
}

export interface Progress {
  /** What is done now: one line that is written over on a terminal; elsewhere nothing, as there it would be kept. */
  step(model: string, test: string | null, what: string): void;
  /** A row is finished; `test` counts within its model. */
  done(model: string, test: number): void;
  /** Takes the line away, so that something else can be printed. */
  clear(): void;
}

export const noProgress: Progress = { step() {}, done() {}, clear() {} };

/**
 * Time left: the tests of a model are those of the model before, so a test that was seen is expected to take as long as
 * it took on average, any other as long as a test so far; a model's first test brings its loading with it.
 */
export class TimeLeft {
  readonly #models: number;
  readonly #tests: number;
  readonly #took: number[][];
  #rows = 0;
  #last: number;

  constructor(models: number, tests: readonly Test[], now: number) {
    this.#models = models;
    this.#tests = tests.length;
    this.#took = tests.map(() => []);
    this.#last = now;
  }

  get rows(): number {
    return this.#rows;
  }

  get of(): number {
    return this.#models * this.#tests;
  }

  done(test: number, now: number): void {
    this.#took[test]?.push(now - this.#last);
    this.#last = now;
    this.#rows++;
  }

  /** Milliseconds; null while nothing is known. */
  left(now: number): number | null {
    const all = this.#took.flat();
    if (all.length === 0) return null;
    const average = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
    let left = 0;
    this.#took.forEach((took) => {
      left += (this.#models - took.length) * average(took.length > 0 ? took : all);
    });
    return Math.max(0, left - (now - this.#last));
  }
}

/** `lines`: say it a line a row where stderr is no terminal. */
export function createProgress(
  models: number,
  tests: readonly Test[],
  place: Place = process.stderr,
): Progress {
  const time = new TimeLeft(models, tests, performance.now());
  let shown = false;
  const clear = () => {
    if (shown) place.write("\r\x1b[K");
    shown = false;
  };
  const left = () => {
    const ms = time.left(performance.now());
    return ms === null ? "" : `, about ${formatLeft(ms)} left`;
  };
  return {
    step(model, test, what) {
      if (!place.isTTY) return;
      const line = `[${time.rows + 1}/${time.of}] ${model}${test ? ` ${test}` : ""}: ${what}${left()}`;
      place.write(`\r${line.slice(0, (place.columns ?? 80) - 1)}\x1b[K`);
      shown = true;
    },
    done(model, test) {
      time.done(test, performance.now());
      if (!place.isTTY) place.write(`[${time.rows}/${time.of}] ${model}${left()}\n`);
    },
    clear,
  };
}

export function formatLeft(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.ceil(minutes / 60)} h`;
}
