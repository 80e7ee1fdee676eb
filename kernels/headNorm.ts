// What linear attention does with a head's output before the output product:
//   u = o / (denominator + 1e-10)  where normalised     y = u / sqrt(mean(u^2) + eps) [* silu(g)]
// RMSNorm of each head by itself (Zhang & Sennrich 2019, arXiv 1910.07467), its weight multiplied into the columns of
// the output product when that is loaded; the gate is Yang et al. 2023, arXiv 2312.06635, section 4.4.

import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  read,
  type Sizes,
  type Variant,
  write,
} from "../engine/kernel.ts";
import { memo } from "../engine/memo.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { silu } from "./reference/math.ts";

export interface HeadNormOptions {
  /** Divide each head's output by its `denominator` first. */
  normalise?: boolean;
  /** Multiply by silu of the last H D columns of `gate`. */
  gate?: boolean;
}

//   M rows (streams x tokens)   H heads   D width of a head   N = H D   eps RMSNorm's epsilon
//   W columns of `gate` (0 without one)
type Letter = "M" | "H" | "D" | "N" | "W" | "eps";
type Tensors<Opt extends HeadNormOptions> = {
  o: Binding<"M" | "H" | "D", "f32">;
  y: Binding<"M" | "N", "f32">;
} & (Opt extends { normalise: true } ? { denominator: Binding<"M" | "H", "f32"> } : unknown) &
  (Opt extends { gate: true } ? { gate: Binding<"M" | "W", "f32"> } : unknown);

/** The kernel with these options. */
export function headNorm<const Opt extends HeadNormOptions>(options: Opt): Kernel<Letter, Tensors<Opt>> {
  const key = [options.normalise ? "normalise" : [], options.gate ? "gate" : []].flat().join("+");
  const kernel = memo(made, key, () => make(options, key));
  return kernel as unknown as Kernel<Letter, Tensors<Opt>>;
}
const made = new Map<string, Kernel<Letter>>();

/** As fla: keeps an empty sum of keys from dividing by zero. */
const LEAST = 1e-10;

const make = (options: HeadNormOptions, key: string) =>
  defineKernel({
    name: key ? `headNorm[${key}]` : "headNorm",
    consts: ["M", "H", "D", "N", "W"],
    scalars: ["eps"],
    bindings: {
      o: read("f32", "M", "H", "D"),
      ...(options.normalise ? { denominator: read("f32", "M", "H") } : {}),
      ...(options.gate ? { gate: read("f32", "M", "W") } : {}),
      y: write("f32", "M", "N"),
    } as Bindings<Letter>,
    variants: variants(options),

    reference(t, { M, H, D, N, W, eps }) {
      const { o, denominator, gate, y } = t as Record<string, Float32Array>;
      for (let m = 0; m < M; m++)
        for (let h = 0; h < H; h++) {
          const at = (m * H + h) * D;
          const divisor = denominator ? denominator[m * H + h]! + LEAST : 1;
          let squares = 0;
          for (let d = 0; d < D; d++) squares += (o![at + d]! / divisor) ** 2;
          const scale = 1 / Math.sqrt(squares / D + eps) / divisor;
          for (let d = 0; d < D; d++) {
            const factor = gate ? silu(gate[(m + 1) * W - N + h * D + d]!) : 1;
            y![m * N + h * D + d] = o![at + d]! * scale * factor;
          }
        }
    },

    flops: ({ M, N }) => M * N * (3 + (options.gate ? 5 : 0)),
    bytes: ({ M, N, H }) => 4 * M * (N * (options.gate ? 3 : 2) + (options.normalise ? H : 0)),
    cases: [
      { M: 3, H: 3, D: 7, N: 21, W: 25, eps: 1e-5 },
      { M: 1, H: 4, D: 32, N: 128, W: 400, eps: 1e-6 },
      { M: 35, H: 4, D: 32, N: 128, W: 400, eps: 1e-6 },
      { M: 2, H: 2, D: 300, N: 600, W: 600, eps: 1e-6 },
    ],
    // denominators are sums of products of positive features
    fill: options.normalise
      ? {
          denominator: ({ M, H }: Sizes<Letter>, random: () => number) =>
            Float32Array.from({ length: M * H }, () => 2 + random()),
        }
      : {},
  });

function variants({ normalise, gate }: HeadNormOptions): Record<string, Variant<Letter>> {
  const divisor = normalise ? `1.0 / (denominator[m * (H4 * 4u) + h] + ${LEAST})` : "1.0";
  const gated = (d: string) => (gate ? ` * silu(gate[m * (W4 * 4u) + W - N + h * D + ${d}])` : "");
  const silu = gate ? "fn silu(x: f32) -> f32 { return x / (1.0 + exp(-max(x, -80.0))); }" : "";
  return {
    // A thread owns a head: nothing to add up across threads.
    head: {
      suits: "cpu",
      views: { o: "vec4f" },
      passes: [
        {
          workgroup: 4,
          grid: ({ M, H }) => ceilDiv(M * H, 4),
          wgsl: ({ D }) => `${silu}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  if (i >= M * H) { return; }
  let m = i / H; let h = i % H;
  let inverse = ${divisor};
  var squares = 0.0;
  for (var d4 = 0u; d4 < D / 4u; d4++) { let u = o[i * D4 + d4] * inverse; squares += dot(u, u); }
  ${D % 4 ? `for (var d = D - D % 4u; d < D; d++) { let u = o[i * D4 + d / 4u][d % 4u] * inverse; squares += u * u; }` : ""}
  let scale = inverse * inverseSqrt(squares / f32(D) + eps);
  for (var d4 = 0u; d4 < D4; d4++) {
    let u = o[i * D4 + d4] * scale;
    let at = m * (N4 * 4u) + h * D + 4u * d4;
    ${[0, 1, 2, 3].map((l) => `${D % 4 ? `if (4u * d4 + ${l}u < D) ` : ""}{ y[at + ${l}u] = u[${l}]${gated(`4u * d4 + ${l}u`)}; }`).join("\n    ")}
  }
}`,
        },
      ],
    },
    // A workgroup owns a head.
    workgroup: {
      suits: "gpu",
      passes: [
        {
          workgroup: 64,
          grid: ({ M, H }) => M * H,
          wgsl: `${silu}
var<workgroup> partial: array<f32, 64>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = min(workgroupIndex(wg), M * H - 1u);
  let m = i / H; let h = i % H;
  let inverse = ${divisor};
  var squares = 0.0;
  for (var d = lane; d < D; d += WG) { let u = o[i * (D4 * 4u) + d] * inverse; squares += u * u; }
  partial[lane] = squares;
  workgroupBarrier();
  for (var stride = 32u; stride > 0u; stride /= 2u) {
    if (lane < stride) { partial[lane] += partial[lane + stride]; }
    workgroupBarrier();
  }
  let scale = inverse * inverseSqrt(partial[0] / f32(D) + eps);
  for (var d = lane; d < D; d += WG) { y[m * (N4 * 4u) + h * D + d] = o[i * (D4 * 4u) + d] * scale${gated("d")}; }
}`,
        },
      ],
    },
  };
}

/** The forms that models use: each is a kernel of its own under test. */
export const headNorms = [headNorm({}), headNorm({ normalise: true }), headNorm({ gate: true })] as const;
