// The race: several models on one device stream text by turns. Each turn is a slice of time, and the racer that has had least
// time is next, so that all get as much; a racer's speed counts its own slices only. Knows no page: what happens is told.

import { DeviceLostError } from "../../engine/errors.ts";
import type { GpuMachine } from "../../engine/gpu.ts";
import type { LoadProgress } from "../../engine/loadModel.ts";
import type { Tune } from "../../engine/tune.ts";
import type { VerdictStore } from "../../engine/verdicts.ts";
import { createEngine, type Engine } from "../../models/engine.ts";
import type { Source } from "../../models/source.ts";
import type { Layers } from "../closed.ts";
import { failure, stackOf } from "../failure.ts";
import { ADAPTER, type Facts, factsOf } from "../meters/adapterFacts.ts";
import { type Counter, startCounting } from "../meters/asked.ts";
import { measureRoof, type Roof } from "../meters/roof.ts";
import type { Status } from "../row.ts";
import type { Subject } from "../subject.ts";
import { Racer, type Sample } from "./racer.ts";

export interface RaceSettings {
  /** What every racer continues, each in its own tokens. */
  prompt: string;
  /** Tokens that each stream generates. */
  tokens: number;
  streams: number;
  /** 0 takes the likeliest token. */
  temperature: number;
  seed: number;
  tune: Tune;
  /** `cpu` runs the kernels' references in JavaScript: slow, but it needs no WebGPU. */
  machine: "gpu" | "cpu";
  build_commit: string | null;
  version: string | null;
}

/** What is known of a racer once its weights are there. */
export interface Loaded {
  arch: string;
  parameters: number;
  /** Tokens of the prompt. */
  prompt: number;
  layers: Layers[] | null;
  /** Theory over the whole way: bytes that are carried from token to token, and all. */
  ladder: { context: number; carried: number; all: number }[];
}

export type RaceEvent =
  | { type: "open"; facts: Facts; roof: Roof | null }
  | { type: "loading"; racer: number; what: string; progress: LoadProgress | null }
  | { type: "loaded"; racer: number; loaded: Loaded }
  | { type: "sample"; racer: number; sample: Sample }
  /** A racer that will not run on. */
  | { type: "out"; racer: number; status: Exclude<Status, "ok">; reason: string }
  | { type: "finished"; racer: number }
  /** Nobody is left to run. Racers may still be added. */
  | { type: "idle" }
  | { type: "lost"; reason: string }
  | { type: "trace"; stack: string };

export interface RaceHost {
  source(folder: string): Source;
  verdicts?: VerdictStore;
  tell(event: RaceEvent): void;
}

export class Race {
  readonly #host: RaceHost;
  readonly #settings: RaceSettings;
  readonly #engine: Engine;
  readonly #counter: Counter | null;
  readonly #roof: Roof | null;
  readonly #racers: Racer[] = [];
  #added = 0;
  /** Racers that are not loaded yet. */
  readonly #waiting: { number: number; subject: Subject }[] = [];
  #running = false;
  #paused = false;
  #lost = false;

  /** Opens the adapter and measures what it can do. Throws AdapterError. */
  static async open(settings: RaceSettings, host: RaceHost): Promise<Race> {
    if (settings.machine === "cpu") {
      host.tell({ type: "open", facts: await factsOf(null), roof: null });
      return new Race(settings, host, await createEngine({ machine: "cpu" }), null, null);
    }
    const counter = await startCounting();
    const { verdicts } = host;
    const engine = await createEngine({ ...ADAPTER, ...(verdicts ? { verdicts } : {}) });
    const { device } = engine.machine as GpuMachine;
    const roof = await counter.paused(() => measureRoof(device, engine.adapter!.software));
    host.tell({ type: "open", facts: await factsOf(navigator.gpu), roof });
    const race = new Race(settings, host, engine, counter, roof);
    device.lost.then(({ reason, message }) => race.#lose(`${reason}: ${message}`));
    return race;
  }

  private constructor(
    settings: RaceSettings,
    host: RaceHost,
    engine: Engine,
    counter: Counter | null,
    roof: Roof | null,
  ) {
    this.#settings = settings;
    this.#host = host;
    this.#engine = engine;
    this.#counter = counter;
    this.#roof = roof;
  }

  /**
   * Loads a model and lets it in; events number racers in the order in which they were added, from 0. Who comes late starts with
   * the time of those who had least.
   */
  add(subject: Subject): void {
    this.#waiting.push({ number: this.#added++, subject });
    this.#run();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#run();
  }

  async #load(number: number, subject: Subject): Promise<void> {
    const { tell } = this.#host;
    try {
      const place = { engine: this.#engine, counter: this.#counter, roof: this.#roof };
      const racer = await Racer.load(number, subject, this.#settings, {
        ...place,
        source: (folder) => this.#host.source(folder),
        onStep: (what, progress) => tell({ type: "loading", racer: number, what, progress }),
      });
      const had = this.#active().map(({ ns }) => ns);
      racer.handicapNs = had.length > 0 ? Math.min(...had) : 0;
      this.#racers.push(racer);
      tell({ type: "loaded", racer: number, loaded: racer.loaded });
      tell({ type: "sample", racer: number, sample: racer.sample() });
    } catch (error) {
      this.#out(number, error, "preflight");
    }
  }

  #run(): void {
    if (this.#running) return;
    this.#running = true;
    this.#turns().finally(() => {
      this.#running = false;
    });
  }

  /** One after the other: what comes and goes while somebody loads or runs is theirs. */
  async #turns(): Promise<void> {
    for (;;) {
      // messages are heard between turns, whatever the machine
      await new Promise((resolve) => setTimeout(resolve));
      if (this.#lost) return;
      const next = this.#waiting.shift();
      if (next) {
        await this.#load(next.number, next.subject);
        continue;
      }
      if (this.#paused) return;
      const active = this.#active();
      if (active.length === 0) break;
      await this.#turn(active.reduce((a, b) => (b.ns < a.ns ? b : a)));
    }
    this.#host.tell({ type: "idle" });
  }

  async #turn(racer: Racer): Promise<void> {
    const { tell } = this.#host;
    const { number } = racer;
    try {
      const sample = await racer.slice();
      tell({ type: "sample", racer: number, sample });
      if (racer.done) tell({ type: "finished", racer: number });
    } catch (error) {
      this.#racers.splice(this.#racers.indexOf(racer), 1);
      racer.destroy();
      this.#out(number, error, "run");
    }
  }

  #active(): Racer[] {
    return this.#racers.filter((racer) => !racer.done);
  }

  #out(racer: number, error: unknown, phase: "preflight" | "run"): void {
    const { tell } = this.#host;
    if (error instanceof DeviceLostError) {
      this.#lose(error.message);
      return;
    }
    tell({ type: "trace", stack: stackOf(error) });
    const { status, reason } = failure(error, phase);
    tell({ type: "out", racer, status: status as Exclude<Status, "ok">, reason });
  }

  #lose(reason: string): void {
    if (this.#lost) return;
    this.#lost = true;
    this.#host.tell({ type: "lost", reason });
  }
}
