// npm run estimate -- llama-3-8b mamba-2.8b -d 131072: what models will hold, by formulas; no GPU, no weights.

import { existsSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import * as v from "valibot";
import { readJson } from "../models/checkpoint.ts";
import { type Config, ConfigError } from "../models/config.ts";
import { directorySource } from "../models/directory.ts";
import { HYBRID, namedHybrid } from "../models/hybridConfig.ts";
import { checkpoints, parse, runCommand } from "./commandLine.ts";
import {
  type Estimate,
  type EstimateOptions,
  estimate,
  type Width,
  widths,
  withLedger,
} from "./estimateModel.ts";
import { estimateJson, estimateMarkdown, listMarkdown } from "./estimateTable.ts";
import { edits, oneDash, twoDashes } from "./flagTable.ts";
import { integers, UsageError } from "./flagValues.ts";
import { presets } from "./presets.ts";
import { shipped } from "./shipped.ts";
import { CONFIG_FILE } from "./subject.ts";

const description =
  "Says what models will hold: weights, keys and values, state, the score matrix that they avoid, and what a token " +
  "costs, by the literature's formulas; beside it what longtape itself would hold. It needs a config.json, or a name: " +
  "no GPU, no weights, no download. A model is a Hugging Face folder, a config.json, a preset (--list), a shipped " +
  "architecture or hybrid:<layers>. A list is 1,2,3 or a flag given again; a range is first-last, first-last+step or first-last*factor.";

const afterFlags = `
Widths: f32, f16, bf16; q8_0 and q4_0 with the scales of llama.cpp's blocks;
int8 and q4 without any.

Examples:
  npm run estimate -- llama-3-8b mamba-2.8b -d "4096-131072*2"
  npm run estimate -- ./my-model -d 131072 -npl 1,8 --dtype q4_0 -ctk q8_0
  npm run --silent estimate -- jamba-v0.1 -o json > estimate.json

Exit code: 0; 1 if a model cannot be read or has no formula; 2 if the command
line is wrong.`;

interface Flags {
  nDepth?: string[];
  nParallel?: string[];
  dtype: Width;
  cacheTypeK?: Width;
  cacheTypeV?: Width;
  stateType: Width;
  convColumns: "past" | "all";
  output: "md" | "json";
  list?: true;
}

const DEPTHS = [4096, 32_768, 131_072];

const names = Object.keys(widths);
const list = (value: string, before: string[] = []) => [...before, value];
function width(name: string): Width {
  if (!names.includes(name)) throw new InvalidArgumentError(`Wanted ${names.join(", ")}.`);
  return name as Width;
}

const asWeights = "(default: as --dtype, f16 where that is narrower)";

await runCommand(async (argv) => {
  const command = new Command("npm run estimate --")
    .description(description)
    .argument("[model...]")
    .usage("[flags] MODEL...")
    .configureHelp({ optionTerm: ({ flags }) => oneDash(flags) })
    .option("-d, --n-depth <n>", `tokens in each stream's context (default: ${DEPTHS.join(",")})`, list)
    .option("--npl, --n-parallel <n>", "streams (default: 1)", list)
    .option("--dtype <width>", "of weights", width, "f16")
    .option("--ctk, --cache-type-k <width>", `of keys ${asWeights}`, width)
    .option("--ctv, --cache-type-v <width>", `of values ${asWeights}`, width)
    .option("--state-type <width>", "of recurrent state", width, "f32")
    .addOption(
      new Option("--conv-columns <which>", "of Mamba's convolution: past, d_conv - 1, or all, d_conv")
        .choices(["past", "all"])
        .default("past"),
    )
    .addOption(new Option("-o, --output <format>", "what to print").choices(["md", "json"]).default("md"))
    .option("--list", "the presets and their shapes, and stop")
    .helpOption("-h, --help", "print this")
    .addHelpText("after", afterFlags);
  const parsed = parse<Flags>(command, argv.map(twoDashes));
  if (!parsed) return 0;
  const { flags, args } = parsed;
  const { dtype, stateType, convColumns, output } = flags;
  const cached = widths[dtype] < widths.f16 ? "f16" : dtype;
  const options: EstimateOptions = {
    depths: flags.nDepth ? integers("-d", flags.nDepth, 0) : DEPTHS,
    streams: flags.nParallel ? integers("-npl", flags.nParallel, 1, 4096) : [1],
    dtype,
    typeK: flags.cacheTypeK ?? cached,
    typeV: flags.cacheTypeV ?? cached,
    typeState: stateType,
    convColumns,
  };
  const models = flags.list ? Object.keys(presets) : args;
  if (models.length === 0)
    throw new UsageError("found no model, wanted a folder, a config.json or a preset; --list names them");
  if (flags.list) options.depths = [];
  const found: Estimate = { models: [], rows: [] };
  for (const name of models) {
    const one = await estimated(name, options);
    found.models.push(...one.models);
    found.rows.push(...one.rows);
  }
  if (output === "json") console.log(estimateJson(found, options));
  else if (flags.list) console.log(listMarkdown(found.models, process.stdout.columns));
  else console.log(estimateMarkdown(found, options, process.stdout.columns));
  return 0;
});

async function estimated(name: string, options: EstimateOptions): Promise<Estimate> {
  const [model, config] = await named(name);
  try {
    return await withLedger(estimate(model, config, options), config);
  } catch (error) {
    throw error instanceof ConfigError ? new ConfigError(`${name}: ${error.message}`) : error;
  }
}

/** A model's name and config: of a file or folder, of a preset, of a shipped architecture. */
async function named(name: string): Promise<[string, Config]> {
  if (existsSync(name) || /[\\/]|\.json$/.test(name)) {
    const path = resolve(name);
    const file = path.endsWith(".json") ? path : join(path, CONFIG_FILE);
    const short = basename(file) === CONFIG_FILE ? basename(dirname(file)) : basename(file, ".json");
    return [short, await readConfig(dirname(file), basename(file))];
  }
  const preset = Object.hasOwn(presets, name) && presets[name];
  if (preset) return [name, preset];
  if (name.startsWith(HYBRID)) {
    const listed = namedHybrid(name);
    return [listed.name, listed.config];
  }
  const own = Object.hasOwn(shipped, name) && shipped[name];
  if (own)
    return [name, { ...(await readConfig(join(checkpoints, own.folder), CONFIG_FILE)), ...own.overlay }];
  throw new UsageError(`${JSON.stringify(name)} is no file, folder or preset; ${nearest(name)}`);
}

function readConfig(folder: string, file: string): Promise<Config> {
  return readJson(directorySource(folder), file, v.record(v.string(), v.unknown()), "an object");
}

function nearest(name: string): string {
  const near = [...Object.keys(presets), ...Object.keys(shipped)]
    .map((other) => ({ other, distance: other.startsWith(name) ? 0 : edits(name.toLowerCase(), other) }))
    .filter(({ other, distance }) => distance <= Math.max(name.length, other.length) / 2)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ other }) => other);
  return near.length > 0 ? `did you mean ${near.join(", ")}?` : "--list names the presets";
}
