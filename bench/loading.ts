// From a subject to its configuration, and to a model on any engine.

import * as v from "valibot";
import { openCheckpoint, readJson } from "../models/checkpoint.ts";
import type { Config } from "../models/config.ts";
import type { LoadOptions } from "../models/load.ts";
import type { Source } from "../models/source.ts";
import type { Load } from "./gate.ts";
import type { Subject } from "./subject.ts";

/** A subject's configuration, what it is run otherwise laid over it. Throws CheckpointError. */
export async function configOf({ seededConfig, overlay }: Subject, source: Source): Promise<Config> {
  const stored: Config =
    typeof seededConfig === "string"
      ? await readJson(source, seededConfig, v.record(v.string(), v.unknown()), "an object")
      : (seededConfig ?? (await openCheckpoint(source)).config);
  return { ...stored, ...overlay };
}

/** Loads the same weights wherever it is called, with these options: the files, or numbers of this seed. */
export const loaderOf =
  (subject: Subject, source: Source, config: Config, seed: number) =>
  (options: LoadOptions = {}): Load =>
  (on) =>
    subject.seededConfig
      ? on.random(config, seed, options)
      : on.load(source, { overlay: subject.overlay ?? {}, ...options });
