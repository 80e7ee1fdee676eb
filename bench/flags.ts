import { Command, CommanderError, Option } from "commander";
import { STORED_TYPES, type StoredType } from "../engine/tiles.ts";
import type { Tune } from "../engine/tune.ts";
import { HYBRID, namedHybrid } from "../models/hybridConfig.ts";
import { LEAST_CONTEXT } from "./fits.ts";
import { afterFlags, description, expand, fitContext, fitSeconds, oneDash, table } from "./flagTable.ts";
import {
  bytes,
  integer,
  integers,
  maxTokens,
  oneOf,
  pair,
  seconds,
  UsageError,
  words,
} from "./flagValues.ts";
import { PEERS, type PeerName } from "./peers/peer.ts";
import { type Format, formats } from "./printers/index.ts";
import type { Field } from "./row.ts";
import { benchArchs } from "./shipped.ts";
import { curveTests, expandTests, type Test, type TestLists, testName } from "./tests.ts";

/** What the bench was asked to do. Lists are in the order given. */
export interface BenchOptions extends TestLists {
  /** Hugging Face folders. With no folder and no architecture named, all shipped models run. */
  models: string[];
  archs: string[];
  /** longtape first: it is always run. */
  peers: PeerName[];
  /** How far each model goes is searched, the most streams at this context; null: not asked for. */
  fit: { context: number; mostSeconds: number } | null;
  /** Tokens between the rows of one long stream, which takes the place of the tests; null: tests. */
  curve: number | null;
  quality: boolean;
  /** Kernels that are timed by themselves, in place of the tests, by name (none: all); null: tests. */
  kernels: string[] | null;
  /** What depth is filled with where a model has a cache. */
  fill: "text" | "random";
  repetitions: number;
  delaySeconds: number;
  warmup: boolean;
  /** Element types of weights, and of keys and values. */
  dtypes: StoredType[];
  cacheTypes: StoredType[];
  output: Format;
  outputErr: Format;
  /** null: where stderr is a terminal. */
  progress: boolean | null;
  listDevices: boolean;
  runtime: "chrome" | "node";
  browser: string | null;
  software: boolean;
  quick: boolean;
  /** null: bench/results/<time>. */
  out: string | null;
  seed: number;
  /** null: not said. Then cached, but off for a quick run on a software adapter, which compiles slowly. */
  tune: Tune | null;
  maxBytes: number | null;
  verbose: boolean;
  open: boolean;
}

export type Parsed = { options: BenchOptions } | { help: string };

const full = { p: [512], n: [128], genDepths: [0, 1024, 4096], ubatches: [512], repetitions: 5 };
const quick = { p: [64], n: [16], genDepths: [0, 512], ubatches: [64], repetitions: 2 };
/** The same beside other runtimes, whose rounds are compared one by one. */
const quickPeers = { ...quick, n: [32], genDepths: [0, 1024], repetitions: 3 };
const promptDepths = [0];

/** Most rows of one long stream. */
const maxStretches = 4096;
/** Most ids of a prompt, all streams together: they are made before the clock starts. */
const maxPromptIds = 2 ** 26;

/**
 * Reads a command line (without node and script). `archs` are the architectures that have a shipped model.
 * Throws a UsageError for anything it does not understand.
 */
export function parseFlags(argv: readonly string[], archs: readonly string[] = benchArchs): Parsed {
  const command = new Command("npm run bench --");
  command.description(description).helpOption(false).usage("[flags]");
  command.configureHelp({ optionTerm: ({ flags }) => oneDash(flags) });
  command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} });
  for (const { flags, help, list, group } of table) {
    const option = new Option(flags, help).helpGroup(group);
    if (list) option.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value]);
    // Without this, commander makes every --no-x default to x = true, and "not given" is lost.
    if (flags.startsWith("--no-")) option.default(undefined);
    command.addOption(option);
  }
  try {
    command.parse(expand(argv), { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError)
      throw new UsageError(error.message.replace(/^error: /, "").replaceAll("\n", " "));
    throw error;
  }
  const given = command.opts<Given>();
  return given.help
    ? { help: `${command.helpInformation().trimEnd()}\n${afterFlags}` }
    : { options: resolve(given, archs) };
}

type Given = Partial<
  Record<
    | "model"
    | "arch"
    | "dtype"
    | "cacheTypeK"
    | "cacheTypeV"
    | "nPrompt"
    | "nGen"
    | "pg"
    | "nDepth"
    | "nParallel"
    | "ubatchSize"
    | "peer"
    | "kernel",
    string[]
  > &
    Record<"curve" | "fill" | "fitSeconds" | "repetitions" | "delay" | "seed" | "tune" | "maxBytes", string> &
    Record<"runtime" | "browser" | "output" | "outputErr" | "out", string> &
    Record<
      | "quality"
      | "kernels"
      | "quick"
      | "fit"
      | "warmup"
      | "software"
      | "listDevices"
      | "open"
      | "progress"
      | "verbose"
      | "help",
      boolean
    >
>;

function resolve(given: Given, archs: readonly string[]): BenchOptions {
  // who asks how far a model goes asks for no rows by that
  const asked = [given.quick, given.nPrompt, given.nGen, given.pg].some((flag) => flag !== undefined);
  const noRows = given.fit === true && !asked;
  const peers = peersNamed(words(given.peer));
  const small = peers.length > 1 ? quickPeers : quick;
  const base = given.quick ? small : noRows ? { ...full, p: [], n: [] } : full;
  const depths = given.nDepth && integers("-d", given.nDepth, 0);
  // what was asked for is run: by itself, quality is all of it
  const tested =
    !given.kernels &&
    (!given.quality || [given.nPrompt, given.nGen, given.pg, given.nDepth, given.quick].some(Boolean));
  const options: BenchOptions = {
    models: words(given.model),
    archs: words(given.arch).map((name) => archNamed(name, archs)),
    peers,
    prompts: given.nPrompt ? integers("-p", given.nPrompt, 0) : tested ? base.p : [],
    gens: given.nGen ? integers("-n", given.nGen, 0) : tested ? base.n : [],
    promptGens: (given.pg ?? []).map(pair),
    promptDepths: depths ?? (given.quick && peers.length > 1 ? base.genDepths : promptDepths),
    genDepths: depths ?? base.genDepths,
    streams: given.nParallel ? integers("-npl", given.nParallel, 1, 4096) : [1],
    ubatches: given.ubatchSize ? integers("-ub", given.ubatchSize, 1, 65_536) : base.ubatches,
    fit: given.fit
      ? {
          context: Math.max(0, ...(depths ?? [])) || fitContext,
          mostSeconds: given.fitSeconds ? seconds("--fit-seconds", given.fitSeconds) : fitSeconds,
        }
      : null,
    curve: given.curve ? integer("--curve", given.curve, 1, maxTokens) : null,
    quality: given.quality ?? false,
    kernels: given.kernels ? words(given.kernel) : null,
    fill: oneOf("--fill", given.fill ?? "text", ["text", "random"]),
    repetitions: given.repetitions ? integer("-r", given.repetitions, 1, 100_000) : base.repetitions,
    delaySeconds: given.delay ? seconds("--delay", given.delay) : 0,
    warmup: given.warmup ?? true,
    dtypes: types("--dtype", given.dtype) ?? ["f32"],
    cacheTypes: cacheTypesOf(given),
    output: oneOf("-o", given.output ?? "md", formats),
    outputErr: oneOf("-oe", given.outputErr ?? "none", formats),
    progress: given.progress ?? null,
    listDevices: given.listDevices ?? false,
    runtime: oneOf("--runtime", given.runtime ?? "chrome", ["chrome", "node"]),
    browser: given.browser ?? null,
    software: given.software ?? false,
    quick: given.quick ?? false,
    out: given.out ?? null,
    seed: given.seed ? integer("--seed", given.seed, 0, 2 ** 32 - 1) : 1337,
    tune: given.tune === undefined ? null : oneOf("--tune", given.tune, ["off", "cached", "full"]),
    maxBytes: given.maxBytes === undefined ? null : bytes("--max-bytes", given.maxBytes),
    verbose: given.verbose ?? false,
    open: given.open ?? false,
  };
  checkModes(given, options);
  const tests = testsOf(options);
  if (tests.length === 0 && !options.fit && !options.quality && !options.kernels)
    throw new UsageError("-p, -n and -pg ask for no tokens, wanted at least one test");
  for (const { n_prompt, n_gen, n_depth, n_parallel } of tests) {
    const tokens = n_prompt + n_gen + n_depth;
    if (tokens > maxTokens) {
      throw new UsageError(
        `${testName({ n_prompt, n_gen, n_depth })}: a context of ${tokens} tokens, wanted at most ${maxTokens}`,
      );
    }
    if (n_parallel * n_prompt > maxPromptIds) {
      throw new UsageError(
        `${testName({ n_prompt, n_gen, n_depth })} in ${n_parallel} streams: prompts of ${n_parallel * n_prompt} ids, wanted at most ${maxPromptIds}`,
      );
    }
  }
  return options;
}

/** longtape, which all are held against, and those that were asked for. */
function peersNamed(found: string[]): PeerName[] {
  const named = found.flatMap((word): readonly PeerName[] => {
    const name = oneOf("--peer", word, [...PEERS, "all"]);
    return name === "all" ? PEERS : [name];
  });
  return [...new Set<PeerName>(["longtape", ...named])];
}

/** All that is to be run on each model. */
export function testsOf(options: BenchOptions): Test[] {
  const { curve, genDepths } = options;
  return curve === null ? expandTests(options) : curveTests(curve, Math.max(...genDepths), options);
}

const types = (flag: string, given: string[] | undefined): StoredType[] | undefined =>
  given && [...new Set(words(given).map((word) => oneOf(flag, word, STORED_TYPES)))];

/** A page holds keys and values of a layer side by side, in one tensor: either flag speaks for both. */
function cacheTypesOf({ cacheTypeK, cacheTypeV }: Given): StoredType[] {
  const keys = types("-ctk", cacheTypeK);
  const values = types("-ctv", cacheTypeV);
  if (keys && values && keys.join() !== values.join())
    throw new UsageError(
      `-ctv: found ${values.join()} beside -ctk ${keys.join()}, wanted the same: keys and values share their pages`,
    );
  return keys ?? values ?? ["f32"];
}

/** Refuses flags that say nothing beside one another. */
function checkModes(given: Given, options: BenchOptions): void {
  const { fit, curve, fill, genDepths, peers, runtime, dtypes, cacheTypes } = options;
  if (given.kernel && !given.kernels)
    throw new UsageError("--kernel: found no --kernels beside it, wanted one");
  const alone = (mode: string, others: Record<string, unknown>) => {
    for (const [flag, value] of Object.entries(others))
      if (value) throw new UsageError(`${mode}, found ${flag} beside it`);
  };
  if (peers.length > 1) {
    alone("--peer sets tests beside one another", {
      "--curve": given.curve,
      "--fit": given.fit,
      "--quality": given.quality,
      "--kernels": given.kernels,
    });
    if (runtime === "node")
      throw new UsageError("--peer: found --runtime node beside it, wanted chrome: the others run in a page");
    const narrow = [...dtypes, ...cacheTypes].find((type) => type !== "f32");
    if (narrow)
      throw new UsageError(`--peer: found ${narrow} beside it, wanted f32: the others compute in f32`);
  }
  const { nPrompt, nGen, pg, repetitions } = given;
  const ofTests = { "-p": nPrompt, "-n": nGen, "-pg": pg, "-r": repetitions };
  if (given.kernels) {
    alone("--kernels runs no tests", {
      ...ofTests,
      "-d": given.nDepth,
      "-npl": given.nParallel,
      "-ub": given.ubatchSize,
      "--curve": given.curve,
      "--fit": given.fit,
      "--quality": given.quality,
    });
  }
  if (given.fitSeconds && !fit) throw new UsageError("--fit-seconds: found no --fit beside it, wanted one");
  if (fit && fit.context < LEAST_CONTEXT)
    throw new UsageError(`--fit: found -d ${fit.context}, wanted at least ${LEAST_CONTEXT} tokens a stream`);
  if (curve === null) return;
  alone("--curve streams a text once to the largest -d", ofTests);
  if (fill === "random")
    throw new UsageError("--curve streams a text, found --fill random beside it, wanted --fill text");
  const depth = Math.max(...genDepths);
  if (curve > depth)
    throw new UsageError(`--curve: found ${curve} tokens a row, wanted at most the largest -d, ${depth}`);
  if (depth / curve > maxStretches)
    throw new UsageError(
      `--curve: a row every ${curve} of ${depth} tokens makes ${Math.ceil(depth / curve)} rows, wanted at most ${maxStretches}`,
    );
}

/** Fields that a table must show because the rows will differ in them, or because they were asked for. */
export function varyingFields(options: BenchOptions): Field[] {
  const { peers, streams, ubatches, fill, curve, quality, dtypes, cacheTypes } = options;
  const narrow = [...dtypes, ...cacheTypes].some((type) => type !== "f32");
  const ofStreams: Field[] = ["n_parallel", "avg_ts_stream", "bytes_per_stream", "streams_per_gib"];
  return [
    ...when(peers.length > 1, ["peer", "mem_asked", "mem_peak", "mem_own", "mem_left"]),
    ...when(streams.length > 1 || streams[0] !== 1, ofStreams),
    ...when(ubatches.length > 1, ["n_ubatch"]),
    ...when(fill !== "text", ["fill"]),
    ...when(curve !== null, ["latency_p50_ns", "latency_p95_ns"]),
    ...when(quality, ["bits_per_byte"]),
    ...when(narrow, ["nmse_vs_f32", "bits_vs_f32"]),
  ];
}

const when = (condition: boolean, fields: Field[]): Field[] => (condition ? fields : []);

/** A shipped model's architecture, or a hybrid's list of layers as it is written shortest. */
function archNamed(found: string, archs: readonly string[]): string {
  if (!found.startsWith(HYBRID)) return oneOf("-a", found, [...archs, `${HYBRID}<layers>`]);
  try {
    return namedHybrid(found).name;
  } catch (error) {
    throw new UsageError(`-a: ${(error as Error).message}`);
  }
}
