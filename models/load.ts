// From a checkpoint's folder, or a configuration and a seed, to a model on a machine.

import { GpuMachine } from "../engine/gpu.ts";
import { contests } from "../engine/layout.ts";
import { checkBindings, type LoadProgress, loadModel } from "../engine/loadModel.ts";
import type { Machine } from "../engine/machine.ts";
import { type Model, type ReadWeight, type Types, withTypes } from "../engine/model.ts";
import { compileAhead } from "../engine/rehearsal.ts";
import { type OnVerdict, race, type Tune } from "../engine/tune.ts";
import { openCheckpoint } from "./checkpoint.ts";
import { type Config, modelType } from "./config.ts";
import { families } from "./index.ts";
import { randomWeights } from "./random.ts";
import type { Source } from "./source.ts";

export interface LoadOptions extends Partial<Types> {
  /**
   * How variants of the kernels are chosen on a GPU machine, before the weights are read. `cached`, the default: by the
   * verdicts that the engine's store keeps (`createEngine({ verdicts })`), and a race for what it has none of; `full`: by a
   * race for all that this engine has not raced; `off`: no race, the defaults for the adapter's class.
   */
  tune?: Tune;
  /** Laid over a checkpoint's config.json: how it is run otherwise than it says. */
  overlay?: Config;
  /** Streams and chunk of the sessions to come (default 1 and 512): what is raced, and compiled, is for these. */
  streams?: number;
  chunk?: number;
  /**
   * Tokens of the first prompt, where that is known (default 1): what it and the token after it run is compiled while the
   * weights are on their way. All else is compiled when it is first run.
   */
  prompt?: number;
  onProgress?: (progress: LoadProgress) => void;
  onVerdict?: OnVerdict;
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
 * Throws CheckpointError, ConfigError, TensorError, OutOfMemoryError or ShaderError; then nothing is left allocated.
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
  const put = () => loadModel(machine, architecture, config, read, options.onProgress);
  if (!(machine instanceof GpuMachine)) return put();
  const { streams = 1, chunk = 512, prompt = 1, tune = "cached" } = options;
  if (tune !== "off")
    await race(machine, contests(architecture, config, { B: streams, chunk }), tune, options.onVerdict);
  const compiled = compileAhead(machine, architecture, config, { streams, chunk, prompt });
  // heard below, unless the weights fail first
  compiled.catch(() => {});
  const model = await put();
  try {
    await compiled;
  } catch (error) {
    model.destroy();
    throw error;
  }
  return model;
}
