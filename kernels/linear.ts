// y = W n(x) [+ bias] [+ y]: the product behind every projection.
// n(x) = x / sqrt(mean(x^2) + eps) where `norm` is on (RMSNorm: Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4); the
// norm's weight is multiplied into W when W is loaded, so that the norm costs a thread one dot product a tile.

import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  read,
  tiled,
  update,
  write,
} from "../engine/kernel.ts";
import { memo } from "../engine/memo.ts";
import { productVariants } from "./product.ts";

export interface LinearOptions {
  /** Divide each row of x by its root mean square first. */
  norm?: boolean;
  /** Add bias [O]. */
  bias?: boolean;
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

const made = new Map<string, Kernel<Letter>>();

/** The kernel with these options; `eps` is 0 and unused without `norm`. */
export function linear<const Opt extends LinearOptions>(options: Opt): Kernel<Letter, Tensors<Opt>> {
  const on = Object.keys(options).filter((option) => options[option as keyof Opt]);
  const key = on.sort().join("+");
  const kernel = memo(made, key, () => make(options, key));
  return kernel as unknown as Kernel<Letter, Tensors<Opt>>;
}

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
    variants: productVariants({
      weights: ["w"],
      squares: options.norm ?? false,
      finish: `fn finish(sum: vec4f, squares: f32, m: u32, o4: u32) {
  let v = sum${options.norm ? " * inverseSqrt(squares / f32(I) + eps)" : ""}${options.bias ? " + bias[o4]" : ""};
  y[m * O4 + o4] ${options.residual ? "+=" : "="} v;
}`,
    }),

    reference(t, { M, I, O, eps }) {
      const { w, x, y, bias } = t as {
        w: Float32Array;
        x: Float32Array;
        y: Float32Array;
        bias?: Float32Array;
      };
      for (let m = 0; m < M; m++) {
        let squares = 0;
        for (let i = 0; i < I; i++) squares += x[m * I + i]! ** 2;
        const scale = options.norm ? 1 / Math.sqrt(squares / I + eps) : 1;
        for (let o = 0; o < O; o++) {
          let sum = 0;
          for (let i = 0; i < I; i++) sum += w[o * I + i]! * x[m * I + i]!;
          y[m * O + o] = (options.residual ? y[m * O + o]! : 0) + sum * scale + (bias ? bias[o]! : 0);
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

/** The fusions that models use: each is a kernel of its own under test. */
export const linears = [
  linear({}),
  linear({ norm: true }),
  linear({ bias: true }),
  linear({ residual: true }),
] as const;
