// Gated linear attention, one token after another (Yang et al. 2023, arXiv 2312.06635, eq. 4):
//   S_t = diag(a_t) S_{t-1} + k_t v_t^T        o_t = Dk^-1/2 S_t^T q_t
// with a decay in (0, 1] for each key channel, which forgetGate makes: here it would be made again by every thread
// that holds a column of S.

import { defineKernel, read, update, write } from "../engine/kernel.ts";
import {
  RECURRENCE_LETTERS,
  recurrenceBytes,
  recurrenceFlops,
  recurrenceReference,
  recurrenceVariants,
  someCounts,
} from "./recurrence.ts";

const recurrence = { featureMap: "identity", normalise: false, gated: true } as const;

export const gatedLinearAttention = defineKernel({
  name: "gatedLinearAttention",
  consts: RECURRENCE_LETTERS,
  bindings: {
    /** Columns [q: Hq Dk | k: Hk Dk | v: Hk Dv | anything]. */
    qkv: read("f32", "B", "T", "W"),
    decay: read("f32", "B", "T", "Hk", "Dk"),
    cursor: read("u32", "B", 8),
    state: update("f32", "B", "Hk", "Dk", "Dv"),
    o: write("f32", "B", "T", "Hq", "Dv"),
  },
  variants: recurrenceVariants(recurrence),
  reference: (t, s) => recurrenceReference(t, s, recurrence),
  flops: (s) => recurrenceFlops(s, recurrence),
  bytes: (s) => recurrenceBytes(s, recurrence),
  cases: [
    { B: 3, T: 5, Hq: 3, Hk: 3, Dk: 5, Dv: 7, W: 53 },
    { B: 2, T: 19, Hq: 4, Hk: 2, Dk: 70, Dv: 21, W: 462 },
    { B: 1, T: 1, Hq: 4, Hk: 4, Dk: 16, Dv: 32, W: 400 },
    { B: 3, T: 40, Hq: 4, Hk: 4, Dk: 16, Dv: 32, W: 400 },
    { B: 1, T: 3, Hq: 2, Hk: 2, Dk: 256, Dv: 64, W: 1152 },
    { B: 1, T: 64, Hq: 4, Hk: 2, Dk: 70, Dv: 21, W: 462 },
    { B: 3, T: 200, Hq: 2, Hk: 2, Dk: 5, Dv: 7, W: 35 },
    { B: 1, T: 512, Hq: 4, Hk: 4, Dk: 16, Dv: 32, W: 400 },
  ],
  fill: {
    cursor: someCounts,
    // of three channels one forgets almost all at each token, one nearly nothing over the longest case
    decay: ({ B, T, Hk, Dk }, random) =>
      Float32Array.from({ length: B * T * Hk * Dk }, (_, i) => {
        const x = random() ** 4;
        return [1 - x, x * x, 1 - x / 1024][(i % Dk) % 3]!;
      }),
  },
});
