// At which sizes a kernel is timed: its own cases, and what the models run it at.

import { type AnyKernel, constantsKey, pagedLetter, type Sizes } from "../../engine/kernel.ts";
import type { VariantTable } from "../../engine/machine.ts";
import type { Architecture } from "../../engine/model.ts";
import { usedBy } from "../meters/theory.ts";
import type { Test } from "../tests.ts";

export interface Shape {
  kernel: AnyKernel;
  sizes: Sizes;
  /** Who runs the kernel at these sizes: "case", or models and tests. */
  usedBy: string[];
}

export interface Ran {
  model: string;
  architecture: Architecture;
  config: unknown;
  tests: readonly Test[];
}

/** Sizes that differ in what is compiled, or in the length of a cache. */
const keyOf = ({ kernel, sizes }: Pick<Shape, "kernel" | "sizes">): string => {
  const paged = pagedLetter(kernel);
  return `${constantsKey(kernel, sizes)} ${paged && sizes[paged]}`;
};

/** The shapes of these kernels, each once: cases first, then models in order. A cache is as long as its test is deep. */
export async function shapesOf(
  kernels: readonly AnyKernel[],
  variants: VariantTable,
  models: readonly Ran[],
): Promise<Shape[]> {
  const shapes = new Map<string, Shape>();
  const add = (kernel: AnyKernel, sizes: Sizes, by: string) => {
    const key = keyOf({ kernel, sizes });
    const shape = shapes.get(key);
    if (!shape) shapes.set(key, { kernel, sizes, usedBy: [by] });
    else if (!shape.usedBy.includes(by)) shape.usedBy.push(by);
  };
  for (const kernel of kernels) for (const sizes of kernel.cases) add(kernel, sizes, "case");
  // kernels are made anew by their options, a name is what they are; over narrower tiles they are the same kernel
  const names = new Set(kernels.map(({ name }) => name));
  const isMeant = ({ name }: AnyKernel) => names.has(name.split("{", 1)[0]!);
  for (const { model, architecture, config, tests } of models) {
    for (const test of tests) {
      for (const { kernel, sizes } of await usedBy(variants, architecture, config, [test])) {
        if (!isMeant(kernel)) continue;
        const paged = pagedLetter(kernel);
        const depth = test.n_depth + test.n_prompt + test.n_gen;
        add(kernel, paged ? { ...sizes, [paged]: depth } : sizes, `${model} ${phaseOf(test)}`);
      }
    }
  }
  return [...shapes.values()];
}

/** pp512, or tg at a depth: a step's kernels do not know how many steps there will be. */
const phaseOf = ({ n_prompt, n_depth }: Test): string =>
  n_prompt > 0 ? `pp${n_prompt}` : `tg @ d${n_depth}`;
