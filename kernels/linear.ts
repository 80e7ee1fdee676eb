// y = W n(x) [+ bias] [then activation] [+ y]: the product behind every projection.
// n(x) = x / sqrt(mean(x^2) + eps) where `norm` is on; RMSNorm's weight is multiplied into W when W is loaded, so that
// the norm costs one dot product a thread (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4).

import { type Binding, type Bindings, defineKernel, type Kernel, read, type Sizes, tiled, update, type Variant, write } from "../engine/kernel.ts";
import { ceilDiv, roundUp } from "../engine/tensor.ts";
import { softplus } from "./reference/math.ts";

export interface LinearOptions {
  /** Divide each row of x by its root mean square first. */
  norm?: boolean;
  /** Add bias [O]. */
  bias?: boolean;
  activation?: "softplus";
  /** Add to what y holds: the residual stream. */
  residual?: boolean;
}

//   M rows of x (streams x tokens)   I input features   O output features   eps RMSNorm's epsilon
type Letter = "M" | "I" | "O" | "eps";
type Tensors<Opt extends LinearOptions> = {
  w: Binding<"O" | "I", "f32">;
  x: Binding<"M" | "I", "f32">;
  y: Binding<"M" | "O", "f32">;
} & (Opt extends { bias: true } ? { bias: Binding<"O", "f32"> } : unknown);

/** The kernel with these options; `eps` is 0 and unused without `norm`. */
export function linear<const Opt extends LinearOptions>(options: Opt): Kernel<Letter, Tensors<Opt>> {
  const key = Object.keys(options).filter((k) => options[k as keyof Opt]).sort().join("+");
  let kernel = made.get(key);
  if (!kernel) made.set(key, (kernel = make(options, key)));
  return kernel as unknown as Kernel<Letter, Tensors<Opt>>;
}
const made = new Map<string, unknown>();

/** The fusions that models use: each is a kernel of its own under test. */
export const linears = [
  linear({}),
  linear({ norm: true }),
  linear({ bias: true }),
  linear({ residual: true }),
  linear({ norm: true, bias: true }),
  linear({ bias: true, activation: "softplus" }),
] as const;

const make = (options: LinearOptions, key: string) =>
  defineKernel({
    name: key ? `linear[${key}]` : "linear",
    consts: ["M", "I", "O"],
    scalars: ["eps"],
    bindings: {
      w: tiled(read("f32", "O", "I")),
      x: read("f32", "M", "I"),
      ...(options.bias ? { bias: read("f32", "O") } : {}),
      y: options.residual ? update("f32", "M", "O") : write("f32", "M", "O"),
    } as Bindings<Letter>,
    variants: variants(options),

    reference(t, { M, I, O, eps }) {
      const { w, x, y, bias } = t as Record<string, Float32Array>;
      for (let m = 0; m < M; m++) {
        let squares = 0;
        for (let i = 0; i < I; i++) squares += x![m * I + i]! ** 2;
        const scale = options.norm ? 1 / Math.sqrt(squares / I + eps) : 1;
        for (let o = 0; o < O; o++) {
          let sum = 0;
          for (let i = 0; i < I; i++) sum += w![o * I + i]! * x![m * I + i]!;
          let value = sum * scale + (bias ? bias[o]! : 0);
          if (options.activation === "softplus") value = softplus(value);
          y![m * O + o] = (options.residual ? y![m * O + o]! : 0) + value;
        }
      }
    },

    flops: ({ M, I, O }) => 2 * M * I * O,
    cases: [
      { M: 1, I: 33, O: 5, eps: 1e-5 },
      { M: 3, I: 20, O: 37, eps: 1e-6 },
      { M: 21, I: 37, O: 41, eps: 1e-5 },
      { M: 1, I: 128, O: 384, eps: 1e-6 },
      { M: 64, I: 128, O: 256, eps: 1e-6 },
    ],
  });

/** Rows of x that a thread multiplies with the tile of W it has loaded. */
const block = (M: number) => Math.min(M, 8);
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

const epilogue = (options: LinearOptions) => `
fn finish(sum: vec4f, squares: f32, m: u32, o4: u32) {
  if (m >= M) { return; }
  var v = sum${options.norm ? " * inverseSqrt(squares / f32(I) + eps)" : ""};
  ${options.bias ? "v += bias[o4];" : ""}
  ${options.activation === "softplus" ? "v = max(v, vec4f()) + log(1.0 + exp(-abs(v)));" : ""}
  y[m * O4 + o4] ${options.residual ? "+=" : "="} v;
}`;

function variants(options: LinearOptions): Record<string, Variant<Letter>> {
  const views = { x: "vec4f", y: "vec4f", bias: "vec4f" } as const;
  const squares = (code: string) => (options.norm ? code : "");
  const threads = ({ M, O }: Sizes<"M" | "O">) => ceilDiv(O, 4) * ceilDiv(M, block(M));
  return {
    // Lanes 0..3 hold consecutive tiles of W and share eight rows of x: each lane loads two and the quad passes them on.
    quad: {
      suits: "cpu",
      needs: ["subgroups"],
      when: ({ M }) => M >= 8,
      views,
      passes: [
        {
          workgroup: 16,
          grid: ({ M, O }) => ceilDiv(roundUp(ceilDiv(O, 4), 4) * ceilDiv(M, 8), 16),
          wgsl: `${epilogue(options)}
const QUADS = (O4 + 3u) / 4u;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let o4 = (i / 4u % QUADS) * 4u + i % 4u;
  let m = i / 4u / QUADS * 8u;
  let tile = min(o4, O4 - 1u) * I4;
  let rowA = min(m + i % 4u, M - 1u) * I4;
  let rowB = min(m + 4u + i % 4u, M - 1u) * I4;
  ${range(8).map((r) => `var a${r} = vec4f();`).join(" ")}
  var squaresA = 0.0; var squaresB = 0.0;
  for (var k = 0u; k < I4; k++) {
    let t = w[tile + k]; let xa = x[rowA + k]; let xb = x[rowB + k];
    ${squares("squaresA += dot(xa, xa); squaresB += dot(xb, xb);")}
    ${range(4).map((r) => `a${r} += t * quadBroadcast(xa, ${r}u); a${r + 4} += t * quadBroadcast(xb, ${r}u);`).join("\n    ")}
  }
  ${range(4).map((r) => `let s${r} = quadBroadcast(squaresA, ${r}u); let s${r + 4} = quadBroadcast(squaresB, ${r}u);`).join("\n  ")}
  if (o4 >= O4) { return; }
  ${range(8).map((r) => `finish(a${r}, s${r}, m + ${r}u, o4);`).join("\n  ")}
}`,
        },
      ],
    },
    // A thread owns four outputs of up to eight rows; every tile of W is read once.
    tiles: {
      suits: "cpu",
      views,
      passes: [
        {
          workgroup: (s) => (threads(s) < 64 ? 4 : 16),
          grid: (s) => ceilDiv(threads(s), threads(s) < 64 ? 4 : 16),
          wgsl: ({ M }) => `${epilogue(options)}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let o4 = i % O4;
  let m = i / O4 * ${block(M)}u;
  if (m >= M) { return; }
  let tile = o4 * I4;
  ${range(block(M)).map((r) => `let row${r} = min(m + ${r}u, M - 1u) * I4; var a${r} = vec4f(); var s${r} = 0.0;`).join("\n  ")}
  for (var k = 0u; k < I4; k++) {
    let t = w[tile + k];
    ${range(block(M)).map((r) => `{ let v = x[row${r} + k]; a${r} += t * v; ${squares(`s${r} += dot(v, v);`)} }`).join("\n    ")}
  }
  ${range(block(M)).map((r) => `finish(a${r}, s${r}, m + ${r}u, o4);`).join("\n  ")}
}`,
        },
      ],
    },
    // A workgroup owns one row of tiles: its lanes stride over the inputs, so that a warp reads W in one run.
    workgroup: {
      suits: "gpu",
      when: ({ M }) => M < 8,
      views,
      passes: [
        {
          workgroup: 64,
          grid: ({ O }) => ceilDiv(O, 4),
          wgsl: ({ M }) => `${epilogue(options)}
var<workgroup> partial: array<vec4f, 64 * ${M}>;
var<workgroup> partialSquares: array<f32, 64 * ${M}>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let o4 = workgroupIndex(wg);
  let tile = min(o4, O4 - 1u) * I4;
  ${range(M).map((r) => `var a${r} = vec4f(); var s${r} = 0.0;`).join("\n  ")}
  for (var k = lane; k < I4; k += WG) {
    let t = w[tile + k];
    ${range(M).map((r) => `{ let v = x[${r}u * I4 + k]; a${r} += t * v; ${squares(`s${r} += dot(v, v);`)} }`).join("\n    ")}
  }
  ${range(M).map((r) => `partial[${r}u * 64u + lane] = a${r}; ${squares(`partialSquares[${r}u * 64u + lane] = s${r};`)}`).join("\n  ")}
  workgroupBarrier();
  for (var stride = 32u; stride > 0u; stride /= 2u) {
    if (lane < stride) {
      ${range(M).map((r) => `partial[${r}u * 64u + lane] += partial[${r}u * 64u + lane + stride]; ${squares(`partialSquares[${r}u * 64u + lane] += partialSquares[${r}u * 64u + lane + stride];`)}`).join("\n      ")}
    }
    workgroupBarrier();
  }
  if (lane < ${M}u && o4 < O4) { finish(partial[lane * 64u], ${options.norm ? "partialSquares[lane * 64u]" : "0.0"}, lane, o4); }
}`,
        },
      ],
    },
    // 32 rows of x by 64 outputs a workgroup; x is staged through workgroup memory, four columns of tiles at a time.
    shared: {
      suits: "gpu",
      when: ({ M }) => M >= 8,
      views,
      passes: [
        {
          workgroup: 64,
          grid: ({ M, O }) => [ceilDiv(O, 64), ceilDiv(M, 32)],
          wgsl: `${epilogue(options)}
var<workgroup> slab: array<vec4f, 128>;  // [32 rows, 4]
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let o4 = wg.x * 16u + lane % 16u;
  let rows = lane / 16u * 8u;
  let tile = min(o4, O4 - 1u) * I4;
  ${range(8).map((r) => `var a${r} = vec4f(); var s${r} = 0.0;`).join("\n  ")}
  for (var k0 = 0u; k0 < I4; k0 += 4u) {
    workgroupBarrier();
    for (var j = lane; j < 128u; j += WG) {
      let k = k0 + j % 4u;
      slab[j] = select(vec4f(), x[min(wg.y * 32u + j / 4u, M - 1u) * I4 + min(k, I4 - 1u)], k < I4);
    }
    workgroupBarrier();
    for (var k = 0u; k < min(4u, I4 - k0); k++) {
      let t = w[tile + k0 + k];
      ${range(8).map((r) => `{ let v = slab[(rows + ${r}u) * 4u + k]; a${r} += t * v; ${squares(`s${r} += dot(v, v);`)} }`).join("\n      ")}
    }
  }
  if (o4 >= O4) { return; }
  ${range(8).map((r) => `finish(a${r}, s${r}, wg.y * 32u + rows + ${r}u, o4);`).join("\n  ")}
}`,
        },
      ],
    },
  };
}
