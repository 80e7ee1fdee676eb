// npm run claims: measures what eleven claims about long contexts are tested by, and judges them.

import { Command } from "commander";
import { verdictFile } from "../engine/verdictFile.ts";
import { adapterLine } from "./adapter.ts";
import { verdictTable } from "./claims/documents.ts";
import { judgeAll } from "./claims/index.ts";
import { shippedModels } from "./claims/models.ts";
import { fullSizes, planOf, quickSizes } from "./claims/plan.ts";
import { addCommonFlags, type CommonFlags, checkpoints, parse, runCommand } from "./commandLine.ts";
import { ownEnvironment } from "./environment.ts";
import { parseFlags } from "./flags.ts";
import { openFile, openRuntime } from "./open.ts";
import { buildCommit, ownVersion } from "./versions.ts";

/** Tokens of the one long stream beside the windows: verdicts take the windows alone. */
const QUALITY_STREAM = 4096;

const description =
  "Judges eleven claims about long contexts by what it measures: runs the shipped models through the tests that the claims " +
  "need, prints rows on stderr as they finish and the verdicts on stdout, and writes claims.json, claims.md and a report.";

const afterFlags = `
Verdicts: holds, holds with a condition, refuted, undecided (rows are missing:
it says which).

Examples:
  npm run claims -- --quick
      short contexts, a few minutes on two cores
  npm run claims -- --out claims
      contexts up to 16,384 tokens, five repetitions, bits a byte: a quarter of
      an hour on two cores

Exit code: 0; 1 if a row failed; 2 if the command line is wrong; 130 after
Ctrl-C, which keeps and judges what is there.`;

interface Flags extends CommonFlags {
  quick?: true;
  out?: string;
  seed?: string;
  maxBytes?: string;
  open?: true;
}

await runCommand(async (argv, signal) => {
  const command = new Command("npm run claims --")
    .description(description)
    .usage("[flags]")
    .option("--quick", "short contexts, three repetitions")
    .option("--out <dir>", "folder for verdicts, results and report (default: bench/results/<time>)")
    .option("--open", "open report.html when done")
    .option("--seed <n>", "seed of everything random (default: 1337)")
    .option("--max-bytes <size>", "refuse what needs more GPU memory, as 512M or 2GiB");
  addCommonFlags(command, "chrome").addHelpText("after", afterFlags);
  const parsed = parse<Flags>(command, argv);
  if (!parsed) return 0;
  const { flags } = parsed;
  const options = optionsOf(flags);
  const sizes = flags.quick ? quickSizes : fullSizes;
  const plan = planOf(sizes, checkpoints);
  const models = shippedModels(checkpoints);
  const [{ BenchRun }, { writeResults }] = await Promise.all([
    import("./benchRun.ts"),
    import("./results.ts"),
  ]);
  const build = { commit: buildCommit(), version: ownVersion() };
  const environment = ownEnvironment(argv, build, options.seed, "claims");
  const run = new BenchRun(options, environment, {
    plan,
    write(folder, results, extra) {
      const { rows, environment } = results;
      const judged = judgeAll({ rows, races: environment.verdicts, models });
      process.stdout.write(verdictTable(judged));
      return writeResults(folder, results, extra, judged);
    },
  });
  await run.makeFolder();
  const runtime = await openRuntime(options.runtime, {
    browser: options.browser,
    software: options.software,
    subjects: run.subjects,
    settings: {
      repetitions: sizes.repetitions,
      delaySeconds: 0,
      // the run for memory has compiled everything
      warmup: !flags.quick,
      tune: flags.tune,
      seed: options.seed,
      maxBytes: options.maxBytes,
      quality: options.quality ? QUALITY_STREAM : null,
      build_commit: build.commit,
      version: build.version,
    },
    verdicts: verdictFile(),
    onEvent: (event) => run.take(event),
  }).catch(async (error: unknown) => {
    await run.leaveNothingEmpty();
    throw error;
  });
  console.error(adapterLine(runtime.adapter));
  try {
    const { failed, report } = await run.all(runtime, signal);
    if (flags.open && report && !signal.aborted) openFile(report);
    return failed ? 1 : 0;
  } finally {
    await run.leaveNothingEmpty();
    await runtime.close();
  }
});

/** The bench's own options, checked as it checks them. */
function optionsOf({ runtime, browser, software, out, seed, maxBytes, verbose, quick }: Flags) {
  const given = [
    ["--runtime", runtime],
    ["--browser", browser],
    ["--out", out],
    ["--seed", seed],
    ["--max-bytes", maxBytes],
  ].flatMap(([flag, value]) => (value === undefined ? [] : [`${flag}=${value}`]));
  const switches = [
    software && "--software",
    verbose && "--verbose",
    // what attention loses that sees less
    !quick && "--quality",
  ].filter((flag) => typeof flag === "string");
  // the plan names the tests; two numbers of streams make the table show them
  const parsed = parseFlags(["-o", "none", "-oe", "md", "-npl", "1,2", ...given, ...switches]);
  if ("help" in parsed) throw new Error("the bench printed help where none was asked for");
  return parsed.options;
}
