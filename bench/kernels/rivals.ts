// Kernels as others write them, to compare ours with. Each is one more variant of a kernel of ours, and so shares its
// bindings, layouts, reference and cases; or, where that would lend it what it does not have, a kernel of its own with
// the reference and cases of ours. What models run never names it.

import { cursorWgsl } from "../../engine/cursor.ts";
import { type AnyKernel, defineKernel, read, type Variant, write } from "../../engine/kernel.ts";
import { ceilDiv, roundUp } from "../../engine/tensor.ts";
import { linear } from "../../kernels/linear.ts";
import { linearAttention } from "../../kernels/linearAttention.ts";
import { range, sharedWgsl, valueText } from "../../kernels/recurrence/common.ts";
import type { RecurrenceLetter } from "../../kernels/recurrence.ts";
import { main, siluWgsl, timeScratch, timeSteps } from "../../kernels/scan/common.ts";
import { type Letter as ScanLetter, selectiveScan } from "../../kernels/selectiveScan.ts";

export interface Rival {
  /** A kernel of ours with the rival among its variants. */
  kernel: AnyKernel;
  /** The rival's name there. */
  rival: string;
}

/** Lanes of a workgroup that adds up so many numbers: halved again and again, they must end in one. */
const lanesFor = (numbers: number) => 2 ** Math.ceil(Math.log2(numbers));
/** WebGPU's default limit. */
const MOST_LANES = 256;

/** Adds up what all lanes have put into these arrays. Element 0, the sum, is lane 0's to read: no other lane's. */
const addUp = (...arrays: string[]) => `workgroupBarrier();
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
      if (lane < stride) { ${arrays.map((array) => `${array}[lane] += ${array}[lane + stride];`).join(" ")} }
      workgroupBarrier();
    }`;

/**
 * A thread an output, as introductions to WebGPU and small libraries write it (the naive kernels of surfgrad, and of
 * Chrome's "Get started with GPU compute"): rows of both matrices, 8x8 threads, sizes that are known when it runs, and so
 * arrays without a size.
 */
export const plainLinear = defineKernel({
  name: "plainLinear",
  consts: [],
  params: ["M", "I", "O"],
  scalars: ["eps"],
  bindings: { w: read("f32", "O", "I"), x: read("f32", "M", "I"), y: write("f32", "M", "O") },
  variants: {
    plain: {
      suits: "any",
      passes: [
        {
          workgroup: 64,
          grid: ({ M, O }) => [ceilDiv(M, 8), ceilDiv(O, 8)],
          wgsl: `
fn padded(columns: u32) -> u32 { return (columns + 3u) / 4u * 4u; }
@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let m = id.x;
  let o = id.y;
  if (m >= params.M || o >= params.O) { return; }
  let stride = padded(params.I);
  var sum = 0.0;
  for (var i = 0u; i < params.I; i++) { sum += x[m * stride + i] * w[o * stride + i]; }
  y[m * padded(params.O) + o] = sum;
}`,
        },
      ],
    },
  },
  reference: (tensors, sizes) => linear({}).reference(tensors, sizes),
  flops: linear({}).flops,
  cases: linear({}).cases,
});

/** The same with its sizes compiled in, on our tiles: a row of W is every fourth float of a row of tiles. */
const sizedPlain: Variant<"M" | "I" | "O" | "eps"> = {
  suits: "any",
  views: { w: "f32" },
  passes: [
    {
      workgroup: 64,
      // y's padding too: there the tiles hold zeros
      grid: ({ M, O }) => ceilDiv(M * roundUp(O, 4), 64),
      wgsl: `${main}
  let i = workgroupIndex(wg) * WG + lane;
  let o = i % (O4 * 4u);
  let m = i / (O4 * 4u);
  if (m >= M) { return; }
  let row = o / 4u * I4 * 16u + o % 4u;
  var sum = 0.0;
  for (var k = 0u; k < I; k++) { sum += w[row + k * 4u] * x[m * I4 * 4u + k]; }
  y[i] = sum;
}`,
    },
  ],
};

/** A workgroup a channel, a lane a state, the form of llama.cpp's WebGPU scan; the time steps are made before. */
const scanTree: Variant<ScanLetter> = {
  suits: "gpu",
  when: ({ N }) => N <= MOST_LANES,
  views: { rbc: "vec4f" },
  scratch: timeScratch,
  passes: [
    timeSteps(64),
    {
      workgroup: ({ N }) => lanesFor(N),
      grid: ({ B, E }) => [E, B],
      wgsl: `${cursorWgsl}${siluWgsl("f32")}
var<workgroup> products: array<f32, WG>;
${main}
  let e = wg.x;
  let b = wg.y;
  let n = min(lane, N - 1u);
  let decay = a[n * E4 * 4u + e];
  var state = h[(b * N + n) * E4 * 4u + e];
  for (var row = b * T; row < b * T + count(b); row++) {
    let at = row * E4 * 4u + e;
    let step = dt[at];
    let x = u[at];
    state = exp(step * decay) * state + step * x * rbc[row * P4 + R4 + n / 4u][n % 4u];
    products[lane] = select(0.0, state * rbc[row * P4 + R4 + N4 + n / 4u][n % 4u], lane < N);
    ${addUp("products")}
    if (lane == 0u) {
      u[at] = (products[0] + biasD[E4 * 4u + e] * x) * silu(xz[(row * X4 + E4) * 4u + e]);
    }
  }
  if (lane < N) { h[(b * N + n) * E4 * 4u + e] = state; }
}`,
    },
  ],
};

/** Linear attention of Katharopoulos et al., as it is compared. */
export const recurrence = { featureMap: "elu", normalise: true, gated: false } as const;

/** A workgroup a head and four value columns, a lane a key row: the form of ONNX Runtime's LinearAttention. */
const attentionTree: Variant<RecurrenceLetter> = {
  suits: "gpu",
  when: ({ Dk }) => Dk <= MOST_LANES,
  views: { state: "vec4f", o: "vec4f" },
  passes: [
    {
      workgroup: ({ Dk }) => lanesFor(Dk),
      grid: ({ B, Hk, Dv }) => B * Hk * ceilDiv(Dv, 4),
      wgsl: (s) => `${sharedWgsl(recurrence)}
var<workgroup> products: array<vec4f, WG>;
var<workgroup> sums: array<f32, WG>;
${main}
  let i = workgroupIndex(wg);
  let c4 = i % Dv4;
  let h = i / Dv4 % Hk;
  let b = i / Dv4 / Hk;
  if (b >= B) { return; }
  let end = b * T + count(b);
  let d = min(lane, Dk - 1u);
  let stateAt = ((b * Hk + h) * Dk + d) * Dv4 + c4;
  let sumAt = (b * Hk + h) * Dk4 * 4u + d;
  var state4 = state[stateAt];
  // one of a head's workgroups carries the sum of keys: others may find it replaced
  let first = c4 == 0u;
  var sum = 0.0;
  if (first) { sum = keySum[sumAt]; }
  for (var token = b * T; token < end; token++) {
    let at = values(token, h) + c4 * 4u;
    let k = feature(qkv[keys(token, h) + d]);
    state4 += k * vec4f(${range(4)
      .map((l) => valueText(s, `at + ${l}u`, `c4 * 4u + ${l}u`))
      .join(", ")});
    sum += k;
    for (var g = 0u; g < G; g++) {
      let q = select(0.0, feature(qkv[queries(token, h) + g * Dk + d]), lane < Dk);
      products[lane] = q * state4;
      sums[lane] = q * sum;
      ${addUp("products", "sums")}
      if (lane == 0u) {
        o[(token * Hq + h * G + g) * Dv4 + c4] = SCALE * products[0];
        if (first) { denominator[token * Hq4 * 4u + h * G + g] = SCALE * sums[0]; }
      }
    }
  }
  // past the stream's count outputs are zero
  for (var j = end * G + lane; j < (b + 1u) * T * G; j += WG) {
    o[(j / G * Hq + h * G + j % G) * Dv4 + c4] = vec4f();
    if (first) { denominator[j / G * Hq4 * 4u + h * G + j % G] = 0.0; }
  }
  if (lane < Dk) {
    state[stateAt] = state4;
    if (first) { keySum[sumAt] = sum; }
  }
}`,
    },
  ],
};

const against = (kernel: AnyKernel, rival: string, variant: Variant): Rival => ({
  kernel: { ...kernel, variants: { ...kernel.variants, [rival]: variant } },
  rival,
});

export const rivals: readonly Rival[] = [
  { kernel: plainLinear, rival: "plain" },
  against(linear({}), "sizedPlain", sizedPlain),
  against(selectiveScan, "tree", scanTree),
  against(linearAttention(recurrence), "tree", attentionTree),
];
