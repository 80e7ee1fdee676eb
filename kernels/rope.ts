// Rotary positions (Su et al. 2021, arXiv 2104.09864, section 3.2.2): pair (i, i + D/2) of a head of D columns is turned by
// position * theta^(-2i/D), in the order of pairs that Llama's published weights have.
// WGSL promises sin and cos only near zero, so the angle of position = 1024 * coarse + fine is the sum of two that
// stand in tables made in doubles: positions reach past 2^20.

/** Positions of the fine table, one by one. */
export const ROPE_STEPS = 1024;
/** Positions of the coarse table, ROPE_STEPS apart: 2^20, and room to generate after a context that long. */
export const ROPE_STRIDES = 1088;
/** Positions that the tables reach. */
export const ROPE_POSITIONS = ROPE_STRIDES * ROPE_STEPS;

/** cos and sin of every pair: at positions 1024 c (coarse, [1088, D]) and at positions f < 1024 (fine, [1024, D]). */
export function ropeTables(
  theta: number,
  D: number,
): { coarse: Float32Array<ArrayBuffer>; fine: Float32Array<ArrayBuffer> } {
  const table = (positions: number, stride: number) => {
    const values = new Float32Array(positions * D);
    for (let step = 0; step < positions; step++)
      for (let i = 0; i < D / 2; i++) {
        const angle = step * stride * theta ** ((-2 * i) / D);
        values[step * D + 2 * i] = Math.cos(angle);
        values[step * D + 2 * i + 1] = Math.sin(angle);
      }
    return values;
  };
  return { coarse: table(ROPE_STRIDES, ROPE_STEPS), fine: table(ROPE_STEPS, 1) };
}

/** WGSL: a pair of queries or keys turned to a position. */
export const turnedWgsl = `fn turned(x: vec2f, at: u32, pair: u32) -> vec2f {
  let c = min(at / ${ROPE_STEPS}u, ${ROPE_STRIDES - 1}u) * D4 * 4u + 2u * pair;
  let f = at % ${ROPE_STEPS}u * D4 * 4u + 2u * pair;
  let a = vec2f(coarse[c], coarse[c + 1u]);
  let b = vec2f(fine[f], fine[f + 1u]);
  let cosine = a.x * b.x - a.y * b.y;
  let sine = a.y * b.x + a.x * b.y;
  return vec2f(x.x * cosine - x.y * sine, x.y * cosine + x.x * sine);
}`;
