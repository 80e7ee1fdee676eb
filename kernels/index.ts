// Every kernel under test, timing and costing: a kernel is in when its line is here.

import type { AnyKernel } from "../engine/kernel.ts";
import { advance } from "./advance.ts";
import { embedding } from "./embedding.ts";
import { gatedLinear } from "./gatedLinear.ts";
import { lastRow } from "./lastRow.ts";
import { linears } from "./linear.ts";
import { rmsNorm } from "./rmsNorm.ts";

export const allKernels: readonly AnyKernel[] = [
  advance,
  embedding,
  gatedLinear,
  lastRow,
  ...linears,
  rmsNorm,
];
