// npm run generate -- -m FOLDER -p "text" -n 200: streams text to the terminal, and a line of figures after it.

import { text as readAll } from "node:stream/consumers";
import { Command } from "commander";
import { formatBytes } from "../engine/memory.ts";
import { CATEGORIES } from "../engine/tensor.ts";
import { adapterLine } from "./adapter.ts";
import {
  addCommonFlags,
  type CommonFlags,
  modelFolder,
  number,
  parse,
  runCommand,
  whole,
} from "./commandLine.ts";
import { UsageError } from "./flagValues.ts";
import type { GenerateFigures } from "./generateJob.ts";
import { runJob } from "./runJob.ts";
import { benchArchs } from "./shipped.ts";
import { formatNs, parseBytes } from "./units.ts";

const description =
  "Continues a prompt, token by token. The continuation goes to stdout as it comes, a line of figures to stderr " +
  "when it ends.";

const afterFlags = `
Shipped models: ${benchArchs.join(" ")}.

Examples:
  npm run generate -- -m mamba -p "ROMEO:" -n 200
  npm run generate -- -m ./my-model -p "Once upon" --temperature 0.8 --top-p 0.95
  npm run --silent generate -- -m llama -p - --stop "." < prompt.txt > answer.txt

Exit code: 0; 1 if it failed; 2 if the command line is wrong; 130 after Ctrl-C,
which keeps what was generated.`;

interface Flags extends CommonFlags {
  model: string;
  prompt?: string;
  ids?: number[];
  nGen: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  seed: number;
  stop?: string[];
  maxBytes?: number;
}

await runCommand(async (argv, signal) => {
  const command = new Command("npm run generate --")
    .description(description)
    .usage("-m FOLDER -p TEXT [flags]")
    .requiredOption("-m, --model <folder>", "a Hugging Face folder, or the name of a shipped model")
    .option("-p, --prompt <text>", "what to continue; - reads it from stdin")
    .option("--ids <list>", "token ids in place of -p, as 1,2,3; ids come out", idList)
    .option("-n, --n-gen <n>", "most tokens to generate", whole(1, 2 ** 30), 200)
    .option(
      "--temperature <t>",
      "0 takes the likeliest token",
      number("a number from 0", (x) => x >= 0 && x < Infinity),
      0,
    )
    .option("--top-k <k>", "draw from the k likeliest; 0: from all", whole(0, 2 ** 32 - 1), 0)
    .option(
      "--top-p <p>",
      "draw from the fewest with this share together",
      number("a number above 0, up to 1", (x) => x > 0 && x <= 1),
      1,
    )
    .option(
      "--min-p <p>",
      "draw from those this likely beside the likeliest",
      number("a number from 0 to 1", (x) => x >= 0 && x <= 1),
      0,
    )
    .option("--seed <n>", "same adapter, variants and seed: same text", whole(0, 2 ** 32 - 1), 0)
    .option(
      "--stop <text>",
      "end after this text; may be given again",
      (text: string, all: string[] = []) => [...all, text],
    )
    .option("--max-bytes <size>", "refuse what needs more GPU memory, as 512M or 2GiB", byteSize);
  addCommonFlags(command).addHelpText("after", afterFlags);
  const parsed = parse<Flags>(command, argv);
  if (!parsed) return 0;
  const { model, ids, tune, ...flags } = parsed.flags;
  if ((flags.prompt === undefined) === (ids === undefined))
    throw new UsageError("found no one prompt, wanted -p TEXT, -p - or --ids LIST");
  const prompt = ids ?? (flags.prompt === "-" ? await readAll(process.stdin) : flags.prompt!);
  const { nGen, temperature, topK, topP, minP, seed, stop = [], maxBytes = null } = flags;
  const sampling = { temperature, topK, topP, minP, seed };
  const folder = modelFolder(model);
  // On a terminal the text may end anywhere in a line; a file gets the text and nothing else.
  let inLine = false;
  const endLine = () => {
    if (inLine && process.stdout.isTTY) process.stdout.write("\n");
  };
  const figures = await runJob(
    "generate",
    flags,
    [folder],
    { folder, prompt, maxTokens: nGen, ...sampling, stop, tune, maxBytes },
    (event) => {
      if ("text" in event) {
        process.stdout.write(event.text);
        inLine ||= event.text !== "";
      } else if (flags.verbose) console.error(event.note);
    },
    signal,
  ).finally(endLine);
  console.error(figuresLine(figures));
  return 0;
});

function figuresLine(f: GenerateFigures): string {
  const ms = (value: number) => formatNs(value * 1e6);
  const rate = (tokens: number, within: number) => `${((tokens * 1e3) / within).toFixed(1)} t/s`;
  const held = CATEGORIES.filter((name) => f.bytes[name] > 0).map(
    (name) => `${name} ${formatBytes(f.bytes[name])}`,
  );
  return [
    `${f.model}: prompt ${f.promptTokens} tokens${f.promptMs > 0 ? ` at ${rate(f.promptTokens, f.promptMs)}` : ""}`,
    `generated ${f.tokens} tokens${f.tokens > 1 ? ` at ${rate(f.tokens - 1, f.decodeMs)}` : ""}${f.end === "length" ? "" : ` (${f.end})`}`,
    f.firstTokenMs !== null && `first token after ${ms(f.firstTokenMs)}`,
    `ready in ${ms(f.readyMs)}`,
    `holds ${held.join(", ")}`,
    adapterLine({ name: f.adapter, software: f.software }),
  ]
    .filter(Boolean)
    .join("; ");
}

function idList(text: string): number[] {
  if (!/^\d+(,\d+)*$/.test(text))
    throw new UsageError(`--ids: found ${JSON.stringify(text)}, wanted token ids as 1,2,3`);
  return text.split(",").map(Number);
}

function byteSize(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === null || bytes < 1)
    throw new UsageError(`--max-bytes: found ${JSON.stringify(text)}, wanted a size as 512M or 2GiB`);
  return bytes;
}
