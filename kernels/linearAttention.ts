// Linear attention, one token after another (Katharopoulos et al. 2020, arXiv 2006.16236, eq. 16-20):
//   S_t = S_{t-1} + f(k_t) v_t^T    o_t = Dk^-1/2 S_t^T f(q_t)    and where normalised
//   z_t = z_{t-1} + f(k_t)          denominator_t = Dk^-1/2 z_t . f(q_t)
// The quotient o / denominator is left to whoever reads o (headNorm): the threads that hold S would all have to read
// z while one of them replaces it.

import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  read,
  update,
  write,
} from "../engine/kernel.ts";
import { memo } from "../engine/memo.ts";
import type { FeatureMap } from "./featureMap.ts";
import {
  RECURRENCE_LETTERS,
  type RecurrenceArrays,
  type RecurrenceLetter,
  recurrenceBytes,
  recurrenceFlops,
  recurrenceReference,
  recurrenceVariants,
  someActivations,
  someCounts,
} from "./recurrence.ts";

export interface LinearAttentionOptions {
  /** f, on queries and keys. */
  featureMap: FeatureMap;
  /** Carry the sum of keys in `keySum`, and write `denominator`. */
  normalise?: boolean;
}

type Letter = RecurrenceLetter;
type Tensors<Opt extends LinearAttentionOptions> = {
  /** Columns [q: Hq Dk | k: Hk Dk | v: Hk Dv | anything]. */
  qkv: Binding<"B" | "T" | "W", "f32">;
  cursor: Binding<"B", "u32">;
  state: Binding<"B" | "Hk" | "Dk" | "Dv", "f32">;
  o: Binding<"B" | "T" | "Hq" | "Dv", "f32">;
} & (Opt extends { normalise: true }
  ? { keySum: Binding<"B" | "Hk" | "Dk", "f32">; denominator: Binding<"B" | "T" | "Hq", "f32"> }
  : unknown);

/** The kernel with these options. */
export function linearAttention<const Opt extends LinearAttentionOptions>(
  options: Opt,
): Kernel<Letter, Tensors<Opt>> {
  const key = `${options.featureMap}${options.normalise ? "+normalise" : ""}`;
  const kernel = memo(made, key, () => make(options, key));
  return kernel as unknown as Kernel<Letter, Tensors<Opt>>;
}
const made = new Map<string, Kernel<Letter>>();

const make = ({ featureMap, normalise = false }: LinearAttentionOptions, key: string) => {
  const recurrence = { featureMap, normalise, gated: false };
  return defineKernel({
    name: `linearAttention[${key}]`,
    consts: RECURRENCE_LETTERS,
    bindings: {
      qkv: read("f32", "B", "T", "W"),
      cursor: read("u32", "B", 8),
      state: update("f32", "B", "Hk", "Dk", "Dv"),
      ...(normalise ? { keySum: update("f32", "B", "Hk", "Dk") } : {}),
      o: write("f32", "B", "T", "Hq", "Dv"),
      ...(normalise ? { denominator: write("f32", "B", "T", "Hq") } : {}),
    } as Bindings<Letter>,
    variants: recurrenceVariants(recurrence),
    reference: (t, s) => recurrenceReference(t as unknown as RecurrenceArrays, s, recurrence),
    flops: (s) => recurrenceFlops(s, recurrence),
    bytes: (s) => recurrenceBytes(s, recurrence),
    cases: [
      { B: 3, T: 5, Hq: 3, Hk: 3, Dk: 5, Dv: 7, W: 54 },
      { B: 3, T: 40, Hq: 4, Hk: 4, Dk: 32, Dv: 32, W: 384 },
      { B: 1, T: 1, Hq: 4, Hk: 4, Dk: 32, Dv: 32, W: 384 },
      { B: 3, T: 200, Hq: 2, Hk: 2, Dk: 5, Dv: 7, W: 35 },
      // the feature map is all that sets the others apart
      ...(featureMap === "elu"
        ? [
            { B: 2, T: 19, Hq: 4, Hk: 2, Dk: 70, Dv: 21, W: 470 },
            { B: 1, T: 3, Hq: 2, Hk: 2, Dk: 128, Dv: 64, W: 640 },
            { B: 1, T: 64, Hq: 4, Hk: 2, Dk: 70, Dv: 21, W: 470 },
            { B: 1, T: 512, Hq: 4, Hk: 4, Dk: 32, Dv: 32, W: 384 },
          ]
        : []),
    ],
    fill: { cursor: someCounts, qkv: someActivations },
  });
};

/** Every feature map, with and without the normaliser: each a kernel of its own under test. */
export const linearAttentions = (["elu", "relu", "identity"] as const).flatMap((featureMap) => [
  linearAttention({ featureMap }),
  linearAttention({ featureMap, normalise: true }),
]);
