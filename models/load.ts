// From a checkpoint's folder, or a configuration and a seed, to a model on a machine.

import { GpuMachine } from "../engine/gpu.ts";
import { contests } from "../engine/layout.ts";
import { checkBindings, type LoadProgress, loadModel } from "../engine/loadModel.ts";
import type { Machine } from "../engine/machine.ts";
import { type Model, type ReadWeight, type Types, withTypes } from "../engine/model.ts";
import { race, type Verdict } from "../engine/tune.ts";
import { openCheckpoint } from "./checkpoint.ts";
import { type Config, modelType } from "./config.ts";
import { families } from "./index.ts";
import { randomWeights } from "./random.ts";
import type { Source } from "./source.ts";

export interface LoadOptions extends Partial<Types> {
  /** Race the kernels' variants on this adapter first; off: the defaults for its class. Default true on a GPU machine. */
  tune?: boolean;
  /** Laid over a checkpoint's config.json: how it is run otherwise than it says. */
  overlay?: Config;
  /** Streams and chunk that the race is run for: those of the sessions to come. */
  streams?: number;
  chunk?: number;
  onProgress?: (progress: LoadProgress) => void;
  onVerdict?: (verdict: Verdict) => void;
}

/**
 * The architecture and checked configuration of a config.json, its matrices and caches stored as these types (default f32).
 * Throws ConfigError.
 */
export function openConfig(config: Config, { dtype = "f32", cacheType = "f32" }: Partial<Types> = {}) {
  const type = modelType(
    config,
    families.flatMap((f) => f.modelTypes),
  );
  const family = families.find((f) => f.modelTypes.includes(type))!;
  const opened = family.open(config);
  const architecture = withTypes(opened.architecture, { dtype, cacheType });
  return { ...opened, architecture, derived: family.derived };
}

/**
 * Loads a Hugging Face folder tensor by tensor.
 * Throws CheckpointError, ConfigError, TensorError or OutOfMemoryError; then nothing is left allocated.
 */
export async function loadCheckpoint(
  machine: Machine,
  source: Source,
  options: LoadOptions = {},
): Promise<Model> {
  const checkpoint = await openCheckpoint(source);
  const opened = openConfig({ ...checkpoint.config, ...options.overlay }, options);
  const model = await load(machine, opened, (name, shape) => checkpoint.read(name, shape), options);
  try {
    checkpoint.expectAllRead(opened.derived);
  } catch (error) {
    model.destroy();
    throw error;
  }
  return model;
}

/** A model of this configuration with seeded random weights. Throws ConfigError or OutOfMemoryError. */
export function loadRandom(
  machine: Machine,
  config: Config,
  seed: number,
  options: LoadOptions = {},
): Promise<Model> {
  return load(machine, openConfig(config, options), randomWeights(seed), options);
}

async function load(
  machine: Machine,
  { architecture, config }: ReturnType<typeof openConfig>,
  read: ReadWeight,
  options: LoadOptions,
): Promise<Model> {
  checkBindings(architecture, config, machine.maxBindingBytes);
  if (machine instanceof GpuMachine && (options.tune ?? true)) {
    const { streams = 1, chunk = 512 } = options;
    await race(machine, contests(architecture, config, { B: streams, chunk }), options.onVerdict);
  }
  return loadModel(machine, architecture, config, read, options.onProgress);
}
