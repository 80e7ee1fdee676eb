// npm run verify -- FOLDER...: both machines against the numbers of the library that owns the format.

import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { Command } from "commander";
import {
  addCommonFlags,
  type CommonFlags,
  checkpoints,
  modelFolder,
  parse,
  project,
  runCommand,
} from "./commandLine.ts";
import { NMSE_LIMIT, type Verdict, verdictLine } from "./golden.ts";
import { runJob } from "./runJob.ts";

const description =
  "Runs Hugging Face folders that hold golden.safetensors (input_ids [B,T], logits [B,T,V], greedy [B,G]) on the GPU " +
  "and on the CPU machine, and prints a line for each: ok, or FAIL and why. It passes with a normalised mean squared " +
  `error of at most ${NMSE_LIMIT.toExponential(0)} over the logits of every position and the same greedy ` +
  "continuation. With no folder: all that come with the project.";

const afterFlags = `
Examples:
  npm run verify
  npm run verify -- ./my-model --runtime chrome
  npm run verify -- --json models/checkpoints/mamba

Exit code: 0; 1 if a folder failed; 2 if the command line is wrong; 130 after
Ctrl-C.`;

interface Flags extends CommonFlags {
  json?: true;
}

/** What --json prints. */
export interface VerifyDocument {
  schema: "longtape-verify/1";
  ok: boolean;
  runtime: "node" | "chrome";
  nmse_limit: number;
  folders: Verdict[];
}

await runCommand(async (argv, signal) => {
  const command = new Command("npm run verify --").description(description).argument("[folder...]");
  addCommonFlags(command.option("--json", "one JSON document in place of lines"))
    .usage("[flags] [folder...]")
    .addHelpText("after", afterFlags);
  const parsed = parse<Flags>(command, argv);
  if (!parsed) return 0;
  const { flags } = parsed;
  const folders = parsed.args.length > 0 ? parsed.args.map(modelFolder) : await ownFolders();
  const verdicts = await runJob(
    "verify",
    flags,
    folders,
    { folders, tune: flags.tune },
    (event) => {
      if ("trace" in event) {
        if (flags.verbose) console.error(event.trace);
      } else if (!flags.json) console.log(verdictLine(event.verdict));
    },
    signal,
  );
  const ok = verdicts.every((verdict) => verdict.ok);
  if (flags.json) {
    const document: VerifyDocument = {
      schema: "longtape-verify/1",
      ok,
      runtime: flags.runtime,
      nmse_limit: NMSE_LIMIT,
      folders: verdicts,
    };
    console.log(JSON.stringify(document, null, 2));
  }
  return ok ? 0 : 1;
});

/** The project's own copies; the goldens are not there in an installed package. */
async function ownFolders(): Promise<string[]> {
  const found: string[] = [];
  for (const parent of [checkpoints, join(project, "test/goldens")]) {
    const entries = await readdir(parent, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (entry.isDirectory()) found.push(relative(process.cwd(), join(parent, entry.name)));
    }
  }
  return found.sort();
}
