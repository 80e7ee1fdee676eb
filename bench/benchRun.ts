// A run of the command line: every subject through every test, rows out as they finish, files at the end.

import { readdirSync } from "node:fs";
import { mkdir, rmdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { checkpoints, modelFolder, project } from "./commandLine.ts";
import { crossoversOf } from "./crossover.ts";
import { identity } from "./fields.ts";
import { type Fit, failedFit, fitLine, searches } from "./fits.ts";
import { type BenchOptions, testsOf, varyingFields } from "./flags.ts";
import type { KernelTime, Roofs, Target } from "./kernels/kernelTime.ts";
import { expectKernels, presetSubjects } from "./kernels/models.ts";
import { kernelLine } from "./kernels/table.ts";
import { createPrinter } from "./printers/index.ts";
import { writeResults } from "./results.ts";
import {
  type Alternation,
  addPeer,
  type DriftPoint,
  type Environment,
  emptyQuality,
  type Field,
  type Quality,
  type Results,
  type Row,
  rateText,
  type Verdict,
} from "./row.ts";
import type { Runtime, RuntimeEvent } from "./runtime.ts";
import { type Planned, type Subject, storedAs, subjectsOf } from "./subject.ts";
import { createProgress, noProgress } from "./terminal.ts";
import { deepStep, kernelTests, type Test } from "./tests.ts";
import { formatNs } from "./units.ts";

export interface Outcome {
  /** Did a row fail? */
  failed: boolean;
  /** Path of the report; null where there was no row to report. */
  report: string | null;
}

export interface Job {
  plan: readonly Planned[];
  /** Keeps what was found, once all has been run or a person has stopped it. */
  write: typeof writeResults;
}

export class BenchRun {
  readonly subjects: readonly Subject[];
  readonly #options: BenchOptions;
  readonly #environment: Environment;
  readonly #job: Job;
  readonly #extra: readonly Field[];
  readonly #folder: string;
  /** Was the folder made for this run? */
  #made = false;
  /** Is progress shown? */
  readonly #wanted: boolean;
  #progress;
  readonly #printers: { printer: ReturnType<typeof createPrinter>; to: NodeJS.WriteStream }[];
  readonly #rows: Row[] = [];
  readonly #fits: Fit[] = [];
  readonly #quality: Quality[] = [];
  readonly #alternations: Alternation[] = [];
  readonly #drifts: DriftPoint[] = [];
  readonly #kernels: KernelTime[] = [];
  #roofs: Roofs | undefined;
  #targets: Target[] = [];
  /** Name of the model in hand, and how many of its stages and of its rows are finished. */
  #model = "";
  #finished = { stages: 0, rows: 0 };
  #ended = false;
  /** Did the place give up where no row could say so? */
  #broken = false;

  /** Without a job, what the options ask for is run and kept. */
  constructor(
    options: BenchOptions,
    environment: Environment,
    job: Job = { plan: planOf(options), write: writeResults },
  ) {
    this.#job = job;
    this.subjects = job.plan.map(({ subject }) => subject);
    this.#options = options;
    this.#environment = environment;
    this.#extra = varyingFields(options);
    const stamp = environment.started.replace(/\.\d+/, "").replaceAll(":", "-");
    this.#folder = options.out ?? join(project, "bench/results", stamp);
    this.#wanted = options.progress ?? process.stderr.isTTY;
    const before = options.quality ? ["quality"] : [];
    const rows = (tests: readonly Test[]) => tests.flatMap((test) => options.peers.map(() => test));
    const stages = job.plan.map(({ tests }) => [...before, ...rows(tests)]);
    this.#progress = this.#wanted ? createProgress(stages) : noProgress;
    this.#printers = [
      { printer: createPrinter(options.output, this.#extra), to: process.stdout },
      { printer: createPrinter(options.outputErr, this.#extra), to: process.stderr },
    ];
  }

  /** Makes the folder of the results: before anything is run for nothing. */
  async makeFolder(): Promise<void> {
    const made = await mkdir(this.#folder, { recursive: true }).catch((error: Error) => {
      throw new Error(`--out: ${this.#folder} could not be made (${error.message})`);
    });
    this.#made = made !== undefined;
  }

  /** Takes the folder away again where nothing came to lie in it. */
  async leaveNothingEmpty(): Promise<void> {
    if (this.#made && this.#empty) await rmdir(this.#folder).catch(() => {});
  }

  /** Runs everything; after an abort what is finished is printed and kept. Throws what opening throws. */
  async all(runtime: Runtime, signal: AbortSignal): Promise<Outcome> {
    const environment = this.#environment;
    const { versions, ...about } = runtime.about;
    Object.assign(environment, about, { versions: { ...environment.versions, ...versions } });
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    try {
      await Promise.race([this.#run(runtime, signal), aborted]);
    } finally {
      this.#ended = true;
      this.#progress.clear();
    }
    if (this.#empty) return { failed: this.#broken, report: null };
    const crossovers = crossoversOf(
      this.#rows.filter(({ peer }) => peer === "longtape"),
      environment.curves ?? [],
    );
    const found = {
      fits: this.#fits,
      crossovers,
      quality: this.#quality,
      alternations: this.#alternations,
      drifts: this.#drifts,
      kernels: this.#kernels,
      targets: this.#targets,
    };
    const results: Results = {
      schema: "longtape/1",
      environment,
      rows: this.#rows,
      ...(this.#roofs && { roofs: this.#roofs }),
      ...Object.fromEntries(Object.entries(found).filter(([, list]) => list.length > 0)),
    };
    this.#print((printer) => printer.footer(results));
    const { report } = await this.#job.write(this.#folder, results, this.#extra);
    console.error(`results: ${relative(process.cwd(), this.#folder) || this.#folder}`);
    const failed =
      this.#broken ||
      [...this.#rows, ...this.#quality, ...this.#alternations, ...this.#kernels].some(
        ({ status }) => status === "failed",
      ) ||
      this.#fits.some(({ ended_by }) => ended_by === "failed");
    return { failed, report };
  }

  get #empty(): boolean {
    return this.#rows.length + this.#fits.length + this.#quality.length + this.#kernels.length === 0;
  }

  /** What a runtime tells. */
  take(event: RuntimeEvent): void {
    if (this.#ended) return;
    const { verbose } = this.#options;
    switch (event.type) {
      case "row":
        this.#addRow(event.row);
        break;
      case "step":
        this.#progress.step(this.#model, event.test, event.what);
        break;
      case "verdict":
        this.#environment.verdicts.push(event.verdict);
        if (verbose) this.#say(verdictLine(event.verdict));
        break;
      case "tuned":
        this.#environment.tuned.push(event.tuned);
        break;
      case "peer":
        addPeer(this.#environment, event.facts);
        break;
      case "curve":
        this.#environment.curves!.push(event.curve);
        break;
      case "fit":
        this.#fits.push(event.fit);
        this.#say(fitLine(event.fit));
        break;
      case "quality":
        this.#quality.push(event.quality);
        this.#progress.done(this.#model, "quality", this.#finished.stages++);
        break;
      case "alternation":
        this.#alternations.push(event.alternation);
        break;
      case "drift":
        this.#drifts.push(event.drift);
        break;
      case "roofs":
        this.#roofs = event.roofs;
        break;
      case "shapes":
        if (this.#wanted) this.#progress = createProgress([new Array<null>(event.count).fill(null)]);
        break;
      case "kernel":
        this.#kernels.push(...event.times);
        this.#progress.done(this.#model, kernelLine(event.times), this.#finished.stages++);
        break;
      case "targets":
        this.#targets = event.targets;
        break;
      case "hidden":
        this.#environment.tab_hidden = true;
        break;
      case "trace":
        if (verbose) this.#say(event.stack);
        break;
      case "log":
        if (verbose) this.#say(`browser: ${event.text}`);
        break;
    }
  }

  async #run(runtime: Runtime, signal: AbortSignal): Promise<void> {
    Object.assign(this.#environment, await runtime.open());
    if (signal.aborted) return;
    this.#print((printer) => printer.header(this.#environment));
    const { kernels, quick } = this.#options;
    if (kernels) {
      this.#model = "kernels";
      // what was timed before is kept
      return runtime.kernels(this.#job.plan, { names: kernels, quick }).catch((error: Error) => {
        if (this.#ended) return;
        this.#broken = true;
        this.take({ type: "trace", stack: error.stack ?? error.message });
        this.#say(`kernels: ${error.message.split("\n", 1)[0]}`);
      });
    }
    for (const { subject, tests } of this.#job.plan) {
      this.#model = subject.model;
      this.#finished = { stages: 0, rows: 0 };
      try {
        await runtime.run(subject, tests);
      } catch (error) {
        if (this.#ended) return;
        const { message, stack } = error as Error;
        this.take({ type: "trace", stack: stack ?? message });
        const reason = message.split("\n", 1)[0]!;
        for (const searched of this.#options.fit ? searches : []) {
          if (!this.#fits.some((fit) => fit.model === subject.model && fit.searched === searched))
            this.take({ type: "fit", fit: failedFit(subject, searched, { status: "failed", reason }) });
        }
        if (this.#options.quality && this.#finished.stages === 0)
          this.take({ type: "quality", quality: { ...emptyQuality(subject), status: "failed", reason } });
        for (const test of tests.slice(Math.floor(this.#finished.rows / this.#options.peers.length))) {
          const { build_commit, versions } = this.#environment;
          const build = { build_commit, version: versions.longtape ?? null };
          this.#addRow({ ...identity(subject, test, build, runtime.adapter), status: "failed", reason });
        }
      }
      if (signal.aborted) return;
    }
    await this.#fresh(runtime, signal);
  }

  /** Where runtimes are compared: what a browser holds that runs one of them alone. */
  async #fresh(runtime: Runtime, signal: AbortSignal): Promise<void> {
    const { peers } = this.#options;
    const [subject] = this.subjects;
    if (peers.length < 2 || !subject) return;
    for (const peer of peers) {
      this.#progress.step(subject.model, null, `${peer} in a browser of its own`);
      const found = await runtime.fresh(peer, subject);
      if (this.#ended || signal.aborted) return;
      if (found) this.#environment.residents = [...(this.#environment.residents ?? []), found];
    }
  }

  #addRow(row: Row): void {
    this.#rows.push(row);
    this.#print((printer) => printer.row(row));
    this.#finished.rows++;
    const { peer, n_parallel, status } = row;
    const name = [this.#model, peer !== "longtape" && peer, n_parallel > 1 && `×${n_parallel}`];
    const figure = status === "ok" ? (rateText(row) ?? "–") : status;
    this.#progress.done(name.filter(Boolean).join(" "), row.test, this.#finished.stages++, figure);
  }

  #print(text: (printer: ReturnType<typeof createPrinter>) => string): void {
    this.#progress.clear();
    for (const { printer, to } of this.#printers) to.write(text(printer));
  }

  #say(line: string): void {
    this.#progress.clear();
    console.error(line);
  }
}

/** Every subject through every test. */
function planOf(options: BenchOptions): Planned[] {
  const models = options.models.map(modelFolder);
  const tests = testsOf(options);
  const { kernels, quick, archs, dtypes, cacheTypes } = options;
  const stored = (subject: Subject) => storedAs(subject, dtypes, cacheTypes);
  const subjects = subjectsOf({ ...options, models }, checkpoints, filesIn).flatMap(stored);
  if (!kernels) return subjects.map((subject) => ({ subject, tests }));
  expectKernels(kernels);
  const others = quick || models.length + archs.length > 0 ? [] : presetSubjects().flatMap(stored);
  return [
    ...subjects.map((subject) => ({ subject, tests: kernelTests })),
    // their prompts would take a software adapter hours
    ...others.map((subject) => ({ subject, tests: [deepStep] })),
  ];
}

function verdictLine({ kernel, sizes, variant, times_ns, kept }: Verdict): string {
  const times = Object.entries(times_ns).map(([name, ns]) => `${name} ${formatNs(ns)}`);
  return `${kernel} ${sizes}: ${variant} (${times.join(", ")}${kept ? "; kept from a run before" : ""})`;
}

/** Names in a folder, those that begin with a dot aside; none where it is none. */
function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => !name.startsWith("."));
  } catch {
    return [];
  }
}
