// How many tokens a submit runs: as many as take a time that is short beside a browser's watchdog and long beside a
// readback.

const SUBMIT_MS = 25;

export class Pace {
  /** Steps of the next submit. */
  steps = 1;
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** Learns from a submit of so many steps that has just been made; `done` settles when its ids are back. */
  follow(steps: number, done: Promise<unknown>): void {
    const started = performance.now();
    done.then(
      () => {
        const perStep = (performance.now() - started) / steps;
        const fitting = Math.ceil(SUBMIT_MS / Math.max(perStep, 0.01));
        this.steps = Math.max(1, Math.min(this.#most, 2 * steps, fitting));
      },
      () => undefined,
    );
  }
}
