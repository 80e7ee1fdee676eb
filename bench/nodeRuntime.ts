// The bench on Dawn, in this process.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { directorySource } from "../models/directory.ts";
import { checkpoints } from "./commandLine.ts";
import { listDevices } from "./meters/adapterFacts.ts";
import { residentBytes } from "./meters/resident.ts";
import { dawnInNode } from "./node.ts";
import { Bench, type Host } from "./run.ts";
import { type Runtime, type RuntimeRequest, TEXT_FILE } from "./runtime.ts";
import { packageVersion } from "./versions.ts";

/** Throws AdapterError. */
export async function nodeRuntime({
  software,
  settings,
  verdicts,
  onEvent,
}: RuntimeRequest): Promise<Runtime> {
  const { gpu, adapter } = await dawnInNode({ software });
  const host: Host = {
    gpu,
    source: directorySource,
    text: () => readFile(join(checkpoints, TEXT_FILE), "utf8"),
    resident: () => residentBytes(process.pid, adapter.software),
    verdicts,
  };
  let bench: Bench | null = null;
  return {
    adapter,
    about: {
      runtime: "node",
      browser: null,
      browser_flags: [],
      versions: { webgpu: packageVersion("webgpu") },
    },
    devices: () => listDevices(gpu),
    async open() {
      bench = await Bench.open(host, settings);
      return bench.facts();
    },
    run: (subject, tests) => bench!.run(subject, tests, onEvent),
    kernels: (plan, wanted) => bench!.kernels(plan, wanted, onEvent),
    fresh: async () => null,
    async close() {
      bench?.close();
    },
  };
}
