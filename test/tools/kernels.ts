// `npx tsx test/tools/kernels.ts [NAME...]`: every case of every variant of the named kernels, on Dawn in Node.

import { runCase, toleranceOf } from "../../bench/kernels/kernelCase.ts";
import { dawnInNode } from "../../bench/node.ts";
import { openGpu } from "../../engine/gpuDevice.ts";
import { eligible } from "../../engine/kernel.ts";
import { allKernels, kernelsStoring } from "../../kernels/index.ts";

const names = process.argv.slice(2);
const { gpu } = await dawnInNode();
const { machine, adapter } = await openGpu({ gpu });
console.log(`adapter: ${adapter.name}`);
let failed = 0;
for (const kernel of [...allKernels, ...kernelsStoring("f16"), ...kernelsStoring("int8")]) {
  if (names.length > 0 && !names.some((n) => kernel.name.startsWith(n))) continue;
  for (const s of kernel.cases) {
    for (const variant of eligible(kernel, s, machine.variants.features)) {
      const started = performance.now();
      let line: string;
      let ok = true;
      try {
        const differences = await runCase(machine, kernel, variant, s);
        ok = Object.entries(differences).every(([name, { nmse, largest }]) => {
          const bound = toleranceOf(kernel, name);
          return nmse <= bound.nmse && largest <= bound.largest;
        });
        line = Object.entries(differences)
          .map(([n, d]) => `${n} ${d.nmse.toExponential(1)} ${d.largest.toExponential(1)}`)
          .join(", ");
      } catch (error) {
        ok = false;
        line = `${(error as Error).message}${"source" in (error as object) ? `\n${(error as { source: string }).source}` : ""}`;
      }
      if (!ok) failed++;
      console.log(
        `${ok ? "ok  " : "FAIL"} ${kernel.name}/${variant} ${JSON.stringify(s)} ${line} (${(performance.now() - started).toFixed(0)} ms)`,
      );
    }
  }
}
console.log(failed === 0 ? "all agree with their references" : `${failed} failed`);
machine.destroy();
process.exit(failed === 0 ? 0 : 1);
