// Which kernels are meant, and well-known models whose sizes they are timed at.

import { allKernels } from "../../kernels/index.ts";
import { type Config, ConfigError } from "../../models/config.ts";
import { openConfig } from "../../models/load.ts";
import { oneOf } from "../flagValues.ts";
import { presets } from "../presets.ts";
import { type Subject, seeded } from "../subject.ts";
import { isNamed } from "./kernelTime.ts";

/** Throws UsageError for a name that no kernel has. */
export function expectKernels(names: readonly string[]): void {
  const known = [...new Set(allKernels.map(({ name }) => name.split("[", 1)[0]!))];
  for (const name of names)
    if (!allKernels.some((kernel) => isNamed(kernel, [name]))) oneOf("--kernel", name, known);
}

/** Those of families that are run here, by their configurations. */
export const presetSubjects = (): Subject[] =>
  Object.entries(presets)
    .filter(([, config]) => isRun(config))
    .map(([name, config]) => ({ ...seeded(name, "", config), model: name }));

function isRun(config: Config): boolean {
  try {
    openConfig(config);
    return true;
  } catch (error) {
    if (error instanceof ConfigError) return false;
    throw error;
  }
}
