// What a run is doing now and how long it may still take, on stderr.

interface Place {
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  write(text: string): unknown;
}

export interface Progress {
  /** What is done now; no test: the model is being loaded. */
  step(model: string, test: string | null, what: string): void;
  /** A row is finished; `number` counts within its model. */
  done(model: string, test: string, number: number): void;
  /** Takes the line away, so that something else can be printed. */
  clear(): void;
}

export const noProgress: Progress = { step() {}, done() {}, clear() {} };

/**
 * Time left. Every model is loaded and then takes its tests, most of them the same, so each of these stages is expected to
 * last as long as it lasted on average for the models before; one that was never seen, as long as a stage so far.
 */
export class TimeLeft {
  /** Rows that are finished, and that there will be. */
  rows = 0;
  readonly of: number;
  /** Models that have the stage: loading, then each test. */
  readonly #models: number[];
  /** How long the stages lasted: loading, then each test. */
  readonly #lasted: number[][];
  #last: number;
  #loaded = false;

  /** `tests`: those of each model. */
  constructor(tests: readonly (readonly unknown[])[], now: number) {
    const stages = 1 + Math.max(0, ...tests.map(({ length }) => length));
    this.of = tests.reduce((sum, { length }) => sum + length, 0);
    this.#models = Array.from(
      { length: stages },
      (_, stage) => tests.filter((all) => all.length >= stage).length,
    );
    this.#lasted = this.#models.map(() => []);
    this.#last = now;
  }

  /** Something is done for a test, or (null) to load a model: a test's first step ends the loading. */
  step(test: string | null, now: number): void {
    if (test !== null && !this.#loaded) this.#ended(0, now);
    this.#loaded = test !== null;
  }

  /** A row is finished; `test` counts within its model. */
  done(test: number, now: number): void {
    this.rows++;
    this.#ended(1 + test, now);
  }

  /** Milliseconds; null before the first row. */
  left(now: number): number | null {
    if (this.rows === 0) return null;
    const average = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
    const all = average(this.#lasted.flat());
    const expected = this.#lasted.map((lasted, stage) => {
      // who never tells of steps has loading in the first test
      const unseen = stage === 0 ? 0 : all;
      return (this.#models[stage]! - lasted.length) * (lasted.length > 0 ? average(lasted) : unseen);
    });
    return Math.max(0, expected.reduce((a, b) => a + b) - (now - this.#last));
  }

  #ended(stage: number, now: number): void {
    this.#lasted[stage]?.push(now - this.#last);
    this.#last = now;
  }
}

/** One line that is written over on a terminal; elsewhere, where all is kept, a line a row. */
export function createProgress(
  tests: readonly (readonly unknown[])[],
  place: Place = process.stderr,
): Progress {
  let time: TimeLeft | null = null;
  let shown = false;
  const left = () => {
    const ms = time?.left(performance.now()) ?? null;
    return ms === null ? "" : `, about ${formatLeft(ms)} left`;
  };
  return {
    step(model, test, what) {
      time ??= new TimeLeft(tests, performance.now());
      time.step(test, performance.now());
      if (!place.isTTY) return;
      const number = time.of > 0 ? `[${Math.min(time.rows + 1, time.of)}/${time.of}] ` : "";
      const line = `${number}${model}${test ? ` ${test}` : ""}: ${what}${left()}`;
      place.write(`\r${line.slice(0, (place.columns || 80) - 1)}\x1b[K`);
      shown = true;
    },
    done(model, test, number) {
      if (!time) return;
      time.done(number, performance.now());
      if (!place.isTTY) place.write(`[${time.rows}/${time.of}] ${model} ${test}${left()}\n`);
    },
    clear() {
      if (shown) place.write("\r\x1b[K");
      shown = false;
    },
  };
}

/** Seconds, minutes or hours, rounded up. */
export function formatLeft(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.ceil(minutes / 60)} h`;
}
