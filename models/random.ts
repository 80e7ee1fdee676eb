// Seeded random weights in the place of a checkpoint: any shape without a download. Matrices are normal with deviation
// 1/sqrt(inputs); the rest starts as its paper says, so that logits stay finite over long streams.

import type { ReadWeight } from "../engine/model.ts";

/** Uniform in (0, 1): a counter hashed by lowbias32 (Wellons 2018), so that a tensor does not depend on its neighbours. */
export function uniform(seed: number): () => number {
  let counter = seed >>> 0;
  return () => {
    counter = (counter + 0x9e3779b9) >>> 0;
    let x = counter;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    return (((x ^ (x >>> 16)) >>> 0) + 0.5) / 2 ** 32;
  };
}

const hash = (text: string): number => {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
};

/**
 * Normal numbers that matrices draw from: a hash and a look-up an element, where making a normal (Box & Muller 1958) takes a
 * logarithm and a cosine, most of the time that a model of seeded weights took to load.
 */
let pool: Float32Array | undefined;

function normals(): Float32Array {
  const random = uniform(0);
  return Float32Array.from(
    { length: 2 ** 16 },
    () => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random()),
  );
}

/** Same seed, name and shape: same numbers. */
export function randomWeights(seed: number): ReadWeight {
  return async (name, shape) => {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    const random = uniform(hash(name) ^ Math.imul(seed, 0x9e3779b1));
    const columns = shape.at(-1) ?? 1;
    if (/\.A_log$/.test(name)) return data.map((_, i) => Math.log(1 + (i % columns)));
    if (/norm[^.]*\.weight$/.test(name) || /\.D$/.test(name)) return data.fill(1);
    // softplus(bias) between 0.001 and 0.1 (Gu & Dao 2023, section 3.6)
    if (/dt_proj\.bias$/.test(name)) return data.map(() => Math.log(Math.expm1(0.001 * 100 ** random())));
    if (/bias/.test(name)) return data.map(() => 0.1 * (2 * random() - 1));
    const deviation = 1 / Math.sqrt(columns);
    pool ??= normals();
    for (let i = 0; i < data.length; i++) data[i] = deviation * pool[Math.floor(random() * pool.length)]!;
    return data;
  };
}
