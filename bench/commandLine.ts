// What the small commands share: flags, errors as one sentence with an exit code, Ctrl-C.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { Tune } from "../engine/tune.ts";
import { UsageError } from "./flagValues.ts";
import type { Place } from "./runJob.ts";

export const project = resolve(import.meta.dirname, "..");
export const checkpoints = join(project, "models/checkpoints");

/** Flags of every command that computes. */
export interface CommonFlags {
  runtime: Place["runtime"];
  browser?: string;
  software?: true;
  /** null: what suits the adapter. */
  tune: Tune | null;
  verbose?: true;
}

export function addCommonFlags(command: Command, runtime: Place["runtime"] = "node"): Command {
  return command
    .addOption(
      new Option("--runtime <name>", "node (Dawn in this process) or chrome")
        .choices(["node", "chrome"])
        .default(runtime),
    )
    .option("--browser <path>", "with --runtime chrome: the browser to start")
    .option("--software", "take the software adapter even where there is a GPU")
    .addOption(
      new Option("--tune <how>", "kernel variants: off takes defaults, cached races once, full races again")
        .choices(["off", "cached", "full"])
        .default(null, "cached for a GPU, off for a software adapter, where a race takes long"),
    )
    .option("-v, --verbose", "say more: variants chosen, stack traces")
    .helpOption("-h, --help", "print this");
}

/** Reads a command line. Throws UsageError; null: help was asked for and printed. */
export function parse<Flags>(
  command: Command,
  argv: readonly string[],
): { flags: Flags; args: string[] } | null {
  command.exitOverride().configureOutput({ writeErr: () => {} });
  try {
    command.parse(argv, { from: "user" });
    return { flags: command.opts<Flags & Record<string, never>>(), args: command.args };
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return null;
    throw new UsageError(error.message.replace(/^error: /, "").replaceAll("\n", " "));
  }
}

/** For commander: a number within bounds. */
export const number =
  (wanted: string, fits: (x: number) => boolean) =>
  (text: string): number => {
    const x = Number(text);
    if (text.trim() === "" || !fits(x)) throw new InvalidArgumentError(`Wanted ${wanted}.`);
    return x;
  };

export const whole = (least: number, most: number) =>
  number(`a whole number from ${least} to ${most}`, (x) => Number.isInteger(x) && x >= least && x <= most);

/** A folder, or the name of a shipped model where there is no folder of that name. */
export function modelFolder(name: string): string {
  const shipped = join(checkpoints, name);
  return !existsSync(name) && /^[\w-]+$/.test(name) && existsSync(shipped) ? shipped : name;
}

/**
 * Runs a command and ends the process: 0, or what `main` returns; 2 for a wrong command line, 1 for what failed, 130 after
 * Ctrl-C. The first Ctrl-C asks `main` to stop, the second does not ask.
 */
export async function runCommand(
  main: (argv: string[], signal: AbortSignal) => Promise<number>,
): Promise<never> {
  const argv = process.argv.slice(2);
  const stopping = new AbortController();
  let asked = Number.POSITIVE_INFINITY;
  process.on("SIGINT", () => {
    // under npm one Ctrl-C comes twice: from the terminal, and passed on by npm
    if (performance.now() - asked > 500) process.exit(130);
    asked = Math.min(asked, performance.now());
    stopping.abort();
  });
  // Whoever reads us may have enough (`| head`): that is no failure.
  process.stdout.on("error", () => process.exit(0));
  let code: number;
  try {
    code = await main(argv, stopping.signal);
  } catch (error) {
    // by name: one from a page of Chrome has lost its class
    code = (error as Error).name === "UsageError" ? 2 : 1;
    if (stopping.signal.aborted) code = 130;
    else console.error(argv.includes("-v") || argv.includes("--verbose") ? error : (error as Error).message);
  }
  process.exit(stopping.signal.aborted ? 130 : code);
}
