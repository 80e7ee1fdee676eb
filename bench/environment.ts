// Where and how the rows of a command line are made.

import { arch, cpus, release, type } from "node:os";
import { type Environment, emptyEnvironment } from "./row.ts";
import { packageVersion } from "./versions.ts";

export function ownEnvironment(
  argv: readonly string[],
  build: { commit: string | null; version: string },
  seed: number,
  script = "bench",
): Environment {
  const quoted = argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word)));
  const processors = cpus();
  return emptyEnvironment({
    command: [`npm run ${script}`, ...(quoted.length > 0 ? ["--", ...quoted] : [])].join(" "),
    started: new Date().toISOString(),
    build_commit: build.commit,
    versions: { longtape: build.version, "webgpu-memory": packageVersion("webgpu-memory") },
    runtime: "chrome",
    browser: null,
    browser_flags: [],
    os: `${type()} ${release()} ${arch()}`,
    cpu: processors[0]?.model.trim() || "unknown",
    cpu_cores: processors.length,
    node: process.version,
    tab_hidden: false,
    seed,
    curves: [],
  });
}
