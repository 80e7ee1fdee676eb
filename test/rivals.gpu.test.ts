// The rivals agree with the references of the kernels that they are compared with, at all of their cases.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCase, toleranceOf } from "../bench/kernels/kernelCase.ts";
import { rivals } from "../bench/kernels/rivals.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { openGpu } from "../engine/gpuDevice.ts";
import { eligible, describe as spell } from "../engine/kernel.ts";
import { total } from "../engine/memory.ts";
import { allKernels } from "../kernels/index.ts";

let machine: GpuMachine;
beforeAll(async () => {
  machine = (await openGpu()).machine;
});
afterAll(() => machine.destroy());

for (const { kernel, rival } of rivals) {
  describe(kernel.name, () => {
    for (const sizes of kernel.cases) {
      test(`${rival} at ${spell(sizes)}`, async () => {
        expect(eligible(kernel, sizes, machine.variants.features), "variants that can run").toContain(rival);
        const differences = await runCase(machine, kernel, rival, sizes);
        for (const [binding, { nmse, largest }] of Object.entries(differences)) {
          const bound = toleranceOf(kernel, binding);
          expect(nmse, `${binding}: normalised mean squared error`).toBeLessThanOrEqual(bound.nmse);
          expect(largest, `${binding}: largest difference`).toBeLessThanOrEqual(bound.largest);
        }
        expect(total(machine.live()), "bytes left allocated").toBe(0);
      });
    }

    test(`${rival} is no variant that models run`, () => {
      const ours = allKernels.find(({ name }) => name === kernel.name);
      expect(Object.keys(ours?.variants ?? {})).toEqual(
        Object.keys(kernel.variants).filter((name) => name !== rival),
      );
    });
  });
}
