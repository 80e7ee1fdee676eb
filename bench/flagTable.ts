// The flags of npm run bench as they are written: the table, the text around it, and spellings with one dash and with two.

import { UsageError } from "./flagValues.ts";
import { formats } from "./printers/index.ts";
import { benchArchs } from "./shipped.ts";

/** Tokens that each of the streams holds whose number --fit searches, where -d does not say. */
export const fitContext = 1024;
export const fitSeconds = 60;

export const description =
  "Streams tokens through sequence models on WebGPU and prints, row by row, how fast they run and how many bytes " +
  "they hold. Flags are llama-bench's where they apply. A list is 1,2,3 or a flag given again; a range is " +
  "first-last, first-last+step or first-last*factor.";

export const afterFlags = `
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

--kernels runs each variant against its reference, then all of them by turns,
at least nine rounds where that does not take long, beside the adapter's roofs
that are measured in the same run: bytes read a second, multiply-adds a second,
an empty dispatch. -a and -m choose whose sizes are taken; with --quick only
shipped models' and only variants meant for this class of adapter. What is
found stands in md, json and the report: it has no rows.

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
  npm run bench -- -a llama --dtype f32,f16,int8 -ctk f32,int8
      what fewer bits cost and save
  npm run bench -- --kernels --kernel linear,attention
      products and attention by themselves, beside what the adapter can do
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
export const table: readonly Flag[] = [
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
    help: "runtimes to compare: ort-webgpu and ort-wasm (onnxruntime-web), tfjs-webgpu (TensorFlow.js), or all; longtape is always run (default: longtape)",
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
  {
    flags: "--kernels",
    help: "times kernels by themselves: every variant, at its cases and at the sizes that shipped and well-known models use",
    group: "What to run:",
  },
  {
    flags: "--kernel <name>",
    help: "with --kernels: only these; a name takes in its options, as linear does linear[norm]",
    list: true,
    group: "What to run:",
  },
  {
    flags: "--quick",
    help: "small sizes, two repetitions: under a minute; with --peer three, to depth 1024",
    group: "What to run:",
  },
  {
    flags: "--dtype <type>",
    help: "how matrices are stored: f32, f16, int8 (bytes, a scale for 64 of a row); arithmetic is f32 (default: f32)",
    list: true,
    group: "How:",
  },
  {
    flags: "--ctk, --cache-type-k <type>",
    help: "how cached keys, and with them values, are stored: f32, f16, int8 (default: f32)",
    list: true,
    group: "How:",
  },
  {
    flags: "--ctv, --cache-type-v <type>",
    help: "the same of cached values: they share pages with the keys",
    list: true,
    group: "How:",
  },
  { flags: "-r, --repetitions <n>", help: "times each test is repeated (default: 5)", group: "How:" },
  { flags: "--delay <seconds>", help: "pause before each test, to cool off (default: 0)", group: "How:" },
  { flags: "--no-warmup", help: "leave out the untimed run before each test", group: "How:" },
  { flags: "--seed <n>", help: "seed of everything random (default: 1337)", group: "How:" },
  {
    flags: "--tune <how>",
    help: "kernel variants: off takes defaults, cached races what no run before did, full races all (default: cached; off for --quick and --fit on a software adapter)",
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
 * Rewrites a command line for commander: one dash before several letters becomes two, "_" in a flag "-"; a flag
 * that is not in the table is an error here, where the way it was written is still known.
 */
export function expand(argv: readonly string[]): string[] {
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
