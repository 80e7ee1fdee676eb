// What runs a plan. Three machines do: the GPU encodes its dispatches, the CPU calls the kernels' references, and the
// ledger only counts.

import { type AnyKernel, constantsKey, defaultVariant, eligible, type Sizes } from "./kernel.ts";
import type { Dispatch, Plan } from "./plan.ts";
import type { Bytes, Data, Storage, Tensor } from "./tensor.ts";

/** A plan and its dispatches as the pages are now. */
export interface Run {
  plan: Plan;
  dispatches: readonly LaidDispatch[];
}

/** A dispatch and where its params lie. */
export interface LaidDispatch extends Dispatch {
  uniform?: { storage: Storage; offset: number };
}

export interface Machine {
  readonly kind: "gpu" | "cpu" | "ledger";
  readonly variants: VariantTable;
  /** Bytes that may be held at once, and bound at once. */
  readonly maxBytes: number;
  readonly maxBindingBytes: number;
  /** All or none; throws OutOfMemoryError. New storages are zero. */
  allocate(storages: readonly Storage[]): Promise<void>;
  /** Those that are not allocated are passed over. */
  free(storages: readonly Storage[]): void;
  /**
   * Logical order in, packed by the tensor's layout; ordered with what is submitted before and after. Of a paged tensor as many
   * slots as there are elements for; what the rest of their last page held is lost.
   */
  write(tensor: Tensor, data: Data): void;
  /** The tensor's elements in logical order, after all that was submitted before; of a paged one the first `slots`. */
  read(tensor: Tensor, slots?: number): Promise<Data>;
  /** As `read`, through a staging storage of the tensor's size that the caller keeps: no allocation. */
  fetch(tensor: Tensor, staging: Storage): Promise<Data>;
  /** Copies whole storages of equal size, ordered with what is submitted before and after. */
  copy(pairs: readonly (readonly [from: Storage, to: Storage])[]): void;
  /** Compiles what the dispatches need. */
  prepare(dispatches: readonly LaidDispatch[]): Promise<void>;
  /** One submit: the runs in order. */
  submit(runs: readonly Run[]): void;
  /** Bytes held, by category. */
  live(): Bytes;
}

/** Which variant of a kernel runs at which sizes: measured verdicts, else the default for the class of adapter. */
export class VariantTable {
  readonly suits: "cpu" | "gpu";
  readonly features: ReadonlySet<string>;
  readonly verdicts: Map<string, string>;
  /** Keys of those verdicts that a run before has measured. */
  readonly kept = new Set<string>();
  constructor(suits: "cpu" | "gpu", features: ReadonlySet<string>, verdicts = new Map<string, string>()) {
    this.suits = suits;
    this.features = features;
    this.verdicts = verdicts;
  }

  /** Takes over what another table of this adapter knows. */
  adopt({ verdicts, kept }: VariantTable): void {
    for (const [key, winner] of verdicts) this.verdicts.set(key, winner);
    for (const key of kept) this.kept.add(key);
  }

  choose(kernel: AnyKernel, s: Sizes): string {
    const measured = this.verdicts.get(constantsKey(kernel, s));
    if (measured !== undefined && eligible(kernel, s, this.features).includes(measured)) return measured;
    return defaultVariant(kernel, s, this.features, this.suits);
  }
}
