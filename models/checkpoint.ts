// A Hugging Face folder: config.json and model.safetensors, or its shards and their index. Only headers are read on
// opening; tensors are then read one at a time, by name, against the shape that the config promises.

import * as v from "valibot";
import { openSafetensors, type Safetensors, TensorError, type TensorInfo } from "./safetensors.ts";
import { CheckpointError, type Source, show } from "./source.ts";

/** No tensor of that name. */
export class MissingTensorError extends TensorError {}

export interface CheckpointTensor extends TensorInfo {
  /** The safetensors file that holds it. */
  readonly file: string;
}

export interface Checkpoint {
  readonly name: string;
  /** config.json as it is: config.ts reads it strictly. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** Bytes of all tensors as stored. */
  readonly bytes: number;
  /** One tensor as f32, after its shape was checked. */
  read(name: string, shape?: readonly number[]): Promise<Float32Array<ArrayBuffer>>;
  /**
   * Throws if a tensor was never read: one that the config does not speak of (a bias, an adapter) would be
   * mathematics left out. Those that match `derived` are allowed to stay (buffers that a model computes itself).
   */
  expectAllRead(derived?: RegExp): void;
}

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const Config = v.record(v.string(), v.unknown());
const Index = v.object({ weight_map: v.record(v.string(), v.string()) });

export async function openCheckpoint(source: Source): Promise<Checkpoint> {
  const config = await readJson(source, "config.json", Config, "an object");
  const files = new Map<string, Safetensors>();
  const tensors = new Map<string, CheckpointTensor>();

  if ((await source.size(SINGLE)) !== null) {
    const opened = await openSafetensors(source, SINGLE);
    files.set(SINGLE, opened);
    for (const [name, info] of opened.tensors) tensors.set(name, { ...info, file: SINGLE });
  } else if ((await source.size(INDEX)) !== null) {
    const { weight_map } = await readJson(source, INDEX, Index, "weight_map, file names by tensor");
    for (const [name, file] of Object.entries(weight_map)) {
      // Shards lie beside their index: a name with a folder in it would reach files that nobody offered.
      if (!/^[^/\\:]+\.safetensors$/.test(file))
        throw new CheckpointError(
          `${INDEX}: ${name} is said to lie in ${show(file)}, wanted a .safetensors file beside the index`,
        );
      let shard = files.get(file);
      if (!shard) {
        shard = await openSafetensors(source, file);
        files.set(file, shard);
      }
      const info = shard.tensors.get(name);
      if (!info)
        throw new CheckpointError(`${INDEX}: ${name} is said to lie in ${file}, which does not hold it`);
      tensors.set(name, { ...info, file });
    }
  } else {
    throw new CheckpointError(`${source.name} holds neither ${SINGLE} nor ${INDEX}`);
  }

  let bytes = 0;
  for (const { begin, end } of tensors.values()) bytes += end - begin;
  const unread = new Set(tensors.keys());
  return {
    name: source.name,
    config,
    tensors,
    bytes,
    async read(name, shape) {
      const info = tensors.get(name);
      if (!info)
        throw new MissingTensorError(
          `${name} is missing from ${source.name}${closest(name, tensors.keys())}`,
        );
      if (shape && !(shape.length === info.shape.length && shape.every((size, i) => size === info.shape[i])))
        throw new TensorError(
          `${name}: shape [${info.shape.join(", ")}] found, [${shape.join(", ")}] wanted`,
        );
      const values = await files.get(info.file)!.read(name);
      unread.delete(name);
      return values;
    },
    expectAllRead(derived) {
      const left = [...unread].filter((name) => !derived?.test(name));
      if (left.length > 0) {
        const more = left.length > 1 ? ` and ${left.length - 1} more` : "";
        throw new TensorError(
          `${left[0]}${more} in ${source.name}: found a tensor that its config gives no place to`,
        );
      }
    },
  };
}

/** A JSON file that fits `schema`; `wanted` says in words what that is. */
export async function readJson<const S extends v.GenericSchema>(
  source: Source,
  path: string,
  schema: S,
  wanted: string,
): Promise<v.InferOutput<S>> {
  const bytes = await source.read(path);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new CheckpointError(`${path} in ${source.name} is not JSON (${(cause as Error).message})`, {
      cause,
    });
  }
  const parsed = v.safeParse(schema, value);
  if (!parsed.success || Array.isArray(value))
    throw new CheckpointError(`${path} in ${source.name} is ${show(value)}, wanted ${wanted}`);
  return parsed.output;
}

/** A hint: the names that differ from the missing one by a few letters, or only by their first words. */
function closest(name: string, names: Iterable<string>): string {
  const near = [...names]
    .map((other) => ({
      other,
      distance: other.endsWith(name) || name.endsWith(other) ? 1 : editDistance(name, other),
    }))
    .filter(({ distance }) => distance <= 1 + name.length / 6)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ other }) => other);
  return near.length > 0 ? `, which holds ${near.join(", ")}` : "";
}

/** Levenshtein's. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
