// A session's state on the host: what it is made of, and whether it fits where it is to be put back.

import { UsageError } from "./errors.ts";
import type { Machine } from "./machine.ts";
import { type Data, elements, product, type Tensor, zeros } from "./tensor.ts";

/** What this version of longtape writes, and the only one that it restores. */
export const SNAPSHOT_VERSION = 1;

/**
 * Everything that a session's streams carry: state and rings whole, of a paged cache as many slots as the longest stream
 * holds tokens, the hidden vector of each stream's last token, and the logits that come next.
 */
export interface Snapshot {
  /** Of this format. */
  readonly version: number;
  readonly architecture: string;
  /** The model's hash: its configuration and weights. */
  readonly model: string;
  /** Tokens that each stream holds. */
  readonly positions: readonly number[];
  /** Whether the logits are those after each stream's last token. */
  readonly drawable: readonly boolean[];
  /** In logical order, by name. */
  readonly tensors: ReadonlyMap<string, Data>;
  /** Bytes of the tensors: four an element, without padding, pages or names. */
  readonly bytes: number;
}

export type Named = readonly (readonly [name: string, tensor: Tensor])[];

/** The session that takes or restores a snapshot. */
export interface Holder {
  architecture: string;
  model: string;
  streams: number;
  tensors: Named;
}

/** Elements of a tensor of which the longest stream holds so many slots. */
function heldElements({ spec }: Tensor, length: number): number {
  const { shape, pagedAxis } = spec;
  if (pagedAxis === undefined) return elements(spec);
  return length * product(shape.filter((_, axis) => axis !== pagedAxis));
}

/** `bytes` of a snapshot of these tensors while the longest stream holds `length` tokens. */
export const snapshotBytes = (tensors: Named, length: number): number =>
  tensors.reduce((n, [, tensor]) => n + 4 * heldElements(tensor, length), 0);

export async function takeSnapshot(
  machine: Machine,
  { architecture, model, tensors }: Holder,
  { positions, drawable }: Pick<Snapshot, "positions" | "drawable">,
): Promise<Snapshot> {
  const held = new Map<string, Data>();
  let bytes = 0;
  for (const [name, tensor] of tensors) {
    const data = await machine.read(tensor, Math.max(...positions));
    held.set(name, data);
    bytes += data.byteLength;
  }
  return {
    version: SNAPSHOT_VERSION,
    architecture,
    model,
    positions: [...positions],
    drawable: [...drawable],
    tensors: held,
    bytes,
  };
}

/** Throws UsageError where the snapshot is of another version, model or shape. */
export function expectFits(snapshot: Snapshot, { architecture, model, streams, tensors }: Holder): void {
  const refuse = (message: string): never => {
    throw new UsageError(message);
  };
  const { version, positions } = snapshot;
  if (version !== SNAPSHOT_VERSION)
    refuse(`the snapshot is of version ${version}, version ${SNAPSHOT_VERSION} is wanted`);
  if (snapshot.architecture !== architecture || positions.length !== streams)
    refuse(
      `the snapshot is of ${positions.length} streams of ${snapshot.architecture}, this session has ${streams} of ${architecture}`,
    );
  if (snapshot.model !== model)
    refuse(
      `the snapshot is of the ${architecture} model ${snapshot.model}, this session runs ${model}: the weights or the configuration differ`,
    );
  const bad = positions.findIndex((p) => !Number.isSafeInteger(p) || p < 0);
  if (bad >= 0)
    refuse(`the snapshot's stream ${bad} holds ${positions[bad]} tokens, a whole number from 0 is wanted`);
  if (snapshot.drawable.length !== streams)
    refuse(`the snapshot's drawable has ${snapshot.drawable.length} entries, ${streams} are wanted`);
  if (snapshot.tensors.size !== tensors.length)
    refuse(`the snapshot holds ${snapshot.tensors.size} tensors, this session carries ${tensors.length}`);
  for (const [name, tensor] of tensors) {
    const data = snapshot.tensors.get(name);
    const wanted = heldElements(tensor, Math.max(...positions));
    if (data?.length !== wanted)
      refuse(`the snapshot's ${name} has ${data?.length ?? "no"} elements, wanted ${wanted}`);
    const type = data instanceof Float32Array ? "f32" : "u32";
    // a cache may be stored narrower: what was read of it are numbers all the same
    const kind = tensor.spec.type === "u32" ? "u32" : "f32";
    if (type !== kind) refuse(`the snapshot's ${name} is of type ${type}, wanted ${kind}`);
  }
}

export function writeSnapshot(machine: Machine, tensors: Named, snapshot: Snapshot): void {
  for (const [name, tensor] of tensors) machine.write(tensor, snapshot.tensors.get(name)!);
}

export function clearAll(machine: Machine, tensors: Named): void {
  for (const [, tensor] of tensors)
    if (!tensor.pages) machine.write(tensor, zeros(tensor.spec.type, elements(tensor.spec)));
}
