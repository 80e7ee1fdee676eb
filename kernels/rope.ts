// q and k turned by their position, k and v stored: what stands between the projections and attention.
// Pair (i, i + D/2) of a head is turned by position * theta^(-2i/D) (Su et al. 2021, arXiv 2104.09864, section 3.2.2,
// in the order of pairs that Llama's published weights have). Models without positions, such as Jamba (Lieber et al.
// 2024, arXiv 2403.19887, section 6.5), turn nothing: theirs is the same kernel without the tables.
// WGSL promises sin and cos only near zero, so the angle of position = 1024 * coarse + fine is the sum of two that
// stand in tables made in doubles: positions reach past 2^20.

import { cursorWgsl } from "../engine/cursor.ts";
import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  paged,
  read,
  tiled,
  update,
  write,
} from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { elementWgsl } from "./attention/cache.ts";
import { countOf, cursorFor, positionOf } from "./reference/cursor.ts";

//   B streams   T tokens in the chunk   H query heads   K key and value heads   D size of a head, even
//   J = (H + 2K) D columns of qkv: queries, keys, values   N slots of the paged cache   theta base of the angles
type Letter = "B" | "T" | "H" | "K" | "D" | "J" | "N" | "theta";

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

interface Shared {
  cursor: Binding<"B", "u32">;
  /** Queries, keys and values of a token in one row. */
  qkv: Binding<"B" | "T" | "J", "f32">;
  q: Binding<"B" | "T" | "H" | "D", "f32">;
}
interface Tables {
  coarse: Binding<"D", "f32">;
  fine: Binding<"D", "f32">;
}
interface Stores {
  /** Appends keys (0) and values (1) of the valid tokens to the cache. */
  paged: { kv: Binding<"B" | "K" | "N" | "D", "f32"> };
  /** Writes the chunk's own keys (0) and values (1), those of tokens that are not valid included. */
  chunk: { chunk: Binding<"B" | "K" | "T" | "D", "f32"> };
}
type Unused<S extends keyof Stores, Turned extends boolean> =
  | (S extends "paged" ? never : "N")
  | (Turned extends false ? "theta" : never);
type Made<
  S extends keyof Stores,
  Turned extends boolean,
  L extends Letter = Exclude<Letter, Unused<S, Turned>>,
> = Kernel<L, Shared & (Turned extends false ? unknown : Tables) & Stores[S] & Bindings<L>>;

const make = (store: keyof Stores, turned: boolean) => {
  const isPaged = store === "paged";
  const target = isPaged ? "kv0" : "chunk";
  return defineKernel({
    name: `rope[${store}${turned ? "" : ",unturned"}]`,
    consts: ["B", "T", "H", "K", "D", "J"],
    scalars: (turned ? ["theta"] : []) as "theta"[],
    params: (isPaged ? ["N"] : []) as "N"[],
    bindings: {
      cursor: read("u32", "B", 8),
      qkv: read("f32", "B", "T", "J"),
      ...(turned ? { coarse: read("f32", ROPE_STRIDES, "D"), fine: read("f32", ROPE_STEPS, "D") } : {}),
      q: write("f32", "B", "T", "H", "D"),
      ...(isPaged
        ? { kv: paged("N", tiled(update("f32", 2, "B", "K", "N", "D"))) }
        : { chunk: tiled(write("f32", 2, "B", "K", "T", "D")) }),
    } as Bindings<Letter>,

    // A thread turns or copies one pair of one head; of a valid token, in the dispatch over its page.
    variants: {
      pairs: {
        suits: "any",
        views: { kv: "f32", chunk: "f32" },
        passes: [
          {
            overPages: isPaged,
            workgroup: 64,
            grid: ({ B, T, H, K, D }) => ceilDiv(B * T * (H + 2 * K) * (D / 2), 64),
            wgsl: `${cursorWgsl}
const PAIRS = D / 2u;
const SLOTS4 = ${isPaged ? "PAGE / 4u" : "T4"};
${turned ? turnedWgsl : ""}
${elementWgsl}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let pair = i % PAIRS;
  let head = i / PAIRS % (H + 2u * K);
  let row = i / PAIRS / (H + 2u * K);
  if (row >= B * T) { return; }
  let b = row / T;
  let t = row % T;
  let at = position(b) + t;
  ${
    isPaged
      ? `let valid = t < count(b);
  if (valid && (at < params.base || at >= params.base + PAGE)) { return; }`
      : ""
  }
  let source = row * J4 * 4u + head * D + pair;
  var x = vec2f(qkv[source], qkv[source + PAIRS]);
  ${turned ? "if (head < H + K) { x = turned(x, at, pair); }" : ""}
  if (head < H) {
    let to = (row * H + head) * D4 * 4u + pair;
    q[to] = x.x;
    q[to + PAIRS] = x.y;
    return;
  }
  ${isPaged ? "if (!valid) { return; }" : ""}
  let slot = ${isPaged ? "at - params.base" : "t"};
  let kind = (head - H) / K;
  let plane = (kind * B + b) * K + (head - H) % K;
  ${target}[element(plane, SLOTS4, slot, pair)] = x.x;
  ${target}[element(plane, SLOTS4, slot, pair + PAIRS)] = x.y;
}`,
          },
        ],
      },
    },

    reference(t, { B, T, H, K, D, J, N, theta }) {
      const { cursor, qkv, q, kv, chunk } = t as unknown as Record<string, Float32Array> & {
        cursor: Uint32Array;
      };
      const cosine = new Float64Array(D / 2);
      const sine = new Float64Array(D / 2);
      for (let b = 0; b < B; b++)
        for (let t = 0; t < T; t++) {
          const at = positionOf(cursor, b) + t;
          for (let i = 0; i < D / 2; i++) {
            const angle = turned ? at * theta ** ((-2 * i) / D) : 0;
            cosine[i] = Math.cos(angle);
            sine[i] = Math.sin(angle);
          }
          const row = (b * T + t) * J;
          const turn = (head: number, d: number) => {
            const i = d % (D / 2);
            const other = d < D / 2 ? -qkv![row + head * D + d + D / 2]! : qkv![row + head * D + d - D / 2]!;
            return qkv![row + head * D + d]! * cosine[i]! + other * sine[i]!;
          };
          for (let h = 0; h < H; h++)
            for (let d = 0; d < D; d++) q![((b * T + t) * H + h) * D + d] = turn(h, d);
          if (isPaged && t >= countOf(cursor, b)) continue;
          for (let k = 0; k < K; k++)
            for (let d = 0; d < D; d++) {
              const at0 = isPaged ? ((b * K + k) * N + at) * D + d : ((b * K + k) * T + t) * D + d;
              const [to, slots] = isPaged ? [kv!, N] : [chunk!, T];
              to[at0] = turn(H + k, d);
              to[at0 + B * K * slots * D] = qkv![row + (H + K + k) * D + d]!;
            }
        }
    },

    // 6 a turned pair; the tables' angle addition is another 6
    flops: ({ B, T, H, K, D }) => (turned ? 12 * B * T * (H + K) * (D / 2) : 0),
    // the chunk in and out and a row of each table a token, never the whole cache
    bytes: ({ B, T, J, D }) => 4 * B * T * (2 * J + (turned ? 2 * D : 0)),
    cases: (isPaged
      ? [
          { B: 1, T: 1, H: 3, K: 1, D: 10, J: 50, N: 512, theta: 10_000 },
          { B: 3, T: 21, H: 4, K: 2, D: 6, J: 48, N: 512, theta: 500_000 },
          { B: 1, T: 64, H: 4, K: 4, D: 32, J: 384, N: 4608, theta: 10_000 },
        ]
      : [
          { B: 3, T: 5, H: 3, K: 1, D: 10, J: 50, theta: 10_000 },
          { B: 1, T: 1, H: 8, K: 2, D: 64, J: 768, theta: 1_000_000 },
          { B: 1, T: 64, H: 4, K: 4, D: 32, J: 384, theta: 10_000 },
        ]) as readonly Record<Letter, number>[],
    fill: {
      // paged: across the edge of a page, the first slots, a frozen stream; else positions as far as the tables reach
      cursor: (s: Record<Letter, number>) => {
        const end = s.N > 0 ? s.N - 256 + (s.T >> 1) : ROPE_POSITIONS;
        const streams = [
          [Math.max(end - s.T, 0), s.T],
          [s.N > 0 ? 0 : 131_071, s.T - 1],
          [77, 0],
        ] as const;
        return cursorFor(s.B, streams);
      },
      ...(turned && {
        coarse: (s: Record<Letter, number>) => ropeTables(s.theta, s.D).coarse,
        fine: (s: Record<Letter, number>) => ropeTables(s.theta, s.D).fine,
      }),
    },
  });
};

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

const made = { paged: make("paged", true), chunk: make("chunk", true) };
const unturned = { paged: make("paged", false), chunk: make("chunk", false) };
export const ropes = [made.paged, made.chunk, unturned.paged, unturned.chunk] as const;

/**
 * Rotary positions, and where keys and values go: into the `paged` cache, or beside a ring as the `chunk`'s own. With
 * `turned: false` queries and keys are stored as they are.
 */
export const rope = <const S extends keyof Stores, const Turned extends boolean = true>({
  store,
  turned = true as Turned,
}: {
  store: S;
  turned?: Turned;
}): Made<S, Turned> => (turned ? made : unturned)[store] as unknown as Made<S, Turned>;
