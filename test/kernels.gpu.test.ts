// Every kernel, every variant that this adapter can run, every case: GPU against reference, outputs poisoned.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCase, toleranceOf } from "../bench/kernels/kernelCase.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { openGpu } from "../engine/gpuDevice.ts";
import { eligible, describe as spell } from "../engine/kernel.ts";
import { total } from "../engine/memory.ts";
import { allKernels, kernelsStoring } from "../kernels/index.ts";

let machine: GpuMachine;
beforeAll(async () => {
  machine = (await openGpu()).machine;
});
afterAll(() => machine.destroy());

const narrow = [...kernelsStoring("f16"), ...kernelsStoring("int8")];

for (const kernel of [...allKernels, ...narrow]) {
  describe(kernel.name, () => {
    const seen = new Set<string>();
    for (const sizes of kernel.cases) {
      for (const [variant, { needs = [], when, fallback }] of Object.entries(kernel.variants)) {
        if (when && !when(sizes)) continue;
        // another variant, which needs no feature, runs here
        if (fallback && !eligible(kernel, sizes, new Set()).includes(variant)) continue;
        // bodies do not know how tiles are stored: one case a variant shows that they read and write them
        if (narrow.includes(kernel) && seen.has(variant)) continue;
        seen.add(variant);
        test(`${variant} at ${spell(sizes)}`, async ({ annotate }) => {
          if (!eligible(kernel, sizes, machine.variants.features).includes(variant)) {
            await annotate(`not run: this adapter has no ${needs.join(", ")}`);
            return;
          }
          const differences = await runCase(machine, kernel, variant, sizes);
          for (const [binding, { nmse, largest }] of Object.entries(differences)) {
            const bound = toleranceOf(kernel, binding);
            expect(nmse, `${binding}: normalised mean squared error`).toBeLessThanOrEqual(bound.nmse);
            expect(largest, `${binding}: largest difference`).toBeLessThanOrEqual(bound.largest);
          }
          expect(total(machine.live()), "bytes left allocated").toBe(0);
        });
      }
    }
  });
}

test("every kernel has a case of odd size and variants for both classes of adapter", () => {
  for (const kernel of allKernels) {
    const suits = Object.values(kernel.variants).map((v) => v.suits);
    expect(suits.includes("any") || (suits.includes("cpu") && suits.includes("gpu")), kernel.name).toBe(true);
    expect(kernel.cases.length, kernel.name).toBeGreaterThan(1);
  }
});
