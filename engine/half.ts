// IEEE 754 binary16 ("half", f16) to and from f32.

let f16Bits: Uint32Array | undefined;

/** The f32 bit pattern of each of the 65,536 f16 values: faster than arithmetic, and NaNs keep their payload. */
function f16Table(): Uint32Array {
  const table = new Uint32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >> 10) & 31;
    const mantissa = half & 1023;
    let bits: number;
    if (exponent === 31) bits = 0x7f800000 | (mantissa << 13);
    else if (exponent > 0) bits = ((exponent + 112) << 23) | (mantissa << 13);
    else if (mantissa === 0) bits = 0;
    else {
      // A subnormal, mantissa * 2^-24, is normal in f32: its leading bit becomes the implied one.
      const lead = 31 - Math.clz32(mantissa);
      bits = ((lead + 103) << 23) | ((mantissa << (23 - lead)) & 0x7fffff);
    }
    table[half] = sign | bits;
  }
  return table;
}

export function fromF16(halves: Uint16Array): Float32Array<ArrayBuffer> {
  f16Bits ??= f16Table();
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = f16Bits[halves[i]!]!;
  return new Float32Array(bits.buffer);
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The bits of the f16 nearest to a number that is rounded to f32 first, ties to even; past 65,519 it is infinite. */
export function halfBits(x: number): number {
  scratch[0] = x;
  const bits = scratchBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // normal: the exponent's bias changes by 112, and 13 bits of the mantissa are rounded away
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  // at most half of the smallest subnormal, 2^-24
  if (magnitude <= 0x33000000) return sign;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const dropped = 126 - (magnitude >>> 23);
  const kept = mantissa >>> dropped;
  const rest = mantissa & ((1 << dropped) - 1);
  const middle = 1 << (dropped - 1);
  return sign | (kept + (rest > middle || (rest === middle && (kept & 1) === 1) ? 1 : 0));
}
