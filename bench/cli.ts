// npm run bench: streams tokens through models, prints what that costs row by row, and keeps it.

import { verdictFile } from "../engine/verdictFile.ts";
import { adapterLine } from "./adapter.ts";
import { runCommand } from "./commandLine.ts";
import { ownEnvironment } from "./environment.ts";
import { parseFlags } from "./flags.ts";
import { openFile, openRuntime } from "./open.ts";
import { QUALITY_TOKENS } from "./tests.ts";
import { buildCommit, ownVersion } from "./versions.ts";

await runCommand(async (argv, signal) => {
  const parsed = parseFlags(argv);
  if ("help" in parsed) {
    process.stdout.write(parsed.help);
    return 0;
  }
  const { options } = parsed;
  const { repetitions, delaySeconds, warmup, seed, maxBytes } = options;
  // seconds of loading that nobody has to wait for to be told of a wrong flag
  const { BenchRun } = await import("./benchRun.ts");
  const environment = ownEnvironment(argv, { commit: buildCommit(), version: ownVersion() }, seed);
  const run = new BenchRun(options, environment);
  if (!options.listDevices) await run.makeFolder();
  const settings = {
    repetitions,
    delaySeconds,
    warmup,
    tune: options.tune ?? (options.quick || options.fit ? null : "cached"),
    seed,
    maxBytes,
    fit: options.fit && { ...options.fit, freeBytes: process.availableMemory() },
    fill: options.fill,
    curve: options.curve !== null,
    peers: options.peers.filter((name) => name !== "longtape"),
    quality: options.quality ? QUALITY_TOKENS : null,
    build_commit: environment.build_commit,
    version: environment.versions.longtape ?? null,
  };
  const runtime = await openRuntime(options.runtime, {
    browser: options.browser,
    software: options.software,
    subjects: run.subjects,
    settings,
    verdicts: verdictFile(),
    onEvent: (event) => run.take(event),
  }).catch(async (error: unknown) => {
    await run.leaveNothingEmpty();
    throw error;
  });
  console.error(adapterLine(runtime.adapter));
  try {
    if (options.listDevices) {
      for (const { request, name, software } of await runtime.devices())
        console.log(`${request}: ${name ?? "none"}${software ? " (software)" : ""}`);
      return 0;
    }
    if (options.verbose && settings.tune === null && runtime.adapter.software)
      console.error("variants: the defaults for software adapters; --tune cached races them");
    const { failed, report } = await run.all(runtime, signal);
    if (options.open && report && !signal.aborted) openFile(report);
    return failed ? 1 : 0;
  } finally {
    await run.leaveNothingEmpty();
    await runtime.close();
  }
});
