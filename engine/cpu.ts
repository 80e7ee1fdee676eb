// The CPU machine: every kernel by its reference, on dense arrays. Slow and plain; it runs wherever JavaScript does. What is
// stored as f16 or int8 it holds as the numbers that these stand for.

import type { Binding } from "./kernel.ts";
import { type Machine, type Run, VariantTable } from "./machine.ts";
import { Tally } from "./memory.ts";
import { currentSizes } from "./plan.ts";
import { type Bytes, type Data, elements, recut, rounded, type Storage, type Tensor } from "./tensor.ts";

export class CpuMachine implements Machine {
  readonly kind = "cpu";
  /** Of no consequence: references have no variants. */
  readonly variants = new VariantTable("cpu", new Set());
  readonly #tally = new Tally();
  readonly #buffers = new Map<Storage, ArrayBuffer>();
  /**
   * What a reference sees of tensors that are not stored as it sees them, by storage and offset: a paged tensor as one dense
   * array, which stands for its first page; f16 and int8 as f32.
   */
  readonly #dense = new WeakMap<Storage, Map<number, Float32Array>>();

  readonly maxBytes = Number.POSITIVE_INFINITY;
  readonly maxBindingBytes = Number.POSITIVE_INFINITY;

  async allocate(storages: readonly Storage[]): Promise<void> {
    for (const s of storages) {
      this.#buffers.set(s, new ArrayBuffer(s.bytes));
      this.#tally.add(s, 1);
    }
  }

  free(storages: readonly Storage[]): void {
    for (const s of storages) if (this.#buffers.delete(s)) this.#tally.add(s, -1);
  }

  live(): Bytes {
    return { ...this.#tally.live };
  }

  write(tensor: Tensor, data: Data): void {
    const array = this.#array(tensor);
    const kept = rounded(tensor.spec, tensor.pages ? recut(tensor.spec, data, capacityOf(tensor)) : data);
    array.set(kept);
  }

  async read(tensor: Tensor, slots?: number): Promise<Data> {
    const array = this.#array(tensor);
    if (!tensor.pages || slots === undefined || slots === capacityOf(tensor)) return array.slice();
    return recut(tensor.spec, array, slots);
  }

  fetch(tensor: Tensor): Promise<Data> {
    return this.read(tensor);
  }

  copy(pairs: readonly (readonly [Storage, Storage])[]): void {
    for (const [from, to] of pairs) {
      new Uint8Array(this.#buffers.get(to)!).set(new Uint8Array(this.#buffers.get(from)!));
      const dense = this.#dense.get(from);
      if (dense) this.#dense.set(to, new Map([...dense].map(([offset, data]) => [offset, data.slice()])));
    }
  }

  async prepare(): Promise<void> {}

  submit(runs: readonly Run[]): void {
    for (const { plan } of runs) {
      for (const op of plan.ops) {
        const arrays = Object.fromEntries(
          Object.entries(op.tensors).map(([name, t]) => [name, this.#array(t)]),
        );
        op.kernel.reference(arrays, currentSizes(op));
        for (const [name, { access }] of Object.entries(op.kernel.bindings) as [string, Binding][])
          if (access !== "read") keepRounded(op.tensors[name]!, arrays[name]!);
      }
    }
  }

  #array(tensor: Tensor): Data {
    const { spec, storages, offset } = tensor;
    if (tensor.pages || (spec.type !== "f32" && spec.type !== "u32")) return this.#seen(tensor);
    const buffer = this.#buffers.get(storages[0]!);
    if (!buffer) throw new Error(`${tensor.label} is not allocated`);
    const n = elements(spec);
    return spec.type === "f32" ? new Float32Array(buffer, offset, n) : new Uint32Array(buffer, offset, n);
  }

  #seen({ spec, storages, offset }: Tensor): Float32Array {
    const [storage] = storages;
    const held = storage && this.#dense.get(storage)?.get(offset);
    const n = elements(spec);
    if (held?.length === n) return held;
    const data = held
      ? (recut(spec, held, spec.shape[spec.pagedAxis!]!) as Float32Array)
      : new Float32Array(n);
    if (storage) {
      const all = this.#dense.get(storage) ?? new Map<number, Float32Array>();
      this.#dense.set(storage, all.set(offset, data));
    }
    return data;
  }
}

function keepRounded({ spec }: Tensor, data: Data): void {
  const kept = rounded(spec, data);
  if (kept !== data) data.set(kept);
}

const capacityOf = ({ spec }: Tensor): number => spec.shape[spec.pagedAxis!]!;
