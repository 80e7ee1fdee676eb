// One model in the race: its session, what it has generated, and its row.

import { UsageError } from "../../engine/errors.ts";
import type { GpuMachine } from "../../engine/gpu.ts";
import { Ledger } from "../../engine/ledger.ts";
import type { LoadProgress } from "../../engine/loadModel.ts";
import { total } from "../../engine/memory.ts";
import type { Session } from "../../engine/session.ts";
import type { Bytes } from "../../engine/tensor.ts";
import type { Engine, Model } from "../../models/engine.ts";
import type { Source } from "../../models/source.ts";
import { type TextStream, TokenizerError } from "../../models/tokenizer.ts";
import { layersOf } from "../architecture.ts";
import { closedHeld, closedOf, identity, memoryFields, speedFields, theoryFields } from "../fields.ts";
import { randomIds } from "../fill.ts";
import { GATE_TOKENS, type Load, Reference, refusal } from "../gate.ts";
import { configOf, loaderOf } from "../loading.ts";
import type { Counter } from "../meters/asked.ts";
import type { Roof } from "../meters/roof.ts";
import { ladderOf, type Theory, TheoryAlong } from "../meters/theory.ts";
import type { Row } from "../row.ts";
import { weightedQuantiles } from "../stats.ts";
import type { Subject } from "../subject.ts";
import type { Test } from "../tests.ts";
import { generateTimed, warmUp } from "../timed.ts";
import type { Loaded, RaceSettings } from "./race.ts";

/** A turn's length: short enough that all seem to run at once, long beside a submit. */
const SLICE_MS = 120;
/** Tokens of a prompt that are fed at a time. */
const CHUNK = 64;
/** Multiply-adds that the CPU machine may take to check a model: a second or two. Larger models are checked on fewer tokens. */
const GATE_WORK = 1e8;
const FEWEST_GATE_TOKENS = 2;
/** Where text cannot be tokenised. */
const RANDOM_PROMPT = 16;

/** What was seen of a racer at the end of a turn. */
export interface Sample {
  /** Tokens of each stream in its context, and how many of those it generated. */
  context: number;
  generated: number;
  /** Nanoseconds of this turn and the tokens of each stream in it: 0 before the first. */
  turn: { ns: number; tokens: number };
  /** By our own count. */
  bytes: Bytes;
  /** By the ledger. */
  theory: Bytes;
  /** What the first stream said in this turn. */
  text: string;
  /** All so far, as results.json has it. */
  row: Row;
}

export interface RacerHost {
  engine: Engine;
  /** null where nothing can be counted from outside. */
  counter: Counter | null;
  roof: Roof | null;
  source(folder: string): Source;
  onStep(what: string, progress: LoadProgress | null): void;
}

interface Parts {
  subject: Subject;
  settings: RaceSettings;
  host: RacerHost;
  loaded: Loaded;
  model: Model;
  session: Session;
  along: TheoryAlong;
  text: TextStream | null;
  /** null on the CPU machine, which is what others are held against. */
  nmse: number | null;
  loadNs: number;
}

/** Tokens that came back together, and the nanoseconds that each of them took of their wait. */
interface Batch {
  value: number;
  weight: number;
}

export class Racer {
  readonly number: number;
  /** Time that counts as had, of a racer who came late. */
  handicapNs = 0;

  readonly #parts: Parts;
  /** Bytes held now, and what was moved and run since the prompt. */
  #theory: Theory;
  #asked: number;
  #peak = 0;
  #ns = 0;
  #generated = 0;
  readonly #batches: Batch[] = [];
  #turn = { ns: 0, tokens: 0 };
  /** Of the next turn. */
  #tokens = 1;

  /**
   * Loads, holds the logits of the prompt's first tokens against the CPU machine's, opens a session and feeds the prompt. Throws what
   * these throw, with nothing left allocated.
   */
  static async load(
    number: number,
    subject: Subject,
    settings: RaceSettings,
    host: RacerHost,
  ): Promise<Racer> {
    const { engine, roof, onStep } = host;
    const before = askedOf(host);
    onStep("opening", null);
    const source = host.source(subject.folder);
    const raw = await configOf(subject, source);
    const { streams, seed, tune } = settings;
    const loader = loaderOf(subject, source, raw, seed);
    const started = performance.now();
    const model = await loader({
      streams,
      chunk: CHUNK,
      prompt: Math.max(1, Math.min(CHUNK, settings.prompt.length)),
      tune,
      onProgress: (progress) => onStep("loading", progress),
      onVerdict: ({ key }) => onStep(`racing variants of ${key}`, null),
    })(engine);
    const loadNs = (performance.now() - started) * 1e6;
    let session: Session | null = null;
    try {
      const { ids, text } = await promptFor(model, settings);
      onStep("checking against the reference", null);
      const nmse =
        engine.machine.kind === "gpu" ? await gate(model, loader({ tune: "off" }), ids, streams) : null;
      onStep("reading the prompt", null);
      session = await model.session({ streams, chunk: CHUNK });
      await warmUp(session, ids, samplerOf(settings));
      await session.reset();
      await session.prefill(session.streams.map(() => ids));
      // prefill ends when its work is queued; what follows is timed
      await session.logits();
      const { architecture, config, machine } = model.loaded;
      const size = { streams, chunk: CHUNK };
      const along = await TheoryAlong.open(machine, architecture, config, size, roof ?? undefined);
      const theory = await along.prefill(ids.length);
      const longest = ids.length + settings.tokens;
      const ledger = new Ledger(machine.variants, machine.maxBindingBytes);
      const ladder = await ladderOf(ledger, architecture, config, longest, size);
      const loaded: Loaded = {
        arch: model.name,
        parameters: model.parameters,
        prompt: ids.length,
        layers: layersOf(raw),
        ladder: ladder.map(({ context, memory }) => ({
          context,
          carried: memory.state + memory.kv,
          all: total(memory),
        })),
      };
      const asked = askedOf(host) - before;
      return new Racer(
        number,
        { subject, settings, host, loaded, model, session, along, text, nmse, loadNs },
        theory,
        asked,
      );
    } catch (error) {
      session?.destroy();
      model.destroy();
      throw error;
    }
  }

  private constructor(number: number, parts: Parts, theory: Theory, asked: number) {
    this.number = number;
    this.#parts = parts;
    this.#theory = { ...theory, bytesMoved: 0, workNs: 0, dispatches: 0 };
    this.#asked = asked;
  }

  get loaded(): Loaded {
    return this.#parts.loaded;
  }

  /** Time that it had. */
  get ns(): number {
    return this.#ns + this.handicapNs;
  }

  get done(): boolean {
    return this.#generated >= this.#parts.settings.tokens;
  }

  /** One turn: as many tokens as the last turn's pace lets into a slice. Throws OutOfMemoryError, DeviceLostError. */
  async slice(): Promise<Sample> {
    const { host, session, along, settings, text } = this.#parts;
    const left = settings.tokens - this.#generated;
    const tokens = Math.min(left, this.#tokens);
    const before = askedOf(host);
    let said = "";
    const { started, ended, latenciesNs } = await generateTimed(session, tokens, {
      ...samplerOf(settings),
      onIds(stream, ids) {
        if (stream === 0) said = text ? ids.map((id) => text.push(id)).join("") : ` ${ids.join(" ")}`;
      },
    });
    this.#asked += askedOf(host) - before;
    const ns = (ended - started) * 1e6;
    this.#ns += ns;
    this.#generated += tokens;
    this.#keep(latenciesNs);
    const step = await along.test({ n_prompt: 0, n_gen: tokens });
    const { bytesMoved, workNs, dispatches } = this.#theory;
    this.#theory = {
      bytes: step.bytes,
      bytesMoved: bytesMoved + step.bytesMoved,
      workNs: workNs + step.workNs,
      dispatches: dispatches + step.dispatches,
    };
    // a turn that was disturbed must not make the next one tiny, nor one that was lucky make it long
    const fitting = Math.round((tokens * SLICE_MS * 1e6) / Math.max(ns, 1));
    this.#tokens = Math.max(1, Math.min(2 * this.#tokens, Math.max(Math.ceil(this.#tokens / 2), fitting)));
    this.#turn = { ns, tokens };
    return this.sample(said);
  }

  sample(text = ""): Sample {
    const bytes = this.#parts.session.memory();
    this.#peak = Math.max(this.#peak, total(bytes));
    return {
      context: this.loaded.prompt + this.#generated,
      generated: this.#generated,
      turn: this.#turn,
      bytes,
      theory: this.#theory.bytes,
      text,
      row: this.#row(bytes),
    };
  }

  destroy(): void {
    const { session, model } = this.#parts;
    session.destroy();
    model.destroy();
  }

  /** Ids that came back together share one wait, to the bit. */
  #keep(latenciesNs: readonly number[]): void {
    for (const [i, value] of latenciesNs.entries()) {
      if (i > 0 && value === latenciesNs[i - 1]) this.#batches.at(-1)!.weight++;
      else this.#batches.push({ value, weight: 1 });
    }
  }

  /** Says of what a latency is. */
  #remark(): string | null {
    const together = this.#batches.map(({ weight }) => ({ value: weight, weight }));
    const [most] = weightedQuantiles(together, [0.5]);
    return most! > 1 ? `ids come back ${most} at a time and share the wait` : null;
  }

  #row(bytes: Bytes): Row {
    const { subject, settings, host, loaded, nmse, loadNs } = this.#parts;
    const { arch, parameters, prompt, layers } = loaded;
    const test: Test = {
      n_prompt: 0,
      n_gen: this.#generated,
      n_depth: prompt,
      n_parallel: settings.streams,
      n_ubatch: CHUNK,
    };
    const { engine, roof } = host;
    const gpu = engine.machine.kind === "gpu";
    const closed = layers && closedOf(parameters, layers, subject, test);
    const held = { live: bytes, peak: this.#peak, asked: gpu ? this.#asked : total(bytes), resident: null };
    const row: Row = {
      ...identity(subject, test, settings, engine.adapter),
      arch,
      model_n_params: parameters,
      nmse_vs_reference: nmse,
      load_ns: loadNs,
      fill: "text",
      ...theoryFields(this.#theory, subject, test),
      ...closed,
      ...memoryFields(held, null, this.#theory, closed && closedHeld(closed, layers), test),
      ...(gpu ? {} : { backend: "cpu", mem_asked: null }),
    };
    if (this.#generated === 0) return { ...row, dispatches_per_token: null };
    const speed = speedFields(
      { samplesNs: [this.#ns], latenciesNs: [] },
      this.#theory,
      roof ?? NO_ROOF,
      test,
    );
    const [p50, p95] = this.#batches.length > 0 ? weightedQuantiles(this.#batches, [0.5, 0.95]) : [];
    return {
      ...row,
      ...speed,
      latency_p50_ns: p50 ?? null,
      latency_p95_ns: p95 ?? null,
      remark: this.#remark(),
      ...(roof ? {} : { predicted_ns: null, roof_gbs: null, roof_fraction: null }),
    };
  }
}

/** Where nothing was measured. */
const NO_ROOF: Roof = { readGbs: 1, gflops: 1, dispatchNs: 0 };

const samplerOf = ({ temperature, seed }: RaceSettings) => ({ temperature, seed });

/** Bytes that are asked of the device now: a racer's are those that come and go while it is its turn. */
function askedOf({ engine, counter }: RacerHost): number {
  return counter ? counter.bytes((engine.machine as GpuMachine).device) : 0;
}

/** The prompt in the model's tokens, and how its own become text; where it has no tokenizer, seeded ids and none. */
async function promptFor(
  model: Model,
  { prompt, seed }: RaceSettings,
): Promise<{ ids: number[]; text: TextStream | null }> {
  try {
    const tokenizer = await model.tokenizer();
    const ids = tokenizer.encode(prompt);
    if (ids.length === 0) throw new UsageError("the prompt holds no tokens, wanted at least one");
    return { ids, text: tokenizer.stream() };
  } catch (error) {
    if (!(error instanceof TokenizerError)) throw error;
    return { ids: randomIds(RANDOM_PROMPT, model.vocabulary, seed), text: null };
  }
}

/** The error of the logits against the CPU machine's. Throws where nothing of such a model may be timed. */
async function gate(model: Model, load: Load, ids: readonly number[], streams: number): Promise<number> {
  const affordable = Math.floor(GATE_WORK / model.parameters);
  const some = ids.slice(0, Math.max(FEWEST_GATE_TOKENS, Math.min(GATE_TOKENS, affordable)));
  const nmse = await new Reference(load, some).nmse(model, { streams, chunk: CHUNK });
  const refused = refusal(nmse);
  if (refused) throw new Error(refused);
  return nmse;
}
