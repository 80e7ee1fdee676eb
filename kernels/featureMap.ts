// The feature maps of linear attention, on queries and keys (Katharopoulos et al. 2020, arXiv 2006.16236, eq. 7).

/**
 * `elu` is elu(x) + 1 as PyTorch computes it in f32, which is how models were trained: expm1 near -1 has steps of 2^-24
 * and is -1 from ln(2^-24) down. A trained model puts many keys there, divides by sums of them, and so feels each step.
 */
export type FeatureMap = "elu" | "relu" | "identity";

const STEP = 2 ** -24;
const LOWEST = Math.log(STEP);

export const featureMaps: Record<FeatureMap, (x: number) => number> = {
  elu: (x) => (x > 0 ? x + 1 : x < LOWEST ? 0 : Math.round(Math.exp(x) / STEP) * STEP),
  relu: (x) => Math.max(x, 0),
  identity: (x) => x,
};

/** `feature(x: f32) -> f32`. */
export const featureWgsl: Record<FeatureMap, string> = {
  // WGSL's exp is vague by |x| units in the last place: e^x = 2^n e^r with |r| <= ln(2) / 2, ln 2 in two parts
  elu: `
fn feature(x: f32) -> f32 {
  let below = clamp(x, ${LOWEST}, 0.0);
  let n = round(below * ${Math.LOG2E});
  let r = (below - n * 0.693359375) + n * 2.12194440e-4;
  let steps = round(exp(r) * bitcast<f32>((i32(n) + ${127 + 24}) << 23u));
  return select(select(steps * ${STEP}, 0.0, x < ${LOWEST}), x + 1.0, x > 0.0);
}`,
  relu: "fn feature(x: f32) -> f32 { return max(x, 0.0); }",
  identity: "fn feature(x: f32) -> f32 { return x; }",
};
