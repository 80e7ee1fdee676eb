// Every kernel under test, timing and costing: a kernel is in when its line is here.

import { type AnyKernel, type Binding, storedAs } from "../engine/kernel.ts";
import type { StoredType } from "../engine/tiles.ts";
import { advance } from "./advance.ts";
import { argmax } from "./argmax.ts";
import { attentions } from "./attention.ts";
import { cacheFills } from "./cacheFill.ts";
import { causalConv } from "./causalConv.ts";
import { elmanCell } from "./elmanCell.ts";
import { embedding } from "./embedding.ts";
import { forgetGate } from "./forgetGate.ts";
import { gatedLinear } from "./gatedLinear.ts";
import { gatedLinearAttention } from "./gatedLinearAttention.ts";
import { gruCell } from "./gruCell.ts";
import { headNorms } from "./headNorm.ts";
import { lastRow } from "./lastRow.ts";
import { linears } from "./linear.ts";
import { linearAttentions } from "./linearAttention.ts";
import { lstmCell } from "./lstmCell.ts";
import { qkvRopes } from "./qkvRope.ts";
import { ringStores } from "./ringStore.ts";
import { rmsNorm } from "./rmsNorm.ts";
import { sample } from "./sample.ts";
import { segmentNorms } from "./segmentNorm.ts";
import { selectiveScan } from "./selectiveScan.ts";

export const allKernels: readonly AnyKernel[] = [
  advance,
  argmax,
  ...attentions,
  ...cacheFills,
  causalConv,
  elmanCell,
  embedding,
  forgetGate,
  gatedLinear,
  gatedLinearAttention,
  gruCell,
  ...headNorms,
  lastRow,
  ...linearAttentions,
  ...linears,
  lstmCell,
  ...qkvRopes,
  ...ringStores,
  rmsNorm,
  sample,
  ...segmentNorms,
  selectiveScan,
];

/** Tiles that models may store as another type: weights and caches. A chunk's own keys and values are scratch. */
const storable = (kernel: AnyKernel): string[] =>
  (Object.entries(kernel.bindings) as [string, Binding][])
    .filter(([name, { layout }]) => layout === "tiles" && name !== "chunk")
    .map(([name]) => name);

/** The kernels over weights and caches that are stored as this type, of those that have any. */
export const kernelsStoring = (type: StoredType): readonly AnyKernel[] =>
  allKernels.flatMap((kernel) => {
    const names = storable(kernel);
    if (names.length === 0) return [];
    return [storedAs(kernel, Object.fromEntries(names.map((name) => [name, type])))];
  });
