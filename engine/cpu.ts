// The CPU machine: every kernel by its reference, on dense arrays. Slow and plain; it runs wherever JavaScript does.

import { type Machine, type Run, VariantTable } from "./machine.ts";
import { Tally } from "./memory.ts";
import { currentSizes } from "./plan.ts";
import { type Bytes, type Data, elements, recut, type Storage, type Tensor } from "./tensor.ts";

export class CpuMachine implements Machine {
  readonly kind = "cpu";
  /** Of no consequence: references have no variants. */
  readonly variants = new VariantTable("cpu", new Set());
  readonly #tally = new Tally();
  readonly #buffers = new Map<Storage, ArrayBuffer>();
  /** A paged tensor as one dense array, which is what a reference sees: it stands for the tensor's first page. */
  readonly #dense = new WeakMap<Storage, { capacity: number; data: Float32Array }>();

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
    array.set(tensor.pages ? recut(tensor.spec, data, capacityOf(tensor)) : data);
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
      if (dense) this.#dense.set(to, { ...dense, data: dense.data.slice() });
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
      }
    }
  }

  #array(tensor: Tensor): Data {
    const n = elements(tensor.spec);
    if (tensor.pages) return this.#paged(tensor);
    const buffer = this.#buffers.get(tensor.storages[0]!);
    if (!buffer) throw new Error(`${tensor.label} is not allocated`);
    return tensor.spec.type === "f32"
      ? new Float32Array(buffer, tensor.offset, n)
      : new Uint32Array(buffer, tensor.offset, n);
  }

  #paged(tensor: Tensor): Float32Array {
    const capacity = capacityOf(tensor);
    const page = tensor.storages[0];
    const held = page && this.#dense.get(page);
    if (held?.capacity === capacity) return held.data;
    const data = held
      ? (recut(tensor.spec, held.data, capacity) as Float32Array)
      : new Float32Array(elements(tensor.spec));
    if (page) this.#dense.set(page, { capacity, data });
    return data;
  }
}

const capacityOf = ({ spec }: Tensor): number => spec.shape[spec.pagedAxis!]!;
