// npm run bench -- --kernels: every variant of every kernel, at its cases and at the sizes that models run it at.

import type { GpuMachine } from "../../engine/gpu.ts";
import { allKernels } from "../../kernels/index.ts";
import type { Roof } from "../meters/roof.ts";
import { isNamed, type KernelTime, type Roofs, type Target } from "./kernelTime.ts";
import { KernelBench } from "./measure.ts";
import { type Ran, type Shape, shapesOf } from "./shapes.ts";
import { findTargets } from "./targets.ts";

export interface KernelsWanted {
  /** Kernels by name; none: all. */
  names: readonly string[];
  /** Only variants meant for this class of adapter, and no cases. */
  quick: boolean;
}

export type KernelEvent =
  | { type: "roofs"; roofs: Roofs }
  /** How many shapes there will be. */
  | { type: "shapes"; count: number }
  /** All variants at one shape. */
  | { type: "kernel"; times: KernelTime[] }
  /** What must be reached, in the end. */
  | { type: "targets"; targets: Target[] }
  | { type: "step"; test: string | null; what: string };

export async function benchKernels(
  machine: GpuMachine,
  { readGbs, gflops, dispatchNs }: Roof,
  models: readonly Ran[],
  { names, quick }: KernelsWanted,
  emit: (event: KernelEvent) => void | Promise<void>,
): Promise<void> {
  const roofs: Roofs = { read_gbs: readGbs, gflops, dispatch_ns: dispatchNs };
  await emit({ type: "roofs", roofs });
  const kernels = allKernels.filter((kernel) => isNamed(kernel, names));
  const shapes = (await shapesOf(kernels, machine.variants, models)).filter(
    ({ usedBy }) => !quick || usedBy.some((by) => by !== "case"),
  );
  await emit({ type: "shapes", count: shapes.length });
  const bench = new KernelBench(machine, roofs, quick);
  for (const shape of shapes) {
    await emit({ type: "step", test: titleOf(shape), what: "timing" });
    await emit({ type: "kernel", times: await bench.measure(shape) });
  }
  if (names.length > 0) return;
  const onFigure = (figure: string) => emit({ type: "step", test: figure, what: "timing" });
  await emit({ type: "targets", targets: await findTargets(machine, roofs, onFigure) });
}

const titleOf = ({ kernel, usedBy }: Shape): string => `${kernel.name}, ${usedBy[0]}`;
