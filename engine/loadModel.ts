// Weights from a checkpoint to a machine.

import { UsageError } from "./errors.ts";
import { Fingerprint } from "./fingerprint.ts";
import { layTree } from "./layout.ts";
import type { Machine } from "./machine.ts";
import { formatBytes } from "./memory.ts";
import { type Architecture, leaves, type Model, type ReadWeight, type Weight } from "./model.ts";
import { elements, type Spec, storedBytes, type Tensor } from "./tensor.ts";

export interface LoadProgress {
  /** The weight just loaded. */
  name: string;
  done: number;
  of: number;
}

/**
 * Puts an architecture's weights on a machine, tensor by tensor, none held twice.
 * Throws OutOfMemoryError, UsageError for a number that f16 does not reach, or what `read` throws; then nothing is left
 * allocated.
 */
export async function loadModel<C>(
  machine: Machine,
  architecture: Architecture<C>,
  config: C,
  read: ReadWeight,
  onProgress?: (progress: LoadProgress) => void,
): Promise<Model<C>> {
  const declared = architecture.weights(config);
  const { tensors, storages } = layTree(declared, "weights", architecture.name);
  await machine.allocate(storages);
  let parameters = 0;
  const counted = new Set<string>();
  const { dtype = "f32" } = architecture.types ?? {};
  const stored = dtype === "f32" ? "" : ` ${dtype}`;
  const fingerprint = new Fingerprint(`${architecture.name} ${JSON.stringify(config)}${stored}`);
  const counting: ReadWeight = async (name, shape) => {
    const data = await read(name, shape);
    if (!counted.has(name)) {
      parameters += data.length;
      fingerprint.add(name, data);
    }
    counted.add(name);
    return data;
  };
  try {
    const weights = leaves<Weight>(declared);
    const places = leaves<Tensor>(tensors);
    for (const [i, [name, declaration]] of weights.entries()) {
      const data = await declaration.load(counting);
      if (data.length !== elements(declaration)) {
        throw new UsageError(
          `${name}: ${data.length} elements were loaded, [${declaration.shape.join(", ")}] needs ${elements(declaration)}`,
        );
      }
      if (declaration.type === "f16") expectHalves(name, data);
      machine.write(places[i]![1], data);
      onProgress?.({ name, done: i + 1, of: weights.length });
    }
  } catch (error) {
    machine.free(storages);
    throw error;
  }
  const destroy = () => machine.free(storages);
  const { hex: hash } = fingerprint;
  return { architecture, config, machine, weights: tensors, storages, parameters, hash, destroy };
}

/** The largest number that f16 has. */
const LARGEST_HALF = 65504;

/** Throws UsageError where a number would become infinite. */
function expectHalves(name: string, data: Float32Array): void {
  const at = data.findIndex((x) => Math.abs(x) > LARGEST_HALF);
  if (at >= 0)
    throw new UsageError(
      `${name} holds ${data[at]}, f16 reaches ${LARGEST_HALF}: load it with dtype f32 or int8`,
    );
}

/** The largest weight must fit a binding. Throws UsageError naming it. */
export function checkBindings(architecture: Architecture, config: unknown, maxBindingBytes: number): void {
  for (const [path, spec] of leaves<Spec>(architecture.weights(config))) {
    if (storedBytes(spec) > maxBindingBytes) {
      throw new UsageError(
        `${path} [${spec.shape.join(", ")}] takes ${formatBytes(storedBytes(spec))}, this adapter binds at most ${formatBytes(maxBindingBytes)} at once`,
      );
    }
  }
}
