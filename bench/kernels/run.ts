// npm run bench -- --kernels: every variant of every kernel, at its cases and at the sizes that models run it at.

import type { GpuMachine } from "../../engine/gpu.ts";
import { allKernels } from "../../kernels/index.ts";
import { higherRoof, measureRoof, type Roof } from "../meters/roof.ts";
import type { Emit } from "../run.ts";
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
  | { type: "targets"; targets: Target[] };

export async function benchKernels(
  machine: GpuMachine,
  roof: Roof,
  models: readonly Ran[],
  { names, quick }: KernelsWanted,
  emit: Emit,
): Promise<void> {
  const { readGbs, gflops, dispatchNs } = roof;
  await emit({ type: "roofs", roofs: { read_gbs: readGbs, gflops, dispatch_ns: dispatchNs } });
  const kernels = allKernels.filter((kernel) => isNamed(kernel, names));
  const shapes = (await shapesOf(kernels, machine.variants, models)).filter(
    ({ usedBy }) => !quick || usedBy.some((by) => by !== "case"),
  );
  await emit({ type: "shapes", count: shapes.length });
  const bench = new KernelBench(machine, roof);
  for (const shape of shapes) {
    await emit({ type: "step", test: titleOf(shape), what: "timing" });
    await emit({ type: "kernel", times: await bench.measure(shape, quick) });
  }
  if (names.length > 0) return;
  const onFigure = (figure: string) => emit({ type: "step", test: figure, what: "timing" });
  // minutes later: another chance for a roof that was found while something else ran
  const again = await measureRoof(machine.device, machine.variants.suits === "cpu");
  const place = { machine, roof: higherRoof(roof, again), bench };
  await emit({ type: "targets", targets: await findTargets(place, onFigure) });
}

const titleOf = ({ kernel, usedBy }: Shape): string => `${kernel.name}, ${usedBy[0]}`;
