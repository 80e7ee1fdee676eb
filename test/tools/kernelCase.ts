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
import {
  type Data,
  elements,
  pageSpec,
  pagesFor,
  type Storage,
  storedBytes,
  type Tensor,
} from "../../engine/tensor.ts";
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

export const DEFAULT_TOLERANCE = { nmse: 1e-11, largest: 1e-5 };

/** Differences by binding; u32 outputs must be equal. Throws where something cannot run. */
export async function runCase(
  machine: GpuMachine,
  kernel: AnyKernel,
  variant: string,
  s: Sizes,
): Promise<Record<string, Difference>> {
  const random = randomSource(1 + kernel.cases.indexOf(s));
  const bindings = Object.entries(kernel.bindings) as [string, Binding][];
  const wanted: Record<string, Data> = {};
  const tensors: Record<string, Tensor> = {};
  const storages: Storage[] = [];
  for (const [name, binding] of bindings) {
    const spec = bindingSpec(binding, s);
    const fill = kernel.fill?.[name]?.(s, random) as Data | undefined;
    const data = spec.type === "u32" ? new Uint32Array(elements(spec)) : new Float32Array(elements(spec));
    if (fill) data.set(fill);
    else if (binding.access === "write") data.fill(Number.NaN);
    else if (spec.type === "f32") for (let i = 0; i < data.length; i++) data[i] = random();
    wanted[name] = data;
    const label = `${kernel.name}.${name}`;
    const storage = (bytes: number): Storage => ({ category: "state", label, bytes });
    if (binding.paged) {
      const pages = pagesFor(s[binding.paged]!);
      if (pages.reduce((a, b) => a + b, 0) !== s[binding.paged])
        throw new Error(`${label}: ${s[binding.paged]} slots are no whole number of pages`);
      tensors[name] = {
        label,
        spec,
        offset: 0,
        storages: pages.map((p) => storage(storedBytes(pageSpec(spec, p)))),
        pages,
      };
    } else tensors[name] = { label, spec, offset: 0, storages: [storage(storedBytes(spec))] };
    storages.push(...tensors[name]!.storages);
  }
  const before = new Map(Object.entries(wanted).map(([name, data]) => [name, data.slice()]));
  kernel.reference(wanted, s);

  machine.variants.verdicts.set(constantsKey(kernel, s), variant);
  const plan = record(kernel.name, (m) => m.run(kernel, tensors, s));
  const poisoned: Storage[] = [];
  const allocate = machine.allocate.bind(machine);
  machine.allocate = (list) => {
    poisoned.push(...list.filter((x) => x.category === "scratch"));
    return allocate(list);
  };
  const workspace = new Workspace(machine, [plan]);
  const differences: Record<string, Difference> = {};
  try {
    await machine.allocate(storages);
    await workspace.open();
    for (const x of poisoned) machine.write(whole(x), new Uint32Array(x.bytes / 4).fill(0x7fc00000));
    for (const [name, data] of before) machine.write(tensors[name]!, data);
    const run = workspace.run(plan, { first: 0, last: Number.POSITIVE_INFINITY });
    await machine.prepare(run.dispatches);
    machine.submit([run]);
    for (const [name, binding] of bindings) {
      if (binding.access === "read") continue;
      const found = await machine.read(tensors[name]!);
      const difference = compare(found, wanted[name]!);
      if (binding.type === "u32" && difference.largest !== 0) {
        const at = found.findIndex((x, i) => x !== wanted[name]![i]);
        throw new Error(
          `${kernel.name}/${variant}(${describe(s)}): ${name}[${at}] is ${found[at]}, the reference has ${wanted[name]![at]}`,
        );
      }
      differences[name] = difference;
    }
  } finally {
    machine.allocate = allocate;
    machine.variants.verdicts.delete(constantsKey(kernel, s));
    workspace.destroy();
    machine.free(storages);
  }
  return differences;
}
