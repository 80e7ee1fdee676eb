// A session's state on the host: what it is made of, and how it is put back.

import { UsageError } from "./errors.ts";
import type { Machine } from "./machine.ts";
import { type Data, elements, product, type Tensor } from "./tensor.ts";

/** Everything that a session carries: state, the whole cache as it is, and the logits that come next. */
export interface Snapshot {
  readonly architecture: string;
  /** Tokens that each stream holds. */
  readonly positions: readonly number[];
  /** Whether the logits are those after each stream's last token. */
  readonly drawable: readonly boolean[];
  /** In logical order, by name. */
  readonly tensors: ReadonlyMap<string, Data>;
  /** Bytes of the tensors held here. */
  readonly bytes: number;
}

export type Named = readonly (readonly [name: string, tensor: Tensor])[];

export async function readAll(
  machine: Machine,
  tensors: Named,
): Promise<{ tensors: Map<string, Data>; bytes: number }> {
  const out = new Map<string, Data>();
  let bytes = 0;
  for (const [name, tensor] of tensors) {
    const data = await machine.read(tensor);
    out.set(name, data);
    bytes += data.byteLength;
  }
  return { tensors: out, bytes };
}

/** Throws UsageError, before anything is written, where a tensor is missing, of another size, or one too many. */
export function writeAll(machine: Machine, tensors: Named, snapshot: Snapshot): void {
  if (snapshot.tensors.size !== tensors.length) {
    throw new UsageError(
      `the snapshot holds ${snapshot.tensors.size} tensors, this session carries ${tensors.length}`,
    );
  }
  const longest = Math.max(...snapshot.positions);
  const writes = tensors.map(([name, tensor]) => {
    const data = snapshot.tensors.get(name);
    const { shape, pagedAxis } = tensor.spec;
    // a cache may be of another capacity, as long as it holds what the streams do
    const slot = product(shape.filter((_, axis) => axis !== pagedAxis));
    const fits =
      data &&
      (pagedAxis === undefined
        ? data.length === elements(tensor.spec)
        : data.length % slot === 0 && data.length >= longest * slot);
    if (!fits) {
      const wanted = pagedAxis === undefined ? `${elements(tensor.spec)}` : `${slot} for each slot`;
      throw new UsageError(`the snapshot's ${name} has ${data?.length ?? "no"} elements, wanted ${wanted}`);
    }
    return [tensor, recut(tensor, data)] as const;
  });
  for (const [tensor, data] of writes) machine.write(tensor, data);
}

export function clearAll(machine: Machine, tensors: Named): void {
  for (const [, tensor] of tensors) if (!tensor.pages) machine.write(tensor, zeros(tensor));
}

function zeros(tensor: Tensor): Data {
  const n = elements(tensor.spec);
  return tensor.spec.type === "f32" ? new Float32Array(n) : new Uint32Array(n);
}

/** A paged tensor's data from a cache of another capacity, for this one's. */
function recut(tensor: Tensor, data: Data): Data {
  const { shape, pagedAxis } = tensor.spec;
  if (pagedAxis === undefined || elements(tensor.spec) === data.length) return data;
  const out = zeros(tensor);
  const inner = product(shape.slice(pagedAxis + 1));
  const outer = product(shape.slice(0, pagedAxis));
  const to = shape[pagedAxis]!;
  const from = data.length / outer / inner;
  const slots = Math.min(from, to);
  for (let o = 0; o < outer; o++)
    out.set(data.subarray(o * from * inner, (o * from + slots) * inner), o * to * inner);
  return out;
}
