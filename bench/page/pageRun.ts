// A run of the bench in workers: what is planned, what has come of it, and how long it will still take.

import { formatLeft, TimeLeft } from "../progress.ts";
import { addPeer, type Results } from "../row.ts";
import type { Settings } from "../run.ts";
import type { Planned } from "../subject.ts";
import type { WorkerEvent, WorkerRequest } from "./bench/benchWorker.ts";
import { checkpointsUrl } from "./dom.ts";
import { build, environment } from "./environment.ts";

/** The command line's default. */
export const SEED = 1337;

export interface PagePlan {
  plan: readonly Planned[];
  settings: Pick<Settings, "repetitions" | "warmup" | "tune"> & Partial<Settings>;
  /** Files of a person's folders, by the subject's folder. */
  picked?: Map<string, File[]>;
  /** Rows of each test: one a runtime. */
  runtimes?: number;
  /** A worker for each subject: other runtimes have one device a worker, and keep what a model left on it. */
  fresh?: boolean;
}

export interface PageRunHost {
  /** Something has come. */
  onEvent(event: WorkerEvent): void;
  /** `fault`: why it broke off; null: it did not. */
  onEnd(how: "Done" | "Stopped" | "Broken off", fault: string | null): void;
}

export class PageRun {
  readonly results: Results = { schema: "longtape/1", environment: environment(SEED), rows: [] };
  readonly #plan: PagePlan;
  readonly #host: PageRunHost;
  readonly #time: TimeLeft;
  readonly #runtimes: number;
  #left: Planned[];
  #worker: Worker | null = null;
  #model = "";
  /** Rows of the model in hand. */
  #finished = 0;
  #step = "Opening the GPU …";

  constructor(plan: PagePlan, host: PageRunHost) {
    this.#plan = plan;
    this.#host = host;
    this.#runtimes = plan.runtimes ?? 1;
    this.#left = [...plan.plan];
    const rows = plan.plan.map(({ tests }) =>
      tests.flatMap((test) => Array.from({ length: this.#runtimes }, () => test)),
    );
    this.#time = new TimeLeft(rows, performance.now());
    document.addEventListener("visibilitychange", this.#onHidden);
    this.#next();
  }

  /** Rows that are there, of how many. */
  get rows(): number {
    return this.#time.rows;
  }
  get of(): number {
    return this.#time.of;
  }

  /** What is done now, in a line. */
  get doing(): string {
    const left = this.#time.left(performance.now());
    const about = left === null ? "" : `, about ${formatLeft(left)} left`;
    return this.#model
      ? `${Math.min(this.rows + 1, this.of)} of ${this.of}: ${this.#model} ${this.#step}${about}`
      : this.#step;
  }

  stop(): void {
    this.#end("Stopped");
  }

  readonly #onHidden = () => {
    if (document.hidden) this.results.environment.tab_hidden = true;
  };

  /** The next worker's part: all that is left, or one subject. */
  #next(): void {
    const plan = this.#plan.fresh ? this.#left.splice(0, 1) : this.#left.splice(0);
    const worker = new Worker(new URL("./bench/benchWorker.ts", import.meta.url), { type: "module" });
    this.#worker = worker;
    worker.addEventListener("message", ({ data }: MessageEvent<WorkerEvent>) => {
      if (this.#worker === worker) this.#take(data);
    });
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      if (this.#worker === worker)
        this.#end("Broken off", `The bench broke off: ${event.message || "its code could not be loaded"}.`);
    });
    const settings: Settings = {
      delaySeconds: 0,
      seed: SEED,
      maxBytes: null,
      build_commit: build.commit,
      version: build.versions.longtape ?? null,
      ...this.#plan.settings,
    };
    const picked = this.#plan.picked ?? new Map();
    worker.postMessage({ settings, plan, picked, checkpoints: checkpointsUrl } satisfies WorkerRequest);
  }

  #take(event: WorkerEvent): void {
    const { environment, rows } = this.results;
    switch (event.type) {
      case "open":
        Object.assign(environment, event.facts);
        break;
      case "subject":
        this.#model = event.model;
        this.#finished = 0;
        break;
      case "step":
        this.#time.step(event.test, performance.now());
        this.#step = [event.test, event.what].filter(Boolean).join(": ");
        break;
      case "verdict":
        environment.verdicts.push(event.verdict);
        break;
      case "tuned":
        environment.tuned.push(event.tuned);
        break;
      case "peer":
        addPeer(environment, event.facts);
        break;
      case "curve":
        environment.curves!.push(event.curve);
        break;
      case "row":
        rows.push(event.row);
        this.#time.done(this.#finished++, performance.now());
        break;
      case "trace":
        console.warn(event.stack);
        break;
    }
    this.#host.onEvent(event);
    if (event.type === "error") this.#end("Broken off", event.message);
    if (event.type === "end") {
      if (this.#left.length === 0) this.#end("Done");
      else {
        this.#worker?.terminate();
        this.#next();
      }
    }
  }

  #end(how: "Done" | "Stopped" | "Broken off", fault: string | null = null): void {
    if (!this.#worker) return;
    this.#worker.terminate();
    this.#worker = null;
    document.removeEventListener("visibilitychange", this.#onHidden);
    this.#host.onEnd(how, fault);
  }
}

/** What the end of a run says of itself. */
export function ending(run: PageRun, how: string): string {
  const hidden = run.results.environment.tab_hidden
    ? " The tab was hidden meanwhile, which slows browsers down: take no time from these rows."
    : "";
  return `${how}: ${run.rows} of ${run.of} rows.${hidden}`;
}
