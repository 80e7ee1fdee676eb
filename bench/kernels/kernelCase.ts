// One kernel, one variant, one case: GPU against reference, outputs and private scratch poisoned with NaN.

import type { GpuMachine } from "../../engine/gpu.ts";
import {
  type AnyKernel,
  type Binding,
  bindingSpec,
  constantsKey,
  describe,
  type Sizes,
} from "../../engine/kernel.ts";
import { record } from "../../engine/plan.ts";
import { type Data, elements, rounded, type Storage, type Tensor, zeros } from "../../engine/tensor.ts";
import { standIn } from "../../engine/trial.ts";
import { Workspace, whole } from "../../engine/workspace.ts";

/** Uniform in [-1, 1), the same on every machine. */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 2 - 1;
  };
}

export interface Difference {
  nmse: number;
  /** Largest |difference| over the largest |reference|. */
  largest: number;
}

export function compare(found: ArrayLike<number>, wanted: ArrayLike<number>): Difference {
  let error = 0;
  let power = 0;
  let worst = 0;
  let top = 0;
  for (let i = 0; i < wanted.length; i++) {
    const difference = found[i]! - wanted[i]!;
    if (!Number.isFinite(difference)) return { nmse: Number.NaN, largest: Number.NaN };
    error += difference ** 2;
    power += wanted[i]! ** 2;
    worst = Math.max(worst, Math.abs(difference));
    top = Math.max(top, Math.abs(wanted[i]!));
  }
  return { nmse: error / (power + 1e-30), largest: worst / (top + 1e-30) };
}

const DEFAULT_TOLERANCE = { nmse: 1e-11, largest: 1e-5 };

/** What storing adds: half a unit in the last place of f16, half a step of int8, of which 127 reach the largest of a row. */
const STORING = { f16: { nmse: 1e-7, largest: 2 ** -11 }, int8: { nmse: 1e-4, largest: 1 / 252 } };

/** How far what a kernel writes may be from its reference, which rounds nothing. */
export function toleranceOf(kernel: AnyKernel, binding: string): Difference {
  const { type } = kernel.bindings[binding] as Binding;
  return type === "f16" || type === "int8" ? STORING[type] : (kernel.tolerance ?? DEFAULT_TOLERANCE);
}

/** What a kernel's own rule or uniform random numbers put into its bindings, as it is stored; what it writes holds NaN. */
function inputs(kernel: AnyKernel, s: Sizes): Record<string, Data> {
  const random = randomSource(1 + kernel.cases.indexOf(s));
  const out: Record<string, Data> = {};
  for (const [name, binding] of Object.entries(kernel.bindings) as [string, Binding][]) {
    const spec = bindingSpec(binding, s);
    const n = elements(spec);
    const data = zeros(binding.type, n);
    const fill = kernel.fill?.[name]?.(s, random) as Data | undefined;
    if (fill) data.set(fill);
    else if (binding.access === "write") data.fill(Number.NaN);
    else if (binding.type !== "u32") for (let i = 0; i < n; i++) data[i] = random();
    out[name] = rounded(spec, data);
  }
  return out;
}

/** Runs a variant once over these contents of its bindings and gives what it wrote. Private scratch is poisoned. */
export async function execute(
  machine: GpuMachine,
  kernel: AnyKernel,
  variant: string,
  s: Sizes,
  contents: Readonly<Record<string, Data>>,
): Promise<Record<string, Data>> {
  const bindings = Object.entries(kernel.bindings) as [string, Binding][];
  const tensors: Record<string, Tensor> = {};
  const storages: Storage[] = [];
  for (const [name, binding] of bindings) {
    tensors[name] = standIn(`${kernel.name}.${name}`, binding, s);
    storages.push(...tensors[name].storages);
  }
  machine.variants.verdicts.set(constantsKey(kernel, s), variant);
  const plan = record(kernel.name, (m) => m.run(kernel, tensors, s));
  const poisoned: Storage[] = [];
  const allocate = machine.allocate.bind(machine);
  machine.allocate = (list) => {
    poisoned.push(...list.filter((x) => x.category === "scratch"));
    return allocate(list);
  };
  const workspace = new Workspace(machine, [plan]);
  try {
    await machine.allocate(storages);
    await workspace.open();
    for (const x of poisoned) machine.write(whole(x), new Uint32Array(x.bytes / 4).fill(0x7fc00000));
    for (const [name, data] of Object.entries(contents)) machine.write(tensors[name]!, data);
    const run = workspace.run(plan, { first: 0, last: Number.POSITIVE_INFINITY });
    await machine.prepare(run.dispatches);
    machine.submit([run]);
    const found: Record<string, Data> = {};
    for (const [name, binding] of bindings) {
      if (binding.access !== "read") found[name] = await machine.read(tensors[name]!);
    }
    return found;
  } finally {
    machine.allocate = allocate;
    machine.variants.verdicts.delete(constantsKey(kernel, s));
    workspace.destroy();
    machine.free(storages);
  }
}

/** Differences by binding; u32 outputs must be equal. Throws where something cannot run. */
export async function runCase(
  machine: GpuMachine,
  kernel: AnyKernel,
  variant: string,
  s: Sizes,
): Promise<Record<string, Difference>> {
  const wanted = inputs(kernel, s);
  const before = Object.fromEntries(Object.entries(wanted).map(([name, data]) => [name, data.slice()]));
  kernel.reference(wanted, s);
  const differences: Record<string, Difference> = {};
  for (const [name, found] of Object.entries(await execute(machine, kernel, variant, s, before))) {
    const difference = compare(found, wanted[name]!);
    if (found instanceof Uint32Array && difference.largest !== 0) {
      const at = found.findIndex((x, i) => x !== wanted[name]![i]);
      throw new Error(
        `${kernel.name}/${variant}(${describe(s)}): ${name}[${at}] is ${found[at]}, the reference has ${wanted[name]![at]}`,
      );
    }
    differences[name] = difference;
  }
  return differences;
}
