// Every kernel under test, timing and costing: a kernel is in when its line is here.

import type { AnyKernel } from "../engine/kernel.ts";
import { advance } from "./advance.ts";
import { attentions } from "./attention.ts";
import { causalConv } from "./causalConv.ts";
import { embedding } from "./embedding.ts";
import { forgetGate } from "./forgetGate.ts";
import { gatedLinear } from "./gatedLinear.ts";
import { gatedLinearAttention } from "./gatedLinearAttention.ts";
import { headNorms } from "./headNorm.ts";
import { lastRow } from "./lastRow.ts";
import { linears } from "./linear.ts";
import { linearAttentions } from "./linearAttention.ts";
import { ringStore } from "./ringStore.ts";
import { rmsNorm } from "./rmsNorm.ts";
import { ropes } from "./rope.ts";
import { segmentNorms } from "./segmentNorm.ts";
import { selectiveScan } from "./selectiveScan.ts";

export const allKernels: readonly AnyKernel[] = [
  advance,
  ...attentions,
  causalConv,
  embedding,
  forgetGate,
  gatedLinear,
  gatedLinearAttention,
  ...headNorms,
  lastRow,
  ...linearAttentions,
  ...linears,
  ringStore,
  rmsNorm,
  ...ropes,
  ...segmentNorms,
  selectiveScan,
];
