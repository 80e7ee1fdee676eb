// Lays plans out: private scratch of variants, uniform params, and the dispatches as the pages are now. The same code
// serves the GPU machine and the ledger, so that what is allocated and what is predicted cannot differ.

import { UsageError } from "./errors.ts";
import type { LaidDispatch, Machine, Run } from "./machine.ts";
import { memo } from "./memo.ts";
import { formatBytes } from "./memory.ts";
import {
  currentSizes,
  type Dispatch,
  expand,
  type Op,
  type Plan,
  pagedTensor,
  type Reach,
  scratchBytes,
} from "./plan.ts";
import type { Storage, Tensor } from "./tensor.ts";

/** WebGPU's default minUniformBufferOffsetAlignment: valid on every adapter. */
const ALIGNMENT = 256;
const EVERYWHERE: Reach = { first: 0, last: Number.POSITIVE_INFINITY };

/** Private scratch and params of the ops that are, or are not, paged. */
class Half {
  readonly machine: Machine;
  readonly label: string;
  scratch: Storage[] = [];
  uniform: Storage | null = null;
  /** Offset of each set of params in the uniform storage. */
  offsets = new Map<string, number>();

  constructor(machine: Machine, label: string) {
    this.machine = machine;
    this.label = label;
  }

  variant(op: Op): string {
    return this.machine.variants.choose(op.kernel, currentSizes(op));
  }

  /** Sizes scratch for the largest op, and writes every set of params that the ops may want. */
  async fit(ops: readonly Op[]): Promise<void> {
    const wanted: number[] = [];
    for (const op of ops) {
      const variant = op.kernel.variants[this.variant(op)]!;
      scratchBytes(variant, currentSizes(op)).forEach((bytes, i) => {
        wanted[i] = Math.max(wanted[i] ?? 0, bytes);
      });
    }
    const scratch = wanted.map((bytes, i) => {
      const held = this.scratch[i];
      return held?.bytes === bytes
        ? held
        : { category: "scratch" as const, label: `${this.label} scratch ${i}`, bytes };
    });
    const sets = new Map<string, readonly number[]>();
    for (const op of ops) {
      for (const { params, bindings, key } of expand(op, this.variant(op), scratch, EVERYWHERE)) {
        for (const { storage, bytes } of bindings) {
          if (bytes > this.machine.maxBindingBytes) {
            const most = formatBytes(this.machine.maxBindingBytes);
            throw new UsageError(
              `${key} binds ${formatBytes(bytes)} of ${storage.label}, this adapter binds at most ${most} at once`,
            );
          }
        }
        if (params.length > 0) sets.set(params.join(), params);
      }
    }
    // the old one goes first: its contents live no longer than a dispatch, and the peak stays the sum
    this.machine.free(this.scratch.filter((s) => !scratch.includes(s)));
    const fresh = scratch.filter((s) => !this.scratch.includes(s));
    this.scratch = scratch.filter((s) => !fresh.includes(s));
    await this.machine.allocate(fresh);
    this.scratch = scratch;
    this.offsets = new Map([...sets.keys()].map((key, i) => [key, i * ALIGNMENT]));
    const bytes = sets.size * ALIGNMENT;
    if (this.uniform?.bytes !== bytes) {
      if (this.uniform) this.machine.free([this.uniform]);
      this.uniform = null;
      if (bytes > 0) {
        const uniform: Storage = { category: "uniform", label: `${this.label} params`, bytes };
        await this.machine.allocate([uniform]);
        this.uniform = uniform;
      }
    }
    if (this.uniform) {
      const words = new Uint32Array(bytes / 4);
      for (const [key, values] of sets) words.set(values, this.offsets.get(key)! / 4);
      this.machine.write(whole(this.uniform), words);
    }
  }

  lay(d: Dispatch): LaidDispatch {
    if (d.params.length === 0) return d;
    return { ...d, uniform: { storage: this.uniform!, offset: this.offsets.get(d.params.join())! } };
  }

  get storages(): Storage[] {
    return [...this.scratch, ...(this.uniform ? [this.uniform] : [])];
  }

  destroy(): void {
    this.machine.free(this.storages);
    this.scratch = [];
    this.uniform = null;
  }
}

/** A storage seen as one row of words. */
export const whole = (storage: Storage): Tensor => ({
  label: storage.label,
  spec: { shape: [storage.bytes / 4], type: "u32", layout: "rows" },
  offset: 0,
  storages: [storage],
});

export class Workspace {
  readonly #plans: readonly Plan[];
  readonly #fixed: Half;
  readonly #paged: Half;
  /** Dispatches of ops without pages: recorded once. */
  readonly #fixedDispatches = new Map<Op, LaidDispatch[]>();
  /** Whether the paged part is laid out over the pages of now. */
  #laid = false;
  /** Dispatches of whole plans, by the pages that the streams reach. */
  #runs = new Map<string, Run>();

  constructor(machine: Machine, plans: readonly Plan[]) {
    this.#plans = plans;
    this.#fixed = new Half(machine, "plan");
    this.#paged = new Half(machine, "paged plan");
  }

  /** What is allocated here. */
  get storages(): Storage[] {
    return [...this.#fixed.storages, ...this.#paged.storages];
  }

  /** Allocates for all plans. Throws OutOfMemoryError. */
  async open(): Promise<void> {
    await this.#fixed.fit(this.#ops(false));
    await this.repage();
  }

  /** After the pages have changed: only the paged part is laid out again. */
  async repage(): Promise<void> {
    this.#runs.clear();
    this.#laid = false;
    const ops = this.#ops(true);
    // an empty cache has nothing to run over
    if (ops.every((op) => pagedTensor(op)!.tensor.pages!.length > 0)) await this.#paged.fit(ops);
    else this.#paged.destroy();
    this.#laid = true;
  }

  /** Before a run: lays out again what found no room when pages were given back. Throws OutOfMemoryError. */
  async settle(): Promise<void> {
    if (!this.#laid) await this.repage();
  }

  /** The plan's dispatches while the streams write within `reach`. */
  run(plan: Plan, reach: Reach): Run {
    const key = `${this.#plans.indexOf(plan)} ${this.#touched(plan, reach)}`;
    return memo(this.#runs, key, () => ({
      plan,
      dispatches: plan.ops.flatMap((op) => this.#dispatches(op, reach)),
    }));
  }

  #dispatches(op: Op, reach: Reach): LaidDispatch[] {
    const half = pagedTensor(op) ? this.#paged : this.#fixed;
    const lay = () => expand(op, half.variant(op), half.scratch, reach).map((d) => half.lay(d));
    if (half === this.#paged) return lay();
    return memo(this.#fixedDispatches, op, lay);
  }

  /** Numbers of the first and last page that the streams reach: all that a plan depends on. */
  #touched(plan: Plan, reach: Reach): string {
    for (const op of plan.ops) {
      const pages = pagedTensor(op)?.tensor.pages;
      if (!pages) continue;
      let base = 0;
      const touched: number[] = [];
      pages.forEach((slots, i) => {
        if (base <= reach.last && base + slots > reach.first) touched.push(i);
        base += slots;
      });
      return `${touched[0]}-${touched.at(-1)}`;
    }
    return "";
  }

  #ops(paged: boolean): Op[] {
    return this.#plans.flatMap((p) => p.ops).filter((op) => (pagedTensor(op) !== undefined) === paged);
  }

  destroy(): void {
    this.#fixed.destroy();
    this.#paged.destroy();
    this.#runs.clear();
  }
}
