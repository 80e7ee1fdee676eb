// The bench itself, wherever WebGPU is: in a page that the command line drives, in a person's own browser, in Node on
// Dawn. It knows no command line and no file system; what it finds it gives away as finished rows.

import type { GpuMachine } from "../engine/gpu.ts";
import type { Architecture, ReadWeight } from "../engine/model.ts";
import { race, type Tune } from "../engine/tune.ts";
import type { Verdict as RaceVerdict, VerdictStore } from "../engine/verdicts.ts";
import { openCheckpoint } from "../models/checkpoint.ts";
import type { Config } from "../models/config.ts";
import type { Engine, Model } from "../models/engine.ts";
import { type LoadOptions, openConfig } from "../models/load.ts";
import { randomWeights } from "../models/random.ts";
import type { Source } from "../models/source.ts";
import { usualTune } from "./adapter.ts";
import { layersOf } from "./architecture.ts";
import { BenchDevice } from "./benchDevice.ts";
import type { Layers } from "./closed.ts";
import { curvesOf, runCurve } from "./curve.ts";
import { Depths } from "./depth.ts";
import { failure, type Phase, stackOf } from "./failure.ts";
import { closedHeld, closedOf, identity, memoryFields, theoryFields, timeFields } from "./fields.ts";
import { type Fill, fillFor } from "./fill.ts";
import { findFit } from "./fit.ts";
import { budgetOf, type Fit, type FitSettings, failedFit, searches } from "./fits.ts";
import { GATE_TOKENS, Reference, refusal } from "./gate.ts";
import { benchKernels, type KernelEvent, type KernelsWanted } from "./kernels/run.ts";
import type { Ran } from "./kernels/shapes.ts";
import { configOf, loaderOf } from "./loading.ts";
import { Measurement } from "./measure.ts";
import { ADAPTER, type Facts, factsOf, largestHeap } from "./meters/adapterFacts.ts";
import { type Counter, startCounting } from "./meters/asked.ts";
import type { Resident } from "./meters/resident.ts";
import { curveOf, filled, held, theoryOf, usedBy } from "./meters/theory.ts";
import { type Answers, answersOf, type Change, changeOf, UNCHANGED } from "./narrow.ts";
import { Contender, contextFor } from "./peers/contender.ts";
import { expectedOf } from "./peers/expected.ts";
import type { RivalName } from "./peers/index.ts";
import { peerModelOf } from "./peers/model.ts";
import { measureQuality } from "./quality.ts";
import {
  type Alternation,
  type Curve,
  type DriftPoint,
  emptyQuality,
  type PeerFacts,
  type Quality,
  type Row,
  type Tuned,
  type Verdict,
} from "./row.ts";
import type { Planned, Subject } from "./subject.ts";
import { type Test, testName } from "./tests.ts";

/** What the bench needs of the place where it runs. */
export interface Host {
  gpu: GPU;
  /** The files of a subject's folder. */
  source(folder: string): Source;
  /** The shipped text. */
  text(): Promise<string>;
  /** What the process that holds the GPU's memory holds; null where nobody can say. */
  resident(): Promise<Resident | null>;
  /** Where the verdicts of races outlive the run; left out: nowhere. */
  verdicts?: VerdictStore;
}

export interface Settings {
  repetitions: number;
  delaySeconds: number;
  warmup: boolean;
  /** How the variants of the kernels that the tests run are chosen; null: cached, or off where the adapter computes on the CPU. */
  tune: Tune | null;
  /** Seed of random weights and random ids. */
  seed: number;
  /** Bytes that may be held; null: as many as there are. */
  maxBytes: number | null;
  /** Search how far each subject goes, before its tests; absent or null: do not. */
  fit?: FitSettings | null;
  /** What depth is made of in a model with a cache: tokens of the text that are fed, or random keys and values. */
  fill?: "text" | "random";
  /** Are the tests stretches of one stream, end to end (tests.ts, curveTests)? */
  curve?: boolean;
  /** Runtimes that are compared, beside longtape. */
  peers?: readonly RivalName[];
  /** Tokens of the long stream whose bits a byte are measured, before any test; left out: nothing of the kind. */
  quality?: number | null;
  build_commit: string | null;
  version: string | null;
}

export type BenchEvent =
  | { type: "row"; row: Row }
  /** What is done now, in a few words. */
  | { type: "step"; test: string | null; what: string }
  | { type: "verdict"; verdict: Verdict }
  | { type: "tuned"; tuned: Tuned }
  | { type: "peer"; facts: PeerFacts }
  | { type: "curve"; curve: Curve }
  | { type: "fit"; fit: Fit }
  | { type: "quality"; quality: Quality }
  | { type: "alternation"; alternation: Alternation }
  | { type: "drift"; drift: DriftPoint }
  | KernelEvent
  /** A stack trace, for those who ask for it. */
  | { type: "trace"; stack: string };
export type Emit = (event: BenchEvent) => void | Promise<void>;

/** A subject that is loaded. */
export interface Loaded {
  engine: Engine;
  machine: GpuMachine;
  subject: Subject;
  model: Model;
  layers: Layers[] | null;
  fill: Fill;
  depths: Depths;
  reference: Reference;
  /** NMSE by streams and chunk. */
  gates: Map<string, number>;
  /** What was resident before it was loaded. */
  resident: Resident | null;
  /** How it reads its weights again, by the checkpoint's names. */
  read: ReadWeight;
  /** From the opening of its checkpoint, races aside. */
  loadNs: number;
  /** null until they are measured. */
  bitsPerByte: number | null;
  /** Against the same model as f32. */
  change: Change;
  /** Bytes that its device holds after such a model and a session of it were given back; null: not asked for. */
  left: number | null;
}

/** Curves go on past the deepest test, and never end before this many tokens. */
const CURVE_FACTOR = 4;
const CURVE_TOKENS = 8192;

/** What searches time: a step of one stream. */
const FIT_STEP = { n_prompt: 0, n_gen: 1, n_parallel: 1, n_ubatch: 1 };

export class Bench {
  readonly #host: Host;
  readonly #settings: Settings;
  readonly #counter: Counter;
  readonly #device: BenchDevice;

  /** Throws AdapterError where there is no adapter. */
  static async open(host: Host, settings: Settings): Promise<Bench> {
    const bench = new Bench(host, settings, await startCounting());
    await bench.#device.open();
    return bench;
  }

  private constructor(host: Host, settings: Settings, counter: Counter) {
    this.#host = host;
    this.#settings = settings;
    this.#counter = counter;
    this.#device = new BenchDevice(host, settings, counter);
  }

  /** Runs the searches and tests of one subject; each gives a fit or a row, whatever happens. */
  async run(subject: Subject, tests: readonly Test[], emit: Emit): Promise<void> {
    let loaded: Loaded;
    const wanted = this.#settings.fit ? [...searches] : [];
    try {
      loaded = await this.#load(subject, tests, emit);
      while (wanted.length > 0) {
        await emit({ type: "fit", fit: await this.#fit(loaded, wanted.shift()!, emit) });
        // a search may cost the device
        if (loaded.machine.lost) loaded = await this.#load(subject, tests, emit);
      }
    } catch (error) {
      await emit({ type: "trace", stack: stackOf(error) });
      const failed = failure(error, "preflight");
      for (const searched of wanted) await emit({ type: "fit", fit: failedFit(subject, searched, failed) });
      if (this.#settings.quality)
        await emit({ type: "quality", quality: { ...emptyQuality(subject), ...failed } });
      for (const test of tests) await emit({ type: "row", row: { ...this.#row(subject, test), ...failed } });
      return;
    }
    const { model } = loaded;
    try {
      const { curve, quality } = this.#settings;
      if (quality) {
        const found = await measureQuality(loaded, await this.#host.text(), quality, emit);
        loaded.bitsPerByte = found.bits_per_byte;
        await emit({ type: "quality", quality: found });
      }
      if (curve) for (const stretches of curvesOf(tests)) await this.#curve(loaded, stretches, emit);
      else {
        const contenders = await this.#contenders(loaded, tests, emit);
        for (const test of tests) {
          for (const contender of contenders) await contender.begin(test, this.#settings.warmup);
          await emit({ type: "row", row: await this.#test(loaded, test, emit, contenders) });
          for (const contender of contenders)
            await emit({ type: "row", row: contender.row(this.#rowOf(loaded, test)) });
        }
        for (const contender of contenders) await contender.dispose();
      }
      const { architecture, config, machine } = model.loaded;
      const deepest = Math.max(CURVE_TOKENS, CURVE_FACTOR * Math.max(...tests.map(held)));
      const points = await curveOf(machine.variants, architecture, config, deepest);
      await emit({ type: "curve", curve: { arch: model.name, model: subject.model, points } });
    } finally {
      model.destroy();
    }
  }

  /** Times kernels by themselves, at the sizes that these tests run them at. Throws ConfigError, CheckpointError. */
  async kernels(plan: readonly Planned[], wanted: KernelsWanted, emit: Emit): Promise<void> {
    const engine = await this.#device.open();
    const models: Ran[] = [];
    for (const { subject, tests } of plan)
      models.push({ model: subject.model, ...openConfig(await this.#config(subject), subject.types), tests });
    const machine = engine.machine as GpuMachine;
    await this.#counter.paused(() => benchKernels(machine, this.#device.roof, models, wanted, emit));
  }

  facts(): Promise<Facts> {
    return factsOf(this.#host.gpu);
  }

  close(): void {
    this.#device.close();
  }

  async #load(subject: Subject, tests: readonly Test[], emit: Emit): Promise<Loaded> {
    const step = (what: string) => emit({ type: "step", test: null, what });
    await step("loading");
    const source = this.#host.source(subject.folder);
    const { seed } = this.#settings;
    const rawConfig = await this.#config(subject);
    const { types } = subject;
    const { architecture, config } = openConfig(rawConfig, types);
    await this.#tune(subject, architecture, config, tests, emit);
    const [first] = tests;
    const sizes = first && {
      streams: first.n_parallel,
      chunk: first.n_ubatch,
      prompt: Math.max(1, first.n_prompt),
    };
    const loader = loaderOf(subject, source, rawConfig, seed);
    const stored = (options: LoadOptions = {}) => loader({ tune: "off", ...options });
    const load = stored({ ...types, ...sizes });
    let checkpoint: ReturnType<typeof openCheckpoint> | undefined;
    const read: ReadWeight = async (name, shape) => {
      checkpoint ??= openCheckpoint(source);
      return (await checkpoint).read(name, shape);
    };
    const text = await this.#host.text();
    const answers = async (of: Model) => this.#counter.paused(() => answersOf(of, text, seed));
    let wide: Answers | null = null;
    if (types) {
      await step("as f32, to compare with");
      const model = await stored()(await this.#device.use());
      try {
        wide = await answers(model);
      } finally {
        model.destroy();
      }
    }
    const left = this.#settings.peers?.length ? await this.#device.left(load) : null;
    const engine = await this.#device.renew();
    const machine = engine.machine as GpuMachine;
    const resident = await this.#host.resident();
    const started = performance.now();
    const model = await load(engine);
    const loadNs = (performance.now() - started) * 1e6;
    try {
      const change = wide ? changeOf(wide, await answers(model)) : UNCHANGED;
      const deepest = Math.max(GATE_TOKENS, ...tests.map(held));
      const fill = await fillFor(model, text, deepest, seed);
      const reference = new Reference(load, fill.ids(GATE_TOKENS));
      const layers = layersOf(rawConfig);
      const depths = new Depths(fill, this.#settings.fill === "random" ? seed : null);
      return {
        engine,
        machine,
        subject,
        model,
        layers,
        fill,
        depths,
        reference,
        gates: new Map(),
        resident,
        read: subject.seededConfig ? randomWeights(seed) : read,
        loadNs,
        bitsPerByte: null,
        change,
        left,
      };
    } catch (error) {
      model.destroy();
      throw error;
    }
  }

  /** Chooses the variants of the kernels that the tests run, and says how. */
  async #tune(
    subject: Subject,
    architecture: Architecture,
    config: unknown,
    tests: readonly Test[],
    emit: Emit,
  ): Promise<void> {
    const engine = await this.#device.open();
    const machine = engine.machine as GpuMachine;
    const { fit, tune: wanted } = this.#settings;
    const tune = subject.race ? "full" : (wanted ?? usualTune(engine.adapter!));
    const started = performance.now();
    const tuned = { kept: 0, raced: 0 };
    if (tune !== "off") {
      await this.#device.use();
      await emit({ type: "step", test: null, what: "racing variants" });
      const steps = fit ? [{ ...FIT_STEP, n_depth: fit.context }] : [];
      const contests = await usedBy(machine.variants, architecture, config, [
        ...steps,
        ...this.#raced(tests),
      ]);
      const onVerdict = (verdict: RaceVerdict, kept: boolean) => {
        tuned[kept ? "kept" : "raced"]++;
        void emit({ type: "verdict", verdict: told(verdict, kept) });
      };
      await this.#counter.paused(() => race(machine, contests, tune, onVerdict));
    }
    const race_ns = (performance.now() - started) * 1e6;
    await emit({ type: "tuned", tuned: { model: subject.model, tune, ...tuned, race_ns } });
  }

  /** The configuration that a subject is run with. */
  #config(subject: Subject): Promise<Config> {
    return configOf(subject, this.#host.source(subject.folder));
  }

  async #fit(loaded: Loaded, searched: Fit["searched"], emit: Emit): Promise<Fit> {
    const { model, machine, subject } = loaded;
    const { maxBytes, seed } = this.#settings;
    const { context, mostSeconds, freeBytes } = this.#settings.fit!;
    const step = async (what: string) => emit({ type: "step", test: null, what });
    try {
      const nmse = await this.#gate(loaded, FIT_STEP, step);
      const reason = refusal(nmse, subject.types?.cacheType);
      if (reason) throw new Error(reason);
      const adapter = await this.#host.gpu.requestAdapter(ADAPTER);
      const { software } = this.#device.adapter!;
      const budget = budgetOf(maxBytes, { heapBytes: adapter && largestHeap(adapter), software, freeBytes });
      const onProbe = (what: string) =>
        step(`the ${searched === "context" ? "longest context" : "most streams"}: ${what}`);
      const found = await this.#counter.paused(() =>
        findFit({ model, machine, budget, seed, searched, context, mostSeconds, onProbe }),
      );
      return { ...found, model: subject.model };
    } catch (error) {
      await emit({ type: "trace", stack: stackOf(error) });
      return failedFit({ arch: model.name, model: subject.model }, searched, failure(error, "run"));
    }
  }

  /** Those tests that run every kernel at every size: of a long stream its ends, since the ledger starts each anew. */
  #raced(tests: readonly Test[]): readonly Test[] {
    if (!this.#settings.curve) return tests;
    return curvesOf(tests).flatMap((stretches) => [stretches[0]!, stretches.at(-1)!]);
  }

  /** The other runtimes: measured for memory, then loaded anew and ready to be timed. */
  async #contenders(loaded: Loaded, tests: readonly Test[], emit: Emit): Promise<Contender[]> {
    const { peers = [] } = this.#settings;
    if (peers.length === 0) return [];
    const { model, fill, subject, read } = loaded;
    const onStep = async (what: string) => emit({ type: "step", test: null, what });
    const onTrace = async (stack: string) => emit({ type: "trace", stack });
    const golden = subject.folder && !subject.seededConfig ? this.#host.source(subject.folder) : null;
    const expected = await expectedOf(model, golden, fill.ids(GATE_TOKENS));
    const opened = openConfig(await this.#config(subject), subject.types);
    const { parameters } = model;
    const peerModel = await peerModelOf(opened, read, { parameters, context: contextFor(tests, expected) });
    const host = { model: peerModel, expected, fill, counter: this.#counter, onStep, onTrace };
    const contenders = peers.map((name) => new Contender(name, host));
    for (const contender of contenders) {
      await contender.measure(tests);
      const { facts } = contender;
      if (facts) await emit({ type: "peer", facts });
    }
    await this.#counter.paused(async () => {
      for (const contender of contenders) await contender.load();
    });
    return contenders;
  }

  async #test(loaded: Loaded, test: Test, emit: Emit, contenders: readonly Contender[] = []): Promise<Row> {
    const { machine, model, subject, layers, fill, depths } = loaded;
    const step = async (what: string) => emit({ type: "step", test: testName(test), what });
    const { delaySeconds, repetitions, warmup } = this.#settings;
    let row = this.#rowOf(loaded, test);
    // by turns with ours; what ours does not reach is made up for at the end
    let rounds = 0;
    const onRound = async () => {
      rounds++;
      for (const contender of contenders) await contender.round();
    };
    // until a session of the test was opened, "no" is the answer of the preflight
    let phase: Phase = "preflight";
    let measurement: Measurement | null = null;
    try {
      if (delaySeconds > 0) {
        await step(`waiting ${delaySeconds} s`);
        await new Promise((resolve) => setTimeout(resolve, 1000 * delaySeconds));
      }
      row.test_time = new Date().toISOString();
      const { architecture, config } = model.loaded;
      const theory = await theoryOf(machine, architecture, config, test, this.#device.roof);
      const closed = layers && closedOf(model.parameters, layers, subject, test);
      row = { ...row, ...theoryFields(theory, subject, test), ...closed };
      row.fill = depths.kind(filled(test), theory.bytes.kv > 0);

      row.nmse_vs_reference = await this.#gate(loaded, test, step);
      const reason = refusal(row.nmse_vs_reference, subject.types?.cacheType);
      if (reason) return { ...row, status: "failed", reason };
      await step("memory");
      const open = async () => {
        const session = await model.session({ streams: test.n_parallel, chunk: test.n_ubatch });
        phase = "run";
        return session;
      };
      measurement = await Measurement.open(open, { machine, fill, depths, test }, this.#counter);
      const held = await measurement.memory(this.#counter, () => this.#host.resident());
      const literature = closed && closedHeld(closed, layers);
      row = { ...row, ...memoryFields(held, loaded.resident, theory, literature, test) };
      const fault = await measurement.fault();
      if (fault) return { ...row, status: "failed", reason: fault };
      const time = await this.#counter.paused(() =>
        measurement!.time({ repetitions, warmup, onRun: step, onRound }),
      );
      return { ...row, ...timeFields(time, theory, this.#device.roof, test, loaded.loadNs) };
    } catch (error) {
      await emit({ type: "trace", stack: stackOf(error) });
      return { ...row, ...failure(error, phase) };
    } finally {
      measurement?.destroy();
      if (contenders.length > 0)
        await this.#counter.paused(async () => {
          while (rounds < repetitions) await onRound();
        });
    }
  }

  /** The stretches of one stream. */
  #curve(loaded: Loaded, stretches: readonly Test[], emit: Emit): Promise<void> {
    const host = {
      counter: this.#counter,
      roof: this.#device.roof,
      warmup: this.#settings.warmup,
      resident: () => this.#host.resident(),
      row: (test: Test) => this.#rowOf(loaded, test),
      nmse: (test: Test) =>
        this.#gate(loaded, test, async (what) => emit({ type: "step", test: testName(test), what })),
    };
    return runCurve(loaded, stretches, host, emit);
  }

  async #gate(
    { gates, reference, model }: Loaded,
    { n_parallel, n_ubatch }: Pick<Test, "n_parallel" | "n_ubatch">,
    step: (what: string) => Promise<void>,
  ): Promise<number> {
    const key = `${n_parallel} ${n_ubatch}`;
    const known = gates.get(key);
    if (known !== undefined) return known;
    await step("against the CPU machine");
    const found = await reference.nmse(model, { streams: n_parallel, chunk: n_ubatch });
    gates.set(key, found);
    return found;
  }

  #rowOf({ subject, model, fill, bitsPerByte, change, loadNs, left }: Loaded, test: Test): Row {
    return {
      ...this.#row(subject, test),
      arch: model.name,
      model_n_params: model.parameters,
      fill: fill.kind,
      bits_per_byte: bitsPerByte,
      ...change,
      load_ns: loadNs,
      mem_left: left,
    };
  }

  #row(subject: Subject, test: Test): Row {
    return identity(subject, test, this.#settings, this.#device.adapter);
  }
}

/** A verdict of the race as results have it. */
function told({ key, winner, ms }: RaceVerdict, kept: boolean): Verdict {
  const bracket = key.lastIndexOf("(");
  return {
    kernel: key.slice(0, bracket),
    sizes: key.slice(bracket + 1, -1).replaceAll(",", " "),
    variant: winner,
    times_ns: Object.fromEntries(Object.entries(ms).map(([name, value]) => [name, value * 1e6])),
    kept,
  };
}
