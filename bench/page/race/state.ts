// What is known of a race at any moment, and its results. No DOM: events in, state out.

import { colours, palette, toneOf } from "../../charts.ts";
import type { Line } from "../../race/charts.ts";
import type { Loaded, RaceEvent, RaceSettings } from "../../race/race.ts";
import { addPoint, bytesAt, speedsOf, type Trace } from "../../race/traces.ts";
import { type Environment, emptyRow, type Results, type Row, type Status } from "../../row.ts";
import { benchArchs } from "../../shipped.ts";
import { checkpoint, type Subject } from "../../subject.ts";
import { formatBytes, formatCount } from "../../units.ts";

/** A racer's text is shown to its last characters. */
const SHOWN_TEXT = 700;

export type RacerStatus = "waiting" | "loading" | "running" | "finished" | Exclude<Status, "ok">;

export interface RacerState {
  subject: Subject;
  name: string;
  colour: string;
  /** The class that gives the colour. */
  tone: string;
  status: RacerStatus;
  /** What it is doing while it loads. */
  what: string;
  /** Tensors loaded, of how many. */
  progress: { done: number; of: number } | null;
  loaded: Loaded | null;
  /** As results.json has it. */
  row: Row | null;
  text: string;
  reason: string;
  trace: Trace;
}

/** What a race's results hang on. */
type Settings = Pick<RaceSettings, "tokens" | "streams" | "build_commit" | "version">;

export class RaceState {
  readonly settings: Settings;
  readonly environment: Environment;
  readonly racers: RacerState[] = [];
  lost: string | null = null;

  constructor(settings: Settings, environment: Environment) {
    this.settings = settings;
    this.environment = environment;
  }

  /** A race that was kept: what was measured, and nothing that could run on. */
  static of({ environment, rows, traces = [] }: Results): RaceState {
    const [first] = rows;
    const settings = {
      tokens: Math.max(1, ...rows.map(({ n_gen }) => n_gen)),
      streams: first?.n_parallel ?? 1,
      build_commit: first?.build_commit ?? null,
      version: first?.peer_version ?? null,
    };
    const state = new RaceState(settings, environment);
    for (const row of rows) {
      const racer = state.add({ ...checkpoint(row.model, ""), arch: row.arch });
      Object.assign(racer, {
        row,
        reason: row.reason ?? "",
        status: row.status === "ok" ? "finished" : row.status,
      });
      racer.trace = traces.find(({ model }) => model === row.model) ?? racer.trace;
    }
    return state;
  }

  add(subject: Subject): RacerState {
    const colour = colours(benchArchs).get(subject.model) ?? this.#freeColour();
    const racer: RacerState = {
      subject,
      name: subject.model,
      colour,
      tone: toneOf(colour),
      status: "waiting",
      what: "",
      progress: null,
      loaded: null,
      row: null,
      text: "",
      reason: "",
      trace: { arch: subject.arch, model: subject.model, streams: this.settings.streams, points: [] },
    };
    this.racers.push(racer);
    return racer;
  }

  /** Of a model of a person's own: one that nobody in this race has. */
  #freeColour(): string {
    const taken = new Set(this.racers.map(({ tone }) => tone));
    const slots = palette.light.map((_, i) => i + 1).reverse();
    const free = slots.find((slot) => !taken.has(`series-${slot}`));
    return free === undefined ? "currentColor" : `var(--series-${free})`;
  }

  /** Takes an event; gives what is worth saying aloud. */
  apply(event: RaceEvent): string | null {
    switch (event.type) {
      case "open":
        Object.assign(this.environment, event.facts);
        return null;
      case "loading": {
        const racer = this.racers[event.racer]!;
        racer.status = "loading";
        racer.what = event.progress ? `${event.what} ${event.progress.name}` : event.what;
        racer.progress = event.progress;
        return null;
      }
      case "loaded": {
        const racer = this.racers[event.racer]!;
        Object.assign(racer, { status: "running", what: "", progress: null, loaded: event.loaded });
        racer.trace.arch = event.loaded.arch;
        return null;
      }
      case "sample": {
        const racer = this.racers[event.racer]!;
        racer.row = event.sample.row;
        racer.text = (racer.text + event.sample.text).slice(-SHOWN_TEXT);
        addPoint(racer.trace, event.sample);
        return null;
      }
      case "finished": {
        const racer = this.racers[event.racer]!;
        racer.status = "finished";
        return `${racer.name} has finished.`;
      }
      case "out": {
        const racer = this.racers[event.racer]!;
        racer.status = event.status;
        racer.reason = event.reason;
        return `${racer.name} is out: ${event.reason}`;
      }
      case "lost":
        this.lost = event.reason;
        return "The GPU was lost.";
      default:
        return null;
    }
  }

  /** Is there anything that was measured? */
  get measured(): boolean {
    return this.racers.some(({ trace }) => trace.points.length > 1);
  }

  /** Tokens of the longest context that some racer is to reach. */
  get longest(): number {
    return this.settings.tokens + Math.max(1, ...this.racers.map(({ loaded }) => loaded?.prompt ?? 1));
  }

  results(): Results {
    return {
      schema: "longtape/1",
      environment: this.environment,
      // who was never loaded has nothing to say
      rows: this.racers.filter(({ row, reason }) => row || reason).map((racer) => this.#row(racer)),
      traces: this.racers.map(({ trace }) => trace).filter(({ points }) => points.length > 0),
    };
  }

  #row({ subject, row: measured, status, reason }: RacerState): Row {
    const failed = status === "failed" || status === "refused" || status === "unsupported";
    const row =
      measured ??
      emptyRow({
        build_commit: this.settings.build_commit,
        peer_version: this.settings.version,
        arch: subject.arch,
        model: subject.model,
        test: `tg${this.settings.tokens}`,
        n_gen: this.settings.tokens,
        n_parallel: this.settings.streams,
      });
    return failed ? { ...row, status, reason } : row;
  }

  bytesLines(everything: boolean): Line[] {
    return this.racers.map(({ name, colour, loaded, trace }) => ({
      label: name,
      colour,
      theory: loaded
        ? loaded.ladder.map(({ context, carried, all }) => ({ x: context, y: everything ? all : carried }))
        : everything
          ? []
          : trace.points.map(({ context, theory }) => ({ x: context, y: theory })),
      points: trace.points.map((point) => ({
        x: point.context,
        y: bytesAt(point, everything),
        title: bytesTitle(name, point),
      })),
    }));
  }

  speedLines(): Line[] {
    return this.racers.map(({ name, colour, trace }) => ({
      label: name,
      colour,
      theory: [],
      points: speedsOf(trace).map(({ context, rate }) => ({
        x: context,
        y: rate,
        title: `${name} at ${formatCount(context)} tokens\n${formatCount(Math.round(rate))} tokens a second`,
      })),
    }));
  }
}

function bytesTitle(name: string, { context, bytes }: Trace["points"][number]): string {
  const { weights, state, kv, scratch, uniform, staging } = bytes;
  const lines = Object.entries({
    "keys and values": kv,
    state,
    weights,
    scratch,
    "uniforms, staging": uniform + staging,
  });
  const shown = lines
    .filter(([, value]) => value > 0)
    .map(([what, value]) => `${what}: ${formatBytes(value)}`);
  return [`${name} at ${formatCount(context)} tokens`, ...shown].join("\n");
}
