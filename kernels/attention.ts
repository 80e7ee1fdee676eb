// y = softmax(q K^T / sqrt(D)) V over the keys that a query may see, with grouped queries: heads h of q share the key
// head floor(h K / H) (Vaswani et al. 2017, arXiv 1706.03762, eq. 1; Ainslie et al. 2023, arXiv 2305.13245).
// No variant holds a T x N matrix: decode keeps one score a head and slot, prefill a running maximum and sum a query
// (Milakov & Gimelshein 2018, arXiv 1805.02867; Dao et al. 2022, arXiv 2205.14135).

import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  paged,
  read,
  type Sizes,
  tiled,
  write,
} from "../engine/kernel.ts";
import { roundUp } from "../engine/tensor.ts";
import { decodeVariants } from "./attention/decode.ts";
import { prefillVariants } from "./attention/prefill.ts";
import { countOf, cursorFor, positionOf } from "./reference/cursor.ts";

//   B streams   T tokens in the chunk   H query heads   K key and value heads   D size of a head
//   Y columns of y   N slots of the paged cache   W slots of the ring: tokens that a query sees, itself included
export type Letter = "B" | "T" | "H" | "K" | "D" | "Y" | "N" | "W";

/** Columns of y: a head begins at a multiple of `stride`, and what is between it and the next is zero. */
export const headColumns = ({ H, D }: { H: number; D: number }) => ({
  stride: roundUp(D, 4),
  Y: H * roundUp(D, 4),
});

interface Shared {
  cursor: Binding<"B", "u32">;
  q: Binding<"B" | "T" | "H" | "D", "f32">;
  /** Zero for tokens that are not valid. */
  y: Binding<"B" | "T" | "Y", "f32">;
}
type Made<L extends string, Own> = Kernel<L, Shared & Own & Bindings<L>>;
interface Caches {
  /** The cache holds the chunk's own keys and values too: slot = position. */
  paged: Made<Exclude<Letter, "W">, { kv: Binding<"B" | "K" | "N" | "D", "f32"> }>;
  /** The ring holds what came before the chunk, slot = position mod W; `chunk` the chunk's own. */
  ring: Made<
    Exclude<Letter, "N">,
    { ring: Binding<"B" | "K" | "W" | "D", "f32">; chunk: Binding<"B" | "K" | "T" | "D", "f32"> }
  >;
}

const make = (cache: keyof Caches) => {
  const isPaged = cache === "paged";
  return defineKernel({
    name: `attention[${cache}]`,
    consts: ["B", "T", "H", "K", "D", "Y", ...((isPaged ? [] : ["W"]) as "W"[])],
    params: (isPaged ? ["N"] : []) as "N"[],
    bindings: {
      cursor: read("u32", "B", 8),
      q: read("f32", "B", "T", "H", "D"),
      ...(isPaged
        ? { kv: paged("N", tiled(read("f32", 2, "B", "K", "N", "D"))) }
        : {
            ring: tiled(read("f32", 2, "B", "K", "W", "D")),
            chunk: tiled(read("f32", 2, "B", "K", "T", "D")),
          }),
      y: write("f32", "B", "T", "Y"),
    } as Bindings<Letter>,
    variants: { ...decodeVariants(cache), ...prefillVariants(cache) },

    reference(t, { B, T, H, K, D, Y, N, W }) {
      const { cursor, q, kv, ring, chunk, y } = t as unknown as Record<string, Float32Array> & {
        cursor: Uint32Array;
      };
      const { stride } = headColumns({ H, D });
      y!.fill(0);
      for (let b = 0; b < B; b++) {
        const position = positionOf(cursor, b);
        // where keys of a position lie, and how far behind them its values
        const locate = (k: number, at: number): [Float32Array, number, number] => {
          if (isPaged) return [kv!, ((b * K + k) * N + at) * D, B * K * N * D];
          if (at >= position) return [chunk!, ((b * K + k) * T + at - position) * D, B * K * T * D];
          return [ring!, ((b * K + k) * W + (at % W)) * D, B * K * W * D];
        };
        for (let t = 0; t < countOf(cursor, b); t++)
          for (let h = 0; h < H; h++) {
            const k = Math.floor((h * K) / H);
            const row = ((b * T + t) * H + h) * D;
            const last = position + t;
            const first = isPaged ? 0 : Math.max(0, last - W + 1);
            const scores = new Float64Array(last - first + 1);
            for (let at = first; at <= last; at++) {
              const [keys, offset] = locate(k, at);
              let dot = 0;
              for (let d = 0; d < D; d++) dot += q![row + d]! * keys[offset + d]!;
              scores[at - first] = dot / Math.sqrt(D);
            }
            const most = scores.reduce((a, s) => Math.max(a, s));
            const shares = scores.map((s) => Math.exp(s - most));
            const total = shares.reduce((a, s) => a + s);
            const sums = new Float64Array(D);
            for (let at = first; at <= last; at++) {
              const [values, offset, behind] = locate(k, at);
              for (let d = 0; d < D; d++) sums[d]! += shares[at - first]! * values[offset + behind + d]!;
            }
            for (let d = 0; d < D; d++) y![(b * T + t) * Y + h * stride + d] = sums[d]! / total;
          }
      }
    },

    // two products over the keys of a full cache, or a full window
    flops: ({ B, T, H, D, N, W }) => 4 * B * H * D * (isPaged ? T * N - (T * (T - 1)) / 2 : T * W),
    cases: (isPaged
      ? [
          { B: 1, T: 1, H: 3, K: 1, D: 10, Y: 36, N: 256 },
          { B: 3, T: 1, H: 8, K: 2, D: 20, Y: 160, N: 768 },
          { B: 3, T: 21, H: 4, K: 2, D: 6, Y: 32, N: 512 },
          { B: 2, T: 37, H: 5, K: 5, D: 72, Y: 360, N: 512 },
          // 17 pages of two sizes: more than a pass binds
          { B: 1, T: 1, H: 4, K: 4, D: 32, Y: 128, N: 4608 },
          { B: 1, T: 5, H: 2, K: 1, D: 6, Y: 16, N: 4608 },
          { B: 1, T: 64, H: 4, K: 4, D: 32, Y: 128, N: 2048 },
        ]
      : [
          { B: 3, T: 1, H: 3, K: 1, D: 10, Y: 36, W: 7 },
          { B: 3, T: 1, H: 4, K: 2, D: 6, Y: 32, W: 300 },
          { B: 3, T: 5, H: 4, K: 2, D: 6, Y: 32, W: 13 },
          { B: 3, T: 37, H: 4, K: 1, D: 10, Y: 48, W: 7 },
          { B: 1, T: 1, H: 4, K: 4, D: 32, Y: 128, W: 64 },
          { B: 1, T: 64, H: 4, K: 4, D: 32, Y: 128, W: 64 },
        ]) as readonly Partial<Sizes<Letter>>[] as readonly Sizes<Letter>[],
    fill: {
      cursor: ({ B, T, N, W }: Sizes<Letter>) => {
        const streams = isPaged
          ? // a full cache; a stream's first tokens; a frozen stream
            ([
              [Math.max(N - T, 0), T],
              [0, Math.max(T - 2, 1)],
              [9, 0],
            ] as const)
          : // a ring that has turned over, one that has not filled, a frozen one
            ([
              [1_048_500, T],
              [Math.floor(W / 2), Math.max(T - 2, 1)],
              [W, 0],
            ] as const);
        return cursorFor(B, streams);
      },
    },
  });
};

const made = { paged: make("paged"), ring: make("ring") } as unknown as Caches;
export const attentions = [made.paged, made.ring] as const;

/** Causal attention over a paged cache or a window's ring. */
export const attention = <const C extends keyof Caches>({ cache }: { cache: C }): Caches[C] => made[cache];
