import { Command, CommanderError, Option } from "commander";
import { HYBRID, namedHybrid } from "../models/hybridConfig.ts";
import { LEAST_CONTEXT } from "./fits.ts";
import {
  bytes,
  integer,
  integers,
  maxTokens,
  oneOf,
  onlyF32,
  pair,
  seconds,
  UsageError,
  words,
} from "./flagValues.ts";
import { type Format, formats } from "./printers/index.ts";
import type { Field } from "./row.ts";
import { benchArchs } from "./shipped.ts";
import { curveTests, expandTests, type Test, type TestLists, testName } from "./tests.ts";

export { UsageError } from "./flagValues.ts";
export { expandTests, type Test, testName } from "./tests.ts";

/** What the bench was asked to do. Lists are in the order given. */
export interface BenchOptions extends TestLists {
  /** Hugging Face folders. With no folder and no architecture named, all shipped models run. */
  models: string[];
  archs: string[];
  peers: string[];
  /** How far each model goes is searched, the most streams at this context; null: not asked for. */
  fit: { context: number; mostSeconds: number } | null;
  /** Tokens between the rows of one long stream, which takes the place of the tests; null: tests. */
  curve: number | null;
  quality: boolean;
  /** What depth is filled with where a model has a cache. */
  fill: "text" | "random";
  repetitions: number;
  delaySeconds: number;
  warmup: boolean;
  typeK: "f32";
  typeV: "f32";
  dtype: "f32";
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
  /** null: not said. Then variants race, but not in a quick run on a software adapter, which compiles slowly. */
  tune: boolean | null;
  maxBytes: number | null;
  verbose: boolean;
  open: boolean;
}

export type Parsed = { options: BenchOptions } | { help: string };

const full = { p: [512], n: [128], genDepths: [0, 1024, 4096], ubatches: [512], repetitions: 5 };
const quick = { p: [64], n: [16], genDepths: [0, 512], ubatches: [64], repetitions: 2 };
const promptDepths = [0];
/** Tokens that each of the streams holds whose number --fit searches, where -d does not say. */
const fitContext = 1024;
const fitSeconds = 60;

/** Most rows of one long stream. */
const maxStretches = 4096;
/** Most ids of a prompt, all streams together: they are made before the clock starts. */
const maxPromptIds = 2 ** 26;

const description =
  "Streams tokens through sequence models on WebGPU and prints, row by row, how fast they run and how many bytes " +
  "they hold. Flags are llama-bench's where they apply. A list is 1,2,3 or a flag given again; a range is " +
  "first-last, first-last+step or first-last*factor.";

const afterFlags = `
Without -p, -n and -d: pp512 at depth 0, tg128 at depths 0, 1024 and 4096;
with --quick: pp64 at depth 0, tg16 at depths 0 and 512, two repetitions, in
chunks of 64.
A flag that is given replaces only its own default; -d holds for every test;
-p 0 or -n 0 leaves that kind out.
--fit alone gives no rows; with -p, -n, -pg or --quick they follow.

--curve K streams text through each model once, to the largest -d, and gives a
row for every K tokens: bytes, tokens a second, latencies of its chunks (-ub 1:
of single tokens). A state of fixed size must not grow on the way, no logit may
cease to be finite; in the end generation there is timed against generation at
depth 0, by turns.
--quality by itself times nothing: add -p, -n, -pg, -d, --quick or --curve for
rows beside it.

Examples:
  npm run bench -- --quick
      every shipped model, a first impression
  npm run bench -- -a llama,mamba -d "0,1024-16384*2"
      two architectures while the context doubles
  npm run bench -- -a "jamba,hybrid:window:256*3+attn"
      a shipped hybrid, and one of your own layers with seeded weights
  npm run bench -- -a gla -p 0 -n 64 -npl 1,2,4
      generation only, in 1, 2 and 4 streams
  npm run bench -- -m ./my-model -pg 512,128
      your own checkpoint; prompt and generation timed as one, too
  npm run bench -- -o jsonl -oe md > rows.jsonl
      rows for a script, a table for you
  npm run bench -- --fit --max-bytes 1GiB
      how long a context, and how many streams of 1024 tokens, each model bears
  npm run bench -- -a gru,mamba --curve 65536 -d 1048576
      a million tokens, a row every 65,536
  npm run bench -- -a llama -p 0 -n 16 -d 262144 --fill random
      generation after a long context that is not computed but made up
  npm run bench -- --quality
      bits a byte beside bytes of state
  npm run bench -- --list-devices
      the adapters that WebGPU offers

Exit code: 0; 1 if a row failed; 2 if the command line is wrong; 130 after
Ctrl-C.
`;

interface Flag {
  flags: string;
  help: string;
  /** Given more than once, the values add up. */
  list?: true;
  group: string;
}

// Commander wants two dashes before more than one letter; `expand` lets users write one, as llama-bench does.
const table: Flag[] = [
  {
    flags: "-m, --model <folder>",
    help: "Hugging Face folders to run; with a config.json alone, seeded weights of its sizes",
    list: true,
    group: "What to run:",
  },
  {
    flags: "-a, --arch <name>",
    help: `shipped models to run, of ${benchArchs.join(" ")} (default: all); or hybrid:<layers>, seeded`,
    list: true,
    group: "What to run:",
  },
  {
    flags: "-p, --n-prompt <n>",
    help: "prompt tokens to time (default: 512)",
    list: true,
    group: "What to run:",
  },
  {
    flags: "-n, --n-gen <n>",
    help: "tokens to generate and time (default: 128)",
    list: true,
    group: "What to run:",
  },
  {
    flags: "--pg <pp,tg>",
    help: "a prompt, then generation, timed as one",
    list: true,
    group: "What to run:",
  },
  {
    flags: "-d, --n-depth <n>",
    help: "tokens already in the context when the clock starts",
    list: true,
    group: "What to run:",
  },
  {
    flags: "--npl, --n-parallel <n>",
    help: "streams in lock-step (default: 1)",
    list: true,
    group: "What to run:",
  },
  {
    flags: "--ub, --ubatch-size <n>",
    help: "most tokens of a prompt in one chunk (default: 512)",
    list: true,
    group: "What to run:",
  },
  {
    flags: "--curve <k>",
    help: "instead of tests one long stream to the largest -d: a row every k tokens",
    group: "What to run:",
  },
  {
    flags: "--quality",
    help: "bits a byte of text that the shipped models have not seen: by windows, and over a stream of 16,384 bytes",
    group: "What to run:",
  },
  {
    flags: "--fill <what>",
    help: "what depth is made of: text, fed; or random: keys and values that a kernel writes, where a model has a cache (default: text)",
    group: "What to run:",
  },
  {
    flags: "--peer <name>",
    help: "runtimes to compare: longtape (default: longtape)",
    list: true,
    group: "What to run:",
  },
  {
    flags: "--fit",
    help: `how far each model goes: the longest context, and the most streams (at -d tokens, default: ${fitContext})`,
    group: "What to run:",
  },
  {
    flags: "--fit-seconds <s>",
    help: `seconds for each search that --fit makes, two a model (default: ${fitSeconds})`,
    group: "What to run:",
  },
  { flags: "--quick", help: "small sizes, two repetitions: under a minute", group: "What to run:" },
  { flags: "--dtype <type>", help: "element type of the weights: f32", group: "How:" },
  { flags: "--ctk, --cache-type-k <type>", help: "element type of cached keys: f32", group: "How:" },
  { flags: "--ctv, --cache-type-v <type>", help: "element type of cached values: f32", group: "How:" },
  { flags: "-r, --repetitions <n>", help: "times each test is repeated (default: 5)", group: "How:" },
  { flags: "--delay <seconds>", help: "pause before each test, to cool off (default: 0)", group: "How:" },
  { flags: "--no-warmup", help: "leave out the untimed run before each test", group: "How:" },
  { flags: "--seed <n>", help: "seed of everything random (default: 1337)", group: "How:" },
  {
    flags: "--tune <on|off>",
    help: "race kernel variants on this adapter, or take the defaults (default: on; off for --quick and --fit on a software adapter)",
    group: "How:",
  },
  {
    flags: "--max-bytes <size>",
    help: "refuse what needs more GPU memory, as 512M or 2GiB (default: no limit; for --fit half of what there is)",
    group: "How:",
  },
  {
    flags: "--runtime <name>",
    help: "chrome, or node for Dawn without a browser (default: chrome)",
    group: "Where:",
  },
  {
    flags: "--browser <path>",
    help: "browser to start (default: LONGTAPE_BROWSER, or one that is found)",
    group: "Where:",
  },
  { flags: "--software", help: "take the software adapter even where there is a GPU", group: "Where:" },
  { flags: "--list-devices", help: "print the adapters that WebGPU offers, and stop", group: "Where:" },
  { flags: "-o, --output <format>", help: `stdout: ${formats.join(" ")} (default: md)`, group: "Output:" },
  {
    flags: "--oe, --output-err <format>",
    help: "a second printer, on stderr (default: none)",
    group: "Output:",
  },
  {
    flags: "--out <dir>",
    help: "folder for results and report (default: bench/results/<time>)",
    group: "Output:",
  },
  { flags: "--open", help: "open report.html when done", group: "Output:" },
  {
    flags: "--progress",
    help: "progress with time left on stderr (default: where stderr is a terminal)",
    group: "Output:",
  },
  { flags: "--no-progress", help: "no progress", group: "Output:" },
  { flags: "-v, --verbose", help: "variants chosen, browser's log, stack traces", group: "Output:" },
  { flags: "-h, --help", help: "print this", group: "Output:" },
];

/** Flags of more than one letter that llama.cpp's users write with a single dash. */
const singleDash = ["--pg", "--npl", "--ub", "--ctk", "--ctv", "--oe"];

/** -npl and -d=8 as commander wants them: --npl, -d8. */
export const twoDashes = (word: string): string =>
  singleDash.includes(`-${word.split("=", 1)[0]}`) ? `-${word}` : word.replace(/^(-\w)=/, "$1");

/** Spelling to: does it take a value? */
const spellings = new Map(
  table.flatMap(({ flags }) =>
    flags.split(/[ ,]+/).flatMap((word): [string, boolean][] => {
      if (!word.startsWith("-")) return [];
      const takesValue = flags.includes("<");
      return singleDash.includes(word)
        ? [
            [word, takesValue],
            [word.slice(1), takesValue],
          ]
        : [[word, takesValue]];
    }),
  ),
);

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
    "model" | "arch" | "nPrompt" | "nGen" | "pg" | "nDepth" | "nParallel" | "ubatchSize" | "peer",
    string[]
  > &
    Record<
      | "curve"
      | "fill"
      | "fitSeconds"
      | "dtype"
      | "cacheTypeK"
      | "cacheTypeV"
      | "repetitions"
      | "delay"
      | "seed"
      | "tune"
      | "maxBytes",
      string
    > &
    Record<"runtime" | "browser" | "output" | "outputErr" | "out", string> &
    Record<
      | "quality"
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
  const base = given.quick ? quick : noRows ? { ...full, p: [], n: [] } : full;
  const depths = given.nDepth && integers("-d", given.nDepth, 0);
  // what was asked for is run: by itself, quality is all of it
  const tested =
    !given.quality || [given.nPrompt, given.nGen, given.pg, given.nDepth, given.quick].some(Boolean);
  const options: BenchOptions = {
    models: words(given.model),
    archs: words(given.arch).map((name) => archNamed(name, archs)),
    peers: given.peer ? words(given.peer).map((name) => oneOf("--peer", name, ["longtape"])) : ["longtape"],
    prompts: given.nPrompt ? integers("-p", given.nPrompt, 0) : tested ? base.p : [],
    gens: given.nGen ? integers("-n", given.nGen, 0) : tested ? base.n : [],
    promptGens: (given.pg ?? []).map(pair),
    promptDepths: depths ?? promptDepths,
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
    fill: oneOf("--fill", given.fill ?? "text", ["text", "random"]),
    repetitions: given.repetitions ? integer("-r", given.repetitions, 1, 100_000) : base.repetitions,
    delaySeconds: given.delay ? seconds("--delay", given.delay) : 0,
    warmup: given.warmup ?? true,
    typeK: onlyF32("-ctk", given.cacheTypeK),
    typeV: onlyF32("-ctv", given.cacheTypeV),
    dtype: onlyF32("--dtype", given.dtype),
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
    tune: given.tune === undefined ? null : oneOf("--tune", given.tune, ["on", "off"]) === "on",
    maxBytes: given.maxBytes === undefined ? null : bytes("--max-bytes", given.maxBytes),
    verbose: given.verbose ?? false,
    open: given.open ?? false,
  };
  checkModes(given, options);
  const tests = testsOf(options);
  if (tests.length === 0 && !options.fit && !options.quality)
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

/** All that is to be run on each model. */
export function testsOf(options: BenchOptions): Test[] {
  const { curve, genDepths } = options;
  return curve === null ? expandTests(options) : curveTests(curve, Math.max(...genDepths), options);
}

/** Refuses flags that say nothing beside one another. */
function checkModes(given: Given, { fit, curve, fill, genDepths }: BenchOptions): void {
  if (given.fitSeconds && !fit) throw new UsageError("--fit-seconds: found no --fit beside it, wanted one");
  if (fit && fit.context < LEAST_CONTEXT)
    throw new UsageError(`--fit: found -d ${fit.context}, wanted at least ${LEAST_CONTEXT} tokens a stream`);
  if (curve === null) return;
  for (const [flag, value] of [
    ["-p", given.nPrompt],
    ["-n", given.nGen],
    ["-pg", given.pg],
    ["-r", given.repetitions],
  ] as const)
    if (value) throw new UsageError(`--curve streams a text once to the largest -d, found ${flag} beside it`);
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
  const { peers, streams, ubatches, fill, curve, quality } = options;
  const ofStreams: Field[] = ["n_parallel", "avg_ts_stream", "bytes_per_stream", "streams_per_gib"];
  return [
    ...when(peers.length > 1, ["peer"]),
    ...when(streams.length > 1 || streams[0] !== 1, ofStreams),
    ...when(ubatches.length > 1, ["n_ubatch"]),
    ...when(fill !== "text", ["fill"]),
    ...when(curve !== null, ["latency_p50_ns", "latency_p95_ns"]),
    ...when(quality, ["bits_per_byte"]),
  ];
}

const when = (condition: boolean, fields: Field[]): Field[] => (condition ? fields : []);

/**
 * Rewrites a command line for commander: one dash before several letters becomes two, "_" in a flag "-"; a flag
 * that is not in the table is an error here, where the way it was written is still known.
 */
function expand(argv: readonly string[]): string[] {
  const result: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string;
    if (!word.startsWith("-")) {
      throw new UsageError(
        `argument ${JSON.stringify(word)} follows no flag, wanted -m before a folder or -a before a name`,
      );
    }
    const [name, value] = split(word);
    const takesValue = spellings.get(name);
    if (takesValue === undefined) throw new UsageError(`unknown flag ${name}, ${suggestion(name)}`);
    if (!takesValue && value !== null) {
      throw new UsageError(`${name}: found the value ${JSON.stringify(value)}, wanted none`);
    }
    const long = singleDash.includes(`-${name}`) ? `-${name}` : name;
    result.push(long);
    if (!takesValue) continue;
    // The next word is this flag's value whatever it looks like.
    const given = value ?? argv[++i];
    if (!given) throw new UsageError(`${name}: found no value, wanted one`);
    result.push(given);
  }
  return result;
}

function split(word: string): [name: string, value: string | null] {
  const equals = word.indexOf("=");
  const name = equals < 0 ? word : word.slice(0, equals);
  return [
    name.startsWith("--") ? name.replaceAll("_", "-") : name,
    equals < 0 ? null : word.slice(equals + 1),
  ];
}

/** The flag that is the fewest edits away, if they are few. */
function suggestion(name: string): string {
  const known = [...spellings.keys()].filter((flag) => !singleDash.includes(flag));
  const nearest = known.reduce((best, flag) => (edits(name, flag) < edits(name, best) ? flag : best));
  return edits(name, nearest) <= name.length / 2 ? `did you mean ${nearest}?` : "--help lists all";
}

/** Levenshtein's distance. */
export function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      next.push(Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, (row[j - 1] as number) + same));
    }
    row = next;
  }
  return row[b.length] as number;
}

/** --npl, --n-parallel <n> as its users write it: -npl, --n-parallel <n>. */
export const oneDash = (flags: string): string =>
  flags.replace(/^--\w+(?=[ ,])/, (word) => (singleDash.includes(word) ? word.slice(1) : word));

/** A shipped model's architecture, or a hybrid's list of layers as it is written shortest. */
function archNamed(found: string, archs: readonly string[]): string {
  if (!found.startsWith(HYBRID)) return oneOf("-a", found, [...archs, `${HYBRID}<layers>`]);
  try {
    return namedHybrid(found).name;
  } catch (error) {
    throw new UsageError(`-a: ${(error as Error).message}`);
  }
}
