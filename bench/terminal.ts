// What a run is doing, on stderr: in a terminal a table that fills as rows come, elsewhere, where all is kept, a line a row.

import { createLogUpdate } from "log-update";
import { formatLeft, TimeLeft } from "./progress.ts";

interface Place {
  isTTY?: boolean | undefined;
  columns?: number | undefined;
  rows?: number | undefined;
  write(text: string): unknown;
}

export interface Progress {
  /** What is done now; no test: the model is being loaded. */
  step(model: string, test: string | null, what: string): void;
  /** A row is finished; `number` counts within its model, `figure` is what it found, where it stands for itself. */
  done(model: string, test: string, number: number, figure?: string): void;
  /** Takes the table away, so that something else can be printed. */
  clear(): void;
}

export const noProgress: Progress = { step() {}, done() {}, clear() {} };

/** Milliseconds between two drawings. */
const DRAW_MS = 80;
const BAR = 24;
const GAP = "  ";

/** `tests`: those of each model. */
export function createProgress(
  tests: readonly (readonly unknown[])[],
  place: Place = process.stderr,
): Progress {
  return place.isTTY ? new LiveTable(tests, place) : new Lines(tests, place);
}

class Lines implements Progress {
  readonly #tests: readonly (readonly unknown[])[];
  readonly #place: Place;
  #time: TimeLeft | null = null;

  constructor(tests: readonly (readonly unknown[])[], place: Place) {
    this.#tests = tests;
    this.#place = place;
  }

  step(_model: string, test: string | null): void {
    this.#time ??= new TimeLeft(this.#tests, performance.now());
    this.#time.step(test, performance.now());
  }

  done(model: string, test: string, number: number): void {
    const time = this.#time;
    if (!time) return;
    time.done(number, performance.now());
    const left = time.left(performance.now());
    const about = left === null ? "" : `, about ${formatLeft(left)} left`;
    this.#place.write(`[${time.rows}/${time.of}] ${model} ${test}${about}\n`);
  }

  clear(): void {}
}

/** A model a line, a test a column, and below them a bar. */
class LiveTable implements Progress {
  readonly #tests: readonly (readonly unknown[])[];
  readonly #place: Place;
  readonly #log: ReturnType<typeof createLogUpdate>;
  readonly #columns: string[] = [];
  readonly #models = new Map<string, Map<string, string>>();
  #time: TimeLeft | null = null;
  #now = "";
  #drawn = 0;

  constructor(tests: readonly (readonly unknown[])[], place: Place) {
    this.#tests = tests;
    this.#place = place;
    this.#log = createLogUpdate(place as NodeJS.WritableStream, { showCursor: true });
  }

  step(model: string, test: string | null, what: string): void {
    const now = performance.now();
    this.#time ??= new TimeLeft(this.#tests, now);
    this.#time.step(test, now);
    this.#now = `${model}${test ? ` ${test}` : ""}: ${what}`;
    if (now - this.#drawn > DRAW_MS) this.#draw();
  }

  done(model: string, test: string, number: number, figure?: string): void {
    this.#time?.done(number, performance.now());
    if (figure !== undefined) this.#put(model, test, figure);
    this.#draw();
  }

  clear(): void {
    this.#log.clear();
  }

  #put(model: string, test: string, cell: string): void {
    if (!this.#columns.includes(test)) this.#columns.push(test);
    const cells = this.#models.get(model) ?? new Map<string, string>();
    this.#models.set(model, cells);
    cells.set(test, cell);
  }

  #draw(): void {
    this.#drawn = performance.now();
    this.#log([...this.#table(), this.#bar(), this.#now.slice(0, this.#width)].join("\n"));
  }

  get #width(): number {
    return (this.#place.columns || 80) - 1;
  }

  /** As many of the last columns and models as there is room for. */
  #table(): string[] {
    if (this.#columns.length === 0) return [];
    // beside the head, the bar, the line below it and the cursor's own
    const room = Math.max(1, (this.#place.rows || 24) - 5);
    const models = [...this.#models].slice(-room);
    const first = Math.max(...models.map(([model]) => model.length));
    const columns = this.#columns.map((test) => {
      const cells = models.map(([, found]) => found.get(test) ?? "");
      return { test, cells, width: Math.max(test.length, ...cells.map(({ length }) => length)) };
    });
    let used = first;
    let from = columns.length;
    while (from > 0 && used + GAP.length + columns[from - 1]!.width <= this.#width) {
      from--;
      used += GAP.length + columns[from]!.width;
    }
    const shown = columns.slice(from);
    const line = (name: string, cell: (column: (typeof columns)[number]) => string) =>
      [name.padEnd(first), ...shown.map((column) => cell(column).padStart(column.width))].join(GAP);
    return [
      line("", ({ test }) => test),
      ...models.map(([model], i) => line(model, ({ cells }) => cells[i]!)),
    ];
  }

  #bar(): string {
    const time = this.#time;
    if (!time || time.of === 0) return "";
    const rows = Math.min(time.rows, time.of);
    const whole = Math.max(4, Math.min(BAR, this.#width - 32));
    const full = Math.round((whole * rows) / time.of);
    const left = time.left(performance.now());
    const about = left === null ? "" : `, about ${formatLeft(left)} left`;
    return `${"█".repeat(full)}${"░".repeat(whole - full)} ${rows} of ${time.of}${about}`;
  }
}
