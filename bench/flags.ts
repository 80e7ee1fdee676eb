import { Command, CommanderError, Option } from "commander";
import { HYBRID, namedHybrid } from "../models/hybridConfig.ts";
import { type Format, formats } from "./printers/index.ts";
import type { Field } from "./row.ts";
import { benchArchs } from "./shipped.ts";
import { expandTests, type TestLists, testName } from "./tests.ts";
import { parseBytes } from "./units.ts";

export { expandTests, type Test, testName } from "./tests.ts";

/** What the bench was asked to do. Lists are in the order given. */
export interface BenchOptions extends TestLists {
  /** Hugging Face folders. With no folder and no architecture named, all shipped models run. */
  models: string[];
  archs: string[];
  peers: string[];
  /** How far each model goes is searched, the most streams at this context; null: not asked for. */
  fit: { context: number } | null;
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

/** A command line that cannot be run: one sentence, exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
  readonly exitCode = 2;
}

const full = { p: [512], n: [128], genDepths: [0, 1024, 4096], ubatches: [512], repetitions: 5 };
const quick = { p: [64], n: [16], genDepths: [0, 512], ubatches: [64], repetitions: 2 };
const promptDepths = [0];
/** Tokens that each of the streams holds whose number --fit searches, where -d does not say. */
const fitContext = 1024;

/** Most tokens of a context: positions are u32 on the GPU, and the host counts prompt, depth and generation. */
const maxTokens = 2 ** 30;
const maxListLength = 1000;
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
    flags: "--peer <name>",
    help: "runtimes to compare: longtape (default: longtape)",
    list: true,
    group: "What to run:",
  },
  {
    flags: "--fit",
    help: "how far each model goes: the longest context, and the most streams (at -d tokens, default: 1024)",
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
      "dtype" | "cacheTypeK" | "cacheTypeV" | "repetitions" | "delay" | "seed" | "tune" | "maxBytes",
      string
    > &
    Record<"runtime" | "browser" | "output" | "outputErr" | "out", string> &
    Record<
      "quick" | "fit" | "warmup" | "software" | "listDevices" | "open" | "progress" | "verbose" | "help",
      boolean
    >
>;

function resolve(given: Given, archs: readonly string[]): BenchOptions {
  // who asks how far a model goes asks for no rows by that
  const asked = [given.quick, given.nPrompt, given.nGen, given.pg].some((flag) => flag !== undefined);
  const noRows = given.fit === true && !asked;
  const base = given.quick ? quick : noRows ? { ...full, p: [], n: [] } : full;
  const depths = given.nDepth && integers("-d", given.nDepth, 0);
  const options: BenchOptions = {
    models: words(given.model),
    archs: words(given.arch).map((name) => archNamed(name, archs)),
    peers: given.peer ? words(given.peer).map((name) => oneOf("--peer", name, ["longtape"])) : ["longtape"],
    prompts: given.nPrompt ? integers("-p", given.nPrompt, 0) : base.p,
    gens: given.nGen ? integers("-n", given.nGen, 0) : base.n,
    promptGens: (given.pg ?? []).map(pair),
    promptDepths: depths ?? promptDepths,
    genDepths: depths ?? base.genDepths,
    streams: given.nParallel ? integers("-npl", given.nParallel, 1, 4096) : [1],
    ubatches: given.ubatchSize ? integers("-ub", given.ubatchSize, 1, 65_536) : base.ubatches,
    fit: given.fit ? { context: Math.max(0, ...(depths ?? [])) || fitContext } : null,
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
  const tests = expandTests(options);
  if (tests.length === 0 && !options.fit)
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

/** Fields that a table must show because the rows will differ in them. */
export function varyingFields(options: BenchOptions): Field[] {
  const lists: [Field, readonly unknown[]][] = [
    ["peer", options.peers],
    ["n_parallel", options.streams],
    ["n_ubatch", options.ubatches],
  ];
  return lists
    .filter(([, list]) => list.length > 1 || (list === options.streams && list[0] !== 1))
    .map(([field]) => field);
}

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

const words = (lists: string[] | undefined): string[] =>
  (lists ?? []).flatMap((list) => list.split(",")).filter((word) => word !== "");

function oneOf<const T extends string>(flag: string, found: string, wanted: readonly T[]): T {
  const match = wanted.find((name) => name === found);
  if (match === undefined) {
    throw new UsageError(`${flag}: found ${JSON.stringify(found)}, wanted one of ${wanted.join(", ")}`);
  }
  return match;
}

/** A shipped model's architecture, or a hybrid's list of layers as it is written shortest. */
function archNamed(found: string, archs: readonly string[]): string {
  if (!found.startsWith(HYBRID)) return oneOf("-a", found, [...archs, `${HYBRID}<layers>`]);
  try {
    return namedHybrid(found).name;
  } catch (error) {
    throw new UsageError(`-a: ${(error as Error).message}`);
  }
}

function onlyF32(flag: string, found: string | undefined): "f32" {
  if (found === undefined || found === "f32") return "f32";
  throw new UsageError(`${flag}: ${JSON.stringify(found)} is not supported yet, wanted f32`);
}

function integer(flag: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most) {
    throw new UsageError(
      `${flag}: found ${JSON.stringify(text)}, wanted a whole number from ${least} to ${most}`,
    );
  }
  return value;
}

/** 1,2,3 and first-last, first-last+step, first-last*factor. Throws UsageError. */
export function integers(flag: string, lists: string[], least: number, most = maxTokens): number[] {
  const values = lists
    .flatMap((list) => list.split(","))
    .flatMap((item) => range(flag, item.trim(), least, most));
  if (values.length > maxListLength) {
    throw new UsageError(`${flag}: found more than ${maxListLength} values, wanted at most ${maxListLength}`);
  }
  return values;
}

function range(flag: string, item: string, least: number, most: number): number[] {
  const match = /^(\d+)-(\d+)(?:([+*])(\d+))?$/.exec(item);
  if (!match) {
    if (/^\d+$/.test(item)) return [integer(flag, item, least, most)];
    const wanted = `a whole number from ${least} to ${most}, or a range as 1024-8192, 1024-8192+1024 or 1024-8192*2`;
    throw new UsageError(`${flag}: found ${JSON.stringify(item)}, wanted ${wanted}`);
  }
  const [, from, to, operator = "+", by = "1"] = match as unknown as [
    string,
    string,
    string,
    string?,
    string?,
  ];
  const first = integer(flag, from, least, most);
  const last = integer(flag, to, least, most);
  const step = integer(flag, by, 1, most);
  if (last < first) throw new UsageError(`${flag}: range ${item} ends before it starts, wanted first-last`);
  if (operator === "*" && (step === 1 || first === 0)) {
    throw new UsageError(
      `${flag}: range ${item} never ends, wanted a first of at least 1 and a factor of at least 2`,
    );
  }
  const values: number[] = [];
  // One value too many is enough for the caller to refuse the list.
  for (let value = first; value <= last && values.length <= maxListLength; ) {
    values.push(value);
    value = operator === "*" ? value * step : value + step;
  }
  return values;
}

function pair(text: string): { n_prompt: number; n_gen: number } {
  const match = /^(\d+),(\d+)$/.exec(text.trim());
  if (!match) throw new UsageError(`-pg: found ${JSON.stringify(text)}, wanted prompt,generation as 512,128`);
  return {
    n_prompt: integer("-pg", match[1] as string, 1, maxTokens),
    n_gen: integer("-pg", match[2] as string, 1, maxTokens),
  };
}

function seconds(flag: string, text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value > 3600) {
    throw new UsageError(`${flag}: found ${JSON.stringify(text)}, wanted seconds from 0 to 3600`);
  }
  return value;
}

function bytes(flag: string, text: string): number {
  const value = parseBytes(text);
  if (value === null || value < 1) {
    throw new UsageError(`${flag}: found ${JSON.stringify(text)}, wanted a size as 1073741824, 512M or 2GiB`);
  }
  return value;
}
