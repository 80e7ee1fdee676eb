// The ledger: a machine that allocates nothing and counts. With the variants of a GPU machine it says what that machine
// will hold and do, to the byte; with the defaults it estimates.

import { type Cost, cost } from "./kernel.ts";
import type { LaidDispatch, Machine, Run, VariantTable } from "./machine.ts";
import { Tally } from "./memory.ts";
import { currentSizes } from "./plan.ts";
import { type Bytes, type Data, elements, pageSpec, type Storage, type Tensor, zeros } from "./tensor.ts";

export class Ledger implements Machine {
  readonly kind = "ledger";
  readonly variants: VariantTable;
  readonly maxBytes = Number.POSITIVE_INFINITY;
  readonly maxBindingBytes: number;
  readonly tally = new Tally();
  readonly #held = new Set<Storage>();
  /** Floating-point operations, and bytes moved whatever the variant. */
  flops = 0;
  bytesMoved = 0;
  dispatches = 0;

  /** `maxBindingBytes`: what the machine that it speaks for binds at once, where pages are cut to that. */
  constructor(variants: VariantTable, maxBindingBytes = Number.POSITIVE_INFINITY) {
    this.variants = variants;
    this.maxBindingBytes = maxBindingBytes;
  }

  async allocate(storages: readonly Storage[]): Promise<void> {
    for (const s of storages) {
      this.#held.add(s);
      this.tally.add(s, 1);
    }
  }

  free(storages: readonly Storage[]): void {
    for (const s of storages) if (this.#held.delete(s)) this.tally.add(s, -1);
  }

  live(): Bytes {
    return { ...this.tally.live };
  }

  write(): void {}

  async read({ spec }: Tensor, slots?: number): Promise<Data> {
    const cut = slots === undefined || spec.pagedAxis === undefined ? spec : pageSpec(spec, slots);
    return zeros(spec.type, elements(cut));
  }

  fetch(tensor: Tensor): Promise<Data> {
    return this.read(tensor);
  }

  copy(): void {}

  async prepare(_: readonly LaidDispatch[]): Promise<void> {}

  submit(runs: readonly Run[]): void {
    for (const { plan, dispatches } of runs) {
      this.dispatches += dispatches.length;
      for (const op of plan.ops) this.ran(cost(op.kernel, currentSizes(op)));
    }
  }

  /** Counts what one op costs. */
  protected ran({ flops, bytes }: Cost): void {
    this.flops += flops;
    this.bytesMoved += bytes;
  }
}
