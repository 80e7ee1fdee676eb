// x[s] = x[s] / sqrt(mean(x[s]^2) + eps) [* weight[s]] for each of the three segments s of a row, in place: RMSNorm
// (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4) of a selective scan's time step, B and C. Falcon Mamba
// (arXiv 2410.05355) norms without weights, Jamba (arXiv 2403.19887, section 6.4) with them.

import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  read,
  update,
  type Variant,
} from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { scanColumns } from "./selectiveScan.ts";

export interface SegmentNormOptions {
  /** Multiply by weight [P], whose columns lie as those of x. */
  weight?: boolean;
}

//   M rows (streams x tokens)   R rank of the time step   N states of a channel   eps RMSNorm's epsilon
//   P columns of a row: the time step's from 0, B's from 4 R4, C's from 4 (R4 + N4)
type Letter = "M" | "P" | "R" | "N" | "eps";
type Tensors<Opt extends SegmentNormOptions> = { x: Binding<"M" | "P", "f32"> } & (Opt extends {
  weight: true;
}
  ? { weight: Binding<"P", "f32"> }
  : unknown);

/** The kernel with these options. */
export const segmentNorm = <const Opt extends SegmentNormOptions>(
  options: Opt,
): Kernel<Letter, Tensors<Opt>> =>
  (options.weight ? weighted : plain) as unknown as Kernel<Letter, Tensors<Opt>>;

const segments = `
struct Segment { first: u32, columns: u32 }
fn segment(row: u32, s: u32) -> Segment {
  let start = row * P4 * 4u;
  if (s == 0u) { return Segment(start, R); }
  return Segment(start + (R4 + (s - 1u) * N4) * 4u, N);
}
fn scale(squares: f32, columns: u32) -> f32 { return inverseSqrt(squares / f32(columns) + eps); }
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {`;

const variants = ({ weight }: SegmentNormOptions): Record<string, Variant<Letter>> => {
  const times = (i: string) => (weight ? ` * weight[${i}]` : "");
  return {
    // a thread owns a segment of a row
    threads: {
      suits: "cpu",
      passes: [
        {
          workgroup: 4,
          grid: ({ M }) => ceilDiv(3 * M, 4),
          wgsl: `${segments}
  let i = workgroupIndex(wg) * WG + lane;
  if (i >= 3u * M) { return; }
  let s = segment(i / 3u, i % 3u);
  var squares = 0.0;
  for (var k = 0u; k < s.columns; k++) { squares += x[s.first + k] * x[s.first + k]; }
  let factor = scale(squares, s.columns);
  for (var k = 0u; k < s.columns; k++) {
    x[s.first + k] *= factor${times("s.first % (P4 * 4u) + k")};
  }
}`,
        },
      ],
    },
    // a workgroup owns a segment of a row
    workgroup: {
      suits: "gpu",
      passes: [
        {
          workgroup: 32,
          grid: ({ M }) => 3 * M,
          wgsl: `var<workgroup> parts: array<f32, 32>;
${segments}
  let i = workgroupIndex(wg);
  if (i >= 3u * M) { return; }
  let s = segment(i / 3u, i % 3u);
  var squares = 0.0;
  for (var k = lane; k < s.columns; k += WG) { squares += x[s.first + k] * x[s.first + k]; }
  parts[lane] = squares;
  workgroupBarrier();
  squares = 0.0;
  for (var j = 0u; j < WG; j++) { squares += parts[j]; }
  let factor = scale(squares, s.columns);
  for (var k = lane; k < s.columns; k += WG) {
    x[s.first + k] *= factor${times("s.first % (P4 * 4u) + k")};
  }
}`,
        },
      ],
    },
  };
};

const make = (options: SegmentNormOptions) =>
  defineKernel({
    name: options.weight ? "segmentNorm[weight]" : "segmentNorm",
    consts: ["M", "P", "R", "N"],
    scalars: ["eps"],
    bindings: {
      ...(options.weight ? { weight: read("f32", "P") } : {}),
      x: update("f32", "M", "P"),
    } as Bindings<Letter>,
    variants: variants(options),

    reference(t, { M, P, R, N, eps }) {
      const { x, weight } = t as { x: Float32Array; weight?: Float32Array };
      const columns = scanColumns({ R, N });
      for (let m = 0; m < M; m++) {
        for (const [first, length] of [
          [0, R],
          [columns.b, N],
          [columns.c, N],
        ] as const) {
          let squares = 0;
          for (let i = first; i < first + length; i++) squares += x[m * P + i]! ** 2;
          const scale = 1 / Math.sqrt(squares / length + eps);
          for (let i = first; i < first + length; i++) x[m * P + i]! *= scale * (weight ? weight[i]! : 1);
        }
      }
    },

    /** A multiply-add for the squares, and the product or two. */
    flops: ({ M, R, N }) => (options.weight ? 4 : 3) * M * (R + 2 * N),
    cases: [
      { M: 5, P: 23, R: 5, N: 7, eps: 1e-6 },
      { M: 1, P: 288, R: 256, N: 16, eps: 1e-6 },
      { M: 64, P: 40, R: 8, N: 16, eps: 1e-6 },
    ],
  });

const plain = make({});
const weighted = make({ weight: true });

export const segmentNorms = [plain, weighted] as const;
