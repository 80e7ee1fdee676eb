// Variants of one kernel at the same sizes, on synthetic buffers: what a race and a benchmark time by turns.

import type { GpuMachine } from "./gpu.ts";
import {
  type AnyKernel,
  type Binding,
  bindingSpec,
  constantsKey,
  pagedLetter,
  type Sizes,
} from "./kernel.ts";
import type { Run } from "./machine.ts";
import { record } from "./plan.ts";
import { elements, pageSpec, pagesFor, type Storage, storedBytes, type Tensor } from "./tensor.ts";
import { Workspace } from "./workspace.ts";

/** Slots of a cache where the sizes, recorded over an empty one, name none. */
const SLOTS = 1024;

/** A tensor for a binding at these sizes, in storages of its own. Throws where a cache is no whole number of pages. */
export function standIn(label: string, binding: Binding, s: Sizes): Tensor {
  const spec = bindingSpec(binding, s);
  // not scratch: what is private to a variant is told apart by that
  const storage = (bytes: number): Storage => ({ category: "state", label, bytes });
  if (!binding.paged) return { label, spec, offset: 0, storages: [storage(storedBytes(spec))] };
  const pages = pagesFor(s[binding.paged]!);
  if (pages.reduce((a, b) => a + b, 0) !== s[binding.paged])
    throw new Error(`${label}: ${s[binding.paged]} slots are no whole number of pages`);
  const storages = pages.map((slots) => storage(storedBytes(pageSpec(spec, slots))));
  return { label, spec, offset: 0, storages, pages };
}

export class Trial {
  /** With a full cache. */
  readonly sizes: Sizes;
  readonly #machine: GpuMachine;
  readonly #kernel: AnyKernel;
  readonly #storages: readonly Storage[];
  readonly #tensors: Readonly<Record<string, Tensor>>;
  readonly #workspaces: Workspace[] = [];
  readonly #runs = new Map<string, Run>();

  /** Allocates what the kernel binds. Throws OutOfMemoryError with nothing left allocated. */
  static async open(machine: GpuMachine, kernel: AnyKernel, sizes: Sizes): Promise<Trial> {
    const trial = new Trial(machine, kernel, sizes);
    await machine.allocate(trial.#storages);
    trial.#fill();
    return trial;
  }

  private constructor(machine: GpuMachine, kernel: AnyKernel, sizes: Sizes) {
    this.#machine = machine;
    this.#kernel = kernel;
    const letter = pagedLetter(kernel);
    const capacity = letter ? pagesFor(sizes[letter] || SLOTS).reduce((a, b) => a + b, 0) : 0;
    this.sizes = letter ? { ...sizes, [letter]: capacity } : sizes;
    const bindings = Object.entries(kernel.bindings) as [string, Binding][];
    this.#tensors = Object.fromEntries(
      bindings.map(([label, binding]) => [label, standIn(label, binding, this.sizes)]),
    );
    this.#storages = Object.values(this.#tensors).flatMap((t) => t.storages);
  }

  /** What a kernel runs by, such as a cursor, must make sense; all else may be zeros. */
  #fill(): void {
    for (const [name, tensor] of Object.entries(this.#tensors)) {
      const data = this.#kernel.fill?.[name]?.(this.sizes, () => 0.5);
      if (data && !tensor.pages && data.length === elements(tensor.spec)) this.#machine.write(tensor, data);
    }
  }

  /** Lays a variant out and compiles it. Throws what that throws. */
  async add(variant: string): Promise<void> {
    const machine = this.#machine;
    const key = constantsKey(this.#kernel, this.sizes);
    machine.variants.verdicts.set(key, variant);
    try {
      const plan = record(this.#kernel.name, (m) => m.run(this.#kernel, this.#tensors, this.sizes));
      const workspace = new Workspace(machine, [plan]);
      this.#workspaces.push(workspace);
      await workspace.open();
      const run = workspace.run(plan, { first: 0, last: 0 });
      await machine.prepare(run.dispatches);
      this.#runs.set(variant, run);
    } finally {
      machine.variants.verdicts.delete(key);
    }
  }

  /** Dispatches that a variant takes. */
  dispatches(variant: string): number {
    return this.#runs.get(variant)!.dispatches.length;
  }

  /** Milliseconds of one run of a variant, of so many in one submit. */
  async time(variant: string, times: number): Promise<number> {
    const started = performance.now();
    this.#machine.submit(new Array<Run>(times).fill(this.#runs.get(variant)!));
    await this.#machine.idle();
    return (performance.now() - started) / times;
  }

  /**
   * How many runs of a variant last about so many milliseconds, at most `most`. A submit and the wait for its end cost
   * the same for one run and for many, so they are tried by more and more.
   */
  async runsFor(variant: string, ms: number, most: number): Promise<number> {
    for (let times = 1; ; times = Math.min(most, 8 * times)) {
      const wanted = Math.round(ms / (await this.time(variant, times)));
      if (wanted < 2 * times || times === most) return Math.max(1, Math.min(most, wanted));
    }
  }

  /** Frees all that it holds. */
  destroy(): void {
    for (const workspace of this.#workspaces) workspace.destroy();
    this.#machine.free(this.#storages);
  }
}
