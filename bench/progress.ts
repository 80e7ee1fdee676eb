// How long a run may still take.

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

/** Seconds, minutes or hours, rounded up. */
export function formatLeft(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.ceil(minutes / 60)} h`;
}
