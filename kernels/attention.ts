// y = softmax(q K^T / sqrt(D)) V over the keys that a query may see, with grouped queries: heads h of q share the key
// head floor(h K / H) (Vaswani et al. 2017, arXiv 1706.03762, eq. 1; Ainslie et al. 2023, arXiv 2305.13245).
// Which keys those are is data: attention/pattern.ts. No variant but the materialised ones holds a T x N matrix: decode keeps
// one score a head and slot, prefill a running maximum and sum a query (Milakov & Gimelshein 2018, arXiv 1805.02867;
// Dao et al. 2022, arXiv 2205.14135).

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
import { isPaged, sinkSlots } from "./attention/cache.ts";
import { decodeVariants } from "./attention/decode.ts";
import { materialisedVariants } from "./attention/materialised.ts";
import { type Kind, keysRead, keysSeen, type Pattern, pairsScored } from "./attention/pattern.ts";
import { prefillVariants } from "./attention/prefill.ts";
import { countOf, cursorFor, positionOf } from "./reference/cursor.ts";

//   B streams   T tokens in the chunk   H query heads   K key and value heads   D size of a head
//   Y columns of y   N slots of the paged cache   W the last tokens that a query sees, itself included: the window, which
//   the ring has as many slots for; of `strided` the stride
//   S sinks
export type Letter = "B" | "T" | "H" | "K" | "D" | "Y" | "N" | "W" | "S";

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
/** The cache holds the chunk's own keys and values too: slot = position. */
interface Paged {
  kv: Binding<"B" | "K" | "N" | "D", "f32">;
}
interface Patterns {
  full: Made<Exclude<Letter, "W" | "S">, Paged>;
  materialised: Made<Exclude<Letter, "W" | "S">, Paged>;
  local: Made<Exclude<Letter, "S">, Paged>;
  strided: Made<Exclude<Letter, "S">, Paged>;
  /** The ring holds what came before the chunk, slot = position mod W; `chunk` the chunk's own. */
  window: Made<
    Exclude<Letter, "N" | "S">,
    { ring: Binding<"B" | "K" | "W" | "D", "f32">; chunk: Binding<"B" | "K" | "T" | "D", "f32"> }
  >;
  /**
   * q holds the queries as the window is asked (0) and as the sinks are (1); the ring all sinks so far, the chunk's own
   * included, and after them what a window's ring does.
   */
  sinks: Made<
    Exclude<Letter, "N">,
    { ring: Binding<"B" | "K" | "W" | "S" | "D", "f32">; chunk: Binding<"B" | "K" | "T" | "D", "f32"> }
  >;
}

function patternOf(kind: Kind, { W, S }: Sizes<Letter>): Pattern {
  switch (kind) {
    case "full":
    case "materialised":
      return { kind };
    case "window":
    case "local":
      return { kind, window: W };
    case "sinks":
      return { kind, window: W, sinks: S };
    case "strided":
      return { kind, stride: W };
  }
}

/** Letters of a pattern, where it has not W alone. */
const constsOf: Partial<Record<Kind, readonly Letter[]>> = { full: [], materialised: [], sinks: ["W", "S"] };

const make = (kind: keyof Patterns) => {
  const pages = isPaged(kind);
  return defineKernel({
    name: `attention[${kind}]`,
    consts: ["B", "T", "H", "K", "D", "Y", ...(constsOf[kind] ?? (["W"] as const))],
    params: (pages ? ["N"] : []) as "N"[],
    bindings: {
      cursor: read("u32", "B", 8),
      q: kind === "sinks" ? read("f32", 2, "B", "T", "H", "D") : read("f32", "B", "T", "H", "D"),
      ...(pages
        ? { kv: paged("N", tiled(read("f32", 2, "B", "K", "N", "D"))) }
        : {
            ring: tiled(read("f32", 2, "B", "K", kind === "sinks" ? sinkSlots : "W", "D")),
            chunk: tiled(read("f32", 2, "B", "K", "T", "D")),
          }),
      y: write("f32", "B", "T", "Y"),
    } as Bindings<Letter>,
    variants:
      kind === "materialised"
        ? materialisedVariants()
        : { ...decodeVariants(kind), ...prefillVariants(kind) },

    reference(t, s) {
      const { B, T, H, K, D, Y, N, W } = s;
      const { cursor, q, kv, ring, chunk, y } = t as unknown as Record<string, Float32Array> & {
        cursor: Uint32Array;
      };
      const { stride } = headColumns({ H, D });
      const pattern = patternOf(kind, s);
      const slots = kind === "sinks" ? sinkSlots.size(s) : W;
      y!.fill(0);
      for (let b = 0; b < B; b++) {
        const position = positionOf(cursor, b);
        // where keys of a position lie, and how far behind them its values
        const locate = (k: number, at: number): [Float32Array, number, number] => {
          if (pages) return [kv!, ((b * K + k) * N + at) * D, B * K * N * D];
          if (kind === "sinks" && at < s.S) return [ring!, ((b * K + k) * slots + at) * D, B * K * slots * D];
          if (at >= position) return [chunk!, ((b * K + k) * T + at - position) * D, B * K * T * D];
          return [ring!, ((b * K + k) * slots + slots - W + (at % W)) * D, B * K * slots * D];
        };
        for (let t = 0; t < countOf(cursor, b); t++) {
          const last = position + t;
          const keys = keysSeen(pattern, last);
          for (let h = 0; h < H; h++) {
            const k = Math.floor((h * K) / H);
            const row = ((b * T + t) * H + h) * D;
            const scores = keys.map((at) => {
              const [keys, offset] = locate(k, at);
              const asking = kind === "sinks" && at < s.S ? B * T * H * D + row : row;
              let dot = 0;
              for (let d = 0; d < D; d++) dot += q![asking + d]! * keys[offset + d]!;
              return dot / Math.sqrt(D);
            });
            const most = scores.reduce((a, s) => Math.max(a, s));
            const shares = scores.map((s) => Math.exp(s - most));
            const total = shares.reduce((a, s) => a + s);
            const sums = new Float64Array(D);
            keys.forEach((at, i) => {
              const [values, offset, behind] = locate(k, at);
              for (let d = 0; d < D; d++) sums[d]! += shares[i]! * values[offset + behind + d]!;
            });
            for (let d = 0; d < D; d++) y![(b * T + t) * Y + h * stride + d] = sums[d]! / total;
          }
        }
      }
    },

    // two products over the keys that the last T queries of a full cache see
    flops: (s) => {
      const { B, T, H, D } = s;
      const pattern = patternOf(kind, s);
      const first = pages ? Math.max(s.N - T, 0) : FAR;
      let pairs = 0;
      for (let t = 0; t < T; t++) pairs += pairsScored(pattern, first + t);
      return 4 * B * H * D * pairs;
    },
    // queries, results, and of keys and values those that are seen; rows of the matrix four times
    bytes: (s, each) => {
      const { B, T, H, K, D, Y } = s;
      const first = pages ? Math.max(s.N - T, 0) : FAR;
      const matrix = kind === "materialised" ? 4 * T * H * s.N : 0;
      const queries = kind === "sinks" ? 2 * H * D : H * D;
      const cached = each(pages ? "kv" : "ring") * 2 * K * D * keysRead(patternOf(kind, s), first, T);
      return B * (4 * (T * (queries + Y) + matrix) + cached);
    },
    cases: casesOf[kind] as readonly Partial<Sizes<Letter>>[] as readonly Sizes<Letter>[],
    fill: {
      cursor: ({ B, T, N, W }: Sizes<Letter>) => {
        const streams = pages
          ? // a full cache; a stream's first tokens; a frozen stream
            ([
              [Math.max(N - T, 0), T],
              [0, Math.max(T - 2, 1)],
              [9, 0],
            ] as const)
          : // a ring that has turned over, one that has not filled, a frozen one
            ([
              [FAR - 76, T],
              [Math.floor(W / 2), Math.max(T - 2, 1)],
              [kind === "sinks" ? 0 : W, kind === "sinks" ? T : 0],
              [W, 0],
            ] as const);
        return cursorFor(B, streams);
      },
    },
  });
};

/** A position at which every window is full. */
const FAR = 2 ** 20;

const casesOf: Record<keyof Patterns, readonly Partial<Sizes<Letter>>[]> = {
  full: [
    { B: 1, T: 1, H: 3, K: 1, D: 10, Y: 36, N: 256 },
    { B: 3, T: 1, H: 4, K: 2, D: 6, Y: 32, N: 256 },
    { B: 3, T: 1, H: 8, K: 2, D: 20, Y: 160, N: 768 },
    { B: 3, T: 21, H: 4, K: 2, D: 6, Y: 32, N: 512 },
    { B: 2, T: 37, H: 5, K: 5, D: 72, Y: 360, N: 512 },
    // 17 pages of two sizes: more than a pass binds
    { B: 1, T: 1, H: 4, K: 4, D: 32, Y: 128, N: 4608 },
    { B: 1, T: 5, H: 2, K: 1, D: 6, Y: 16, N: 4608 },
    { B: 1, T: 64, H: 4, K: 4, D: 32, Y: 128, N: 2048 },
  ],
  materialised: [
    { B: 3, T: 1, H: 3, K: 1, D: 10, Y: 36, N: 512 },
    // more pages than a pass takes
    { B: 3, T: 21, H: 4, K: 2, D: 6, Y: 32, N: 768 },
    { B: 1, T: 1, H: 4, K: 4, D: 32, Y: 128, N: 1024 },
    { B: 1, T: 64, H: 4, K: 4, D: 32, Y: 128, N: 1024 },
  ],
  window: [
    { B: 3, T: 1, H: 3, K: 1, D: 10, Y: 36, W: 7 },
    { B: 3, T: 1, H: 4, K: 2, D: 6, Y: 32, W: 13 },
    { B: 3, T: 1, H: 4, K: 2, D: 6, Y: 32, W: 300 },
    { B: 3, T: 5, H: 4, K: 2, D: 6, Y: 32, W: 13 },
    { B: 3, T: 37, H: 4, K: 1, D: 10, Y: 48, W: 7 },
    { B: 1, T: 1, H: 4, K: 4, D: 32, Y: 128, W: 64 },
    { B: 1, T: 64, H: 4, K: 4, D: 32, Y: 128, W: 64 },
  ],
  sinks: [
    { B: 4, T: 1, H: 3, K: 1, D: 10, Y: 36, W: 7, S: 3 },
    { B: 4, T: 1, H: 4, K: 2, D: 6, Y: 32, W: 13, S: 5 },
    { B: 4, T: 1, H: 4, K: 2, D: 6, Y: 32, W: 261, S: 21 },
    { B: 4, T: 5, H: 4, K: 2, D: 6, Y: 32, W: 13, S: 9 },
    // a chunk of more than sinks and window together
    { B: 4, T: 37, H: 4, K: 1, D: 10, Y: 48, W: 7, S: 2 },
    { B: 1, T: 1, H: 4, K: 4, D: 32, Y: 128, W: 60, S: 4 },
    { B: 1, T: 64, H: 4, K: 4, D: 32, Y: 128, W: 60, S: 4 },
  ],
  local: [
    { B: 3, T: 1, H: 3, K: 1, D: 10, Y: 36, N: 512, W: 7 },
    { B: 3, T: 1, H: 4, K: 2, D: 6, Y: 32, N: 512, W: 13 },
    // a window of more than a split, over pages
    { B: 2, T: 1, H: 4, K: 2, D: 6, Y: 32, N: 4608, W: 301 },
    { B: 3, T: 37, H: 4, K: 2, D: 6, Y: 32, N: 512, W: 13 },
    { B: 1, T: 5, H: 2, K: 1, D: 6, Y: 16, N: 2304, W: 600 },
    { B: 1, T: 1, H: 4, K: 4, D: 32, Y: 128, N: 2048, W: 64 },
    { B: 1, T: 64, H: 4, K: 4, D: 32, Y: 128, N: 2048, W: 64 },
  ],
  strided: [
    { B: 3, T: 1, H: 3, K: 1, D: 10, Y: 36, N: 512, W: 7 },
    { B: 3, T: 1, H: 4, K: 2, D: 6, Y: 32, N: 512, W: 13 },
    { B: 2, T: 1, H: 4, K: 2, D: 6, Y: 32, N: 4608, W: 301 },
    { B: 1, T: 1, H: 2, K: 1, D: 6, Y: 16, N: 2304, W: 3 },
    { B: 3, T: 37, H: 4, K: 2, D: 6, Y: 32, N: 768, W: 2 },
    { B: 3, T: 5, H: 4, K: 2, D: 10, Y: 48, N: 768, W: 50 },
    { B: 1, T: 37, H: 2, K: 1, D: 6, Y: 16, N: 2304, W: 333 },
    { B: 1, T: 1, H: 4, K: 4, D: 32, Y: 128, N: 2048, W: 64 },
    { B: 1, T: 64, H: 4, K: 4, D: 32, Y: 128, N: 2048, W: 64 },
  ],
};

const made = {
  full: make("full"),
  materialised: make("materialised"),
  window: make("window"),
  sinks: make("sinks"),
  local: make("local"),
  strided: make("strided"),
} as unknown as Patterns;
export const attentions = Object.values(made);

/** Causal attention to the keys that a pattern shows. */
export const attention = <const P extends keyof Patterns>({ pattern }: { pattern: P }): Patterns[P] =>
  made[pattern];
