// Queries, keys and values of a chunk, each where attention reads it: [q, k, v] = W n(x), q and k turned by their positions,
// k and v stored. n is the RMSNorm of `linear`, its weight multiplied into W when W is loaded. Positions turn as rope.ts
// says; models without any, such as Jamba (Lieber et al. 2024, arXiv 2403.19887, section 6.5), store q and k as they are.
// For one token a thread that has finished a tile of outputs turns and stores it: W's rows are ordered so that a tile holds
// whole pairs, and nothing stands between the product and attention. More tokens take two passes, since their keys may
// reach several pages and each page is a dispatch.

import { cursorWgsl } from "../engine/cursor.ts";
import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  type Pass,
  paged,
  read,
  type Sizes,
  tiled,
  update,
  type Variant,
  write,
} from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { elementWgsl, ownElement, sinkSlots, storeThreads, storeWgsl } from "./attention/cache.ts";
import { sinkPosition } from "./attention/pattern.ts";
import { type ProductLetter, productVariants } from "./product.ts";
import { countOf, cursorFor, positionOf } from "./reference/cursor.ts";
import { ROPE_POSITIONS, ROPE_STEPS, ROPE_STRIDES, ropeTables, turnedWgsl } from "./rope.ts";

//   B streams   T tokens in the chunk   M = B T rows of x   I input features   H query heads   K key and value heads
//   D size of a head, even   O = (H + 2K) D rows of w   N slots of the paged cache   W slots of a ring   S sinks
//   eps RMSNorm's epsilon   theta base of the angles
type Letter = "B" | "T" | "M" | "I" | "H" | "K" | "D" | "O" | "N" | "W" | "S" | "eps" | "theta";

interface Shared {
  cursor: Binding<"B", "u32">;
  /** Rows of heads in the order queries, keys, values; of a head in the order of `pairedRow`. */
  w: Binding<"O" | "I", "f32">;
  x: Binding<"M" | "I", "f32">;
}
interface Tables {
  coarse: Binding<"D", "f32">;
  fine: Binding<"D", "f32">;
}
interface Queries {
  q: Binding<"B" | "T" | "H" | "D", "f32">;
}
/** The chunk's own keys (0) and values (1), those of tokens that are not valid included. */
interface Chunk {
  chunk: Binding<"B" | "K" | "T" | "D", "f32">;
}
interface Stores {
  /** Appends keys (0) and values (1) of the valid tokens to the cache. */
  paged: Queries & { kv: Binding<"B" | "K" | "N" | "D", "f32"> };
  chunk: Queries & Chunk;
  /**
   * The chunk's own; q [2, B, T, H, D] holds the queries as the window is asked (0) and as the sinks are (1); keys and values
   * of tokens that are sinks are stored in the ring too, whose window's slots stay.
   */
  sinks: Queries & Chunk & { ring: Binding<"B" | "K" | "W" | "S" | "D", "f32"> };
}
type Store = keyof Stores;
type Unused<S extends Store, Turned extends boolean> =
  | (S extends "paged" ? "W" | "S" : S extends "chunk" ? "N" | "W" | "S" : "N")
  | (Turned extends false ? "theta" : never);
type Made<
  S extends Store,
  Turned extends boolean,
  L extends Letter = Exclude<Letter, Unused<S, Turned>>,
> = Kernel<L, Shared & (Turned extends false ? unknown : Tables) & Stores[S] & Bindings<L>>;

/** Where column d of a head stands among the head's rows of w: pair (i, i + D/2) at 2i and 2i + 1. */
export const pairedRow = (d: number, D: number): number => (d < D / 2 ? 2 * d : 2 * d - D + 1);

/** Where `place` puts keys and values: into the page or beside the sinks too, or only where the chunk's own are. */
type Target = "page" | "own" | "chunk" | "chunk and sinks";

/** WGSL: `place(v, m, o4)` turns the two pairs that tile o4 of row m holds, and stores them. */
const placeWgsl = (store: Store, turned: boolean, target: Target): string => {
  const put = (array: string, at: (column: string) => string) =>
    `${array}[${at("i")}] = v.x;
  ${array}[${at("i + HALF")}] = v.y;`;
  const puts: Record<Target, string> = {
    page: `if (t >= count(b) || at < params.base || at >= params.base + PAGE) { return; }
  ${put("kv0", (d) => `element(plane, PAGE / 4u, at - params.base, ${d})`)}`,
    own: put("own", (d) => `(plane * T + t) * D4 * 4u + ${d}`),
    chunk: put("chunk", (d) => `element(plane, T4, t, ${d})`),
    "chunk and sinks": `${put("chunk", (d) => `element(plane, T4, t, ${d})`)}
  if (at >= S || t >= count(b)) { return; }
  ${put("ring", (d) => `element(plane, S4 + W4, at, ${d})`)}`,
  };
  return `${cursorWgsl}
const HALF = D / 2u;
const PAIRS = O / 2u;
${turned ? turnedWgsl : ""}
${elementWgsl}
fn placePair(x: vec2f, m: u32, pair: u32) {
  let head = pair / HALF;
  let i = pair % HALF;
  let b = m / T;
  let t = m % T;
  let at = position(b) + t;
  ${turned ? "var v = x; if (head < H + K) { v = turned(x, at, i); }" : "let v = x;"}
  if (head < H) {
    let to = (m * H + head) * D4 * 4u + i;
    q[to] = v.x;
    q[to + HALF] = v.y;
    ${
      store === "sinks"
        ? `let asked = turned(x, min(at, S + W - 1u), i);
    q[M * H * D4 * 4u + to] = asked.x;
    q[M * H * D4 * 4u + to + HALF] = asked.y;`
        : ""
    }
    return;
  }
  let plane = ((head - H) / K * B + b) * K + (head - H) % K;
  ${puts[target]}
}
fn place(v: vec4f, m: u32, o4: u32) {
  placePair(v.xy, m, 2u * o4);
  if (2u * o4 + 1u < PAIRS) { placePair(v.zw, m, 2u * o4 + 1u); }
}`;
};

/** Tiles of four slots that T tokens in a row may touch, of so many slots. */
const touched = (T: number, slots: number) => Math.min(ceilDiv(slots, 4), Math.floor((T + 2) / 4) + 1);

/** Dispatched for each page that the chunk reaches. */
const append: Pass<Letter> = {
  overPages: true,
  workgroup: 64,
  grid: (s) => ceilDiv(storeThreads(s, touched(s.T, s.PAGE)), 64),
  wgsl: ({ T, PAGE }) =>
    storeWgsl({
      cache: "kv0",
      own: (token) => `own[(plane * T + ${token}) * D4 * 4u + d]`,
      tiles: touched(T, PAGE),
      find: `let start = position(b);
  let n4 = (max(start, params.base) - params.base) / 4u + n;
  if (n4 >= PAGE / 4u) { return; }
  let row = plane * (PAGE / 4u) + n4;
  let slots = params.base + 4u * n4 + vec4u(0u, 1u, 2u, 3u);
  let which = (slots >= vec4u(start)) & (slots < vec4u(start + count(b)));
  let tokens = select(vec4u(), slots - start, which);`,
    }),
};

/** The same for sinks. */
const keepSinks: Pass<Letter> = {
  workgroup: 64,
  grid: (s) => ceilDiv(storeThreads(s, ceilDiv(s.S, 4)), 64),
  wgsl: ({ S }) =>
    storeWgsl({
      cache: "ring",
      own: ownElement,
      tiles: ceilDiv(S, 4),
      find: `let start = position(b);
  let row = plane * (S4 + W4) + n;
  let slots = 4u * n + vec4u(0u, 1u, 2u, 3u);
  let which = (slots >= vec4u(start)) & (slots < vec4u(min(S, start + count(b))));
  let tokens = select(vec4u(), slots - start, which);`,
    }),
};

function variantsOf(store: Store, turned: boolean): Record<string, Variant<Letter>> {
  const products = (target: Target) =>
    productVariants({
      weights: ["w"],
      squares: true,
      loop: true,
      finish: `${placeWgsl(store, turned, target)}
fn finish(sum: vec4f, squares: f32, m: u32, o4: u32) { place(sum * inverseSqrt(squares / f32(I) + eps), m, o4); }`,
    });
  const variant = (product: Variant<ProductLetter>, rest: Partial<Variant<Letter>>): Variant<Letter> => ({
    ...product,
    ...rest,
    views: { x: "vec4f", chunk: "f32", ...rest.views },
  });
  const all = <P extends string>(
    of: Readonly<Record<P, Variant<ProductLetter>>>,
    change: (product: Variant<ProductLetter>) => Variant<Letter>,
  ) => Object.fromEntries(Object.entries<Variant<ProductLetter>>(of).map(([name, v]) => [name, change(v)]));

  if (store === "chunk") return all(products("chunk"), (product) => variant(product, {}));
  const [direct, apart, last, scratch] =
    store === "paged"
      ? (["page", "own", append, { own: [2, "B", "K", "T", "D"] }] as const)
      : (["chunk and sinks", "chunk", keepSinks, {}] as const);
  /** One token reaches one page, and no two threads share a word of a cache of f32. */
  const fused = (product: Variant<ProductLetter>) =>
    variant(product, {
      when: ({ M }) => M === 1,
      views: { kv: "f32", ring: "f32" },
      passes: product.passes.map((pass) => ({ ...pass, overPages: store === "paged" })),
    });
  const two = (product: Variant<ProductLetter>, rest: Partial<Variant<Letter>>) =>
    variant(product, {
      scratch,
      passes: [...product.passes.map((pass) => ({ ...pass, writes: Object.keys(scratch) })), last],
      ...rest,
    });
  const one = products(direct);
  const many = products(apart);
  return {
    fusedTiles: fused(one.tiles),
    fusedSubgroups: fused(one.subgroups),
    fusedWorkgroup: fused(one.workgroup),
    ...all(many, (product) => two(product, { when: (s) => s.M > 1 && (product.when?.(s) ?? true) })),
    apartTiles: two(many.tiles, { when: ({ M }) => M === 1, fallback: true }),
    apartWorkgroup: two(many.workgroup, { when: ({ M }) => M === 1, fallback: true }),
  };
}

const make = (store: Store, turned: boolean) => {
  const isPaged = store === "paged";
  return defineKernel({
    name: `qkvRope[${store}${turned ? "" : ",unturned"}]`,
    consts: [
      ...(["B", "T", "M", "I", "H", "K", "D", "O"] as const),
      ...((store === "sinks" ? ["W", "S"] : []) as ("W" | "S")[]),
    ],
    scalars: ["eps", ...((turned ? ["theta"] : []) as "theta"[])],
    params: (isPaged ? ["N"] : []) as "N"[],
    bindings: {
      cursor: read("u32", "B", 8),
      w: tiled(read("f32", "O", "I")),
      x: read("f32", "M", "I"),
      ...(turned ? { coarse: read("f32", ROPE_STRIDES, "D"), fine: read("f32", ROPE_STEPS, "D") } : {}),
      q: store === "sinks" ? write("f32", 2, "B", "T", "H", "D") : write("f32", "B", "T", "H", "D"),
      ...(isPaged
        ? { kv: paged("N", tiled(update("f32", 2, "B", "K", "N", "D"))) }
        : { chunk: tiled(write("f32", 2, "B", "K", "T", "D")) }),
      ...(store === "sinks" ? { ring: tiled(update("f32", 2, "B", "K", sinkSlots, "D")) } : {}),
    } as Bindings<Letter>,
    variants: variantsOf(store, turned),

    reference(tensors, s) {
      const { B, T, I, H, K, D, O, N, W, S, eps, theta } = s;
      const { cursor, w, x, q, kv, chunk, ring } = tensors as unknown as Record<string, Float32Array> & {
        cursor: Uint32Array;
      };
      const [to, slots] = isPaged ? [kv!, N] : [chunk!, T];
      const product = new Float64Array(O);
      for (let b = 0; b < B; b++)
        for (let t = 0; t < T; t++) {
          const m = b * T + t;
          let squares = 0;
          for (let i = 0; i < I; i++) squares += x![m * I + i]! ** 2;
          const scale = 1 / Math.sqrt(squares / I + eps);
          for (let o = 0; o < O; o++) {
            let sum = 0;
            for (let i = 0; i < I; i++) sum += w![o * I + i]! * x![m * I + i]!;
            product[o] = sum * scale;
          }

          const column = (head: number, d: number) => product[head * D + pairedRow(d, D)]!;
          const turn = (head: number, d: number, at: number) => {
            if (!turned) return column(head, d);
            const angle = at * theta ** ((-2 * (d % (D / 2))) / D);
            const other = d < D / 2 ? -column(head, d + D / 2) : column(head, d - D / 2);
            return column(head, d) * Math.cos(angle) + other * Math.sin(angle);
          };
          const at = positionOf(cursor, b) + t;
          const asked = store === "sinks" ? sinkPosition({ sinks: S, window: W }, at) : at;
          for (let h = 0; h < H; h++)
            for (let d = 0; d < D; d++) {
              q![(m * H + h) * D + d] = turn(h, d, at);
              if (store === "sinks") q![((B * T + m) * H + h) * D + d] = turn(h, d, asked);
            }
          const valid = t < countOf(cursor, b);
          if (isPaged && !valid) continue;
          for (let k = 0; k < K; k++)
            for (let d = 0; d < D; d++) {
              const pair = [turn(H + k, d, at), column(H + K + k, d)];
              pair.forEach((value, kind) => {
                const plane = (kind * B + b) * K + k;
                to[(plane * slots + (isPaged ? at : t)) * D + d] = value;
                if (store === "sinks" && valid && at < S)
                  ring![(plane * sinkSlots.size(s) + at) * D + d] = value;
              });
            }
        }
    },

    // the product, and 6 a turned pair; the tables' angle addition is another 6
    flops: ({ M, I, H, K, D, O }) =>
      2 * M * I * O + (turned ? 12 * M * ((store === "sinks" ? 2 : 1) * H + K) * (D / 2) : 0),
    // the weights, the chunk in and out and a row of each table a token; never the whole cache
    bytes: ({ M, I, H, D, O }) =>
      4 * (O * I + M * (I + O + (store === "sinks" ? H * D : 0) + (turned ? 2 * D : 0))),
    cases: casesOf[store] as readonly Record<Letter, number>[],
    fill: {
      cursor: (s: Record<Letter, number>) => cursorFor(s.B, streamsOf[store](s)),
      ...(turned && {
        coarse: (s: Record<Letter, number>) => ropeTables(s.theta, s.D).coarse,
        fine: (s: Record<Letter, number>) => ropeTables(s.theta, s.D).fine,
      }),
    },
  });
};

const sized = <S extends Record<"B" | "T" | "H" | "K" | "D", number>>(s: S) => ({
  ...s,
  M: s.B * s.T,
  O: (s.H + 2 * s.K) * s.D,
});

const casesOf: Record<Store, readonly Partial<Sizes<Letter>>[]> = {
  paged: [
    sized({ B: 1, T: 1, I: 33, H: 3, K: 1, D: 10, N: 512, eps: 1e-5, theta: 10_000 }),
    // pairs that make no whole tiles
    sized({ B: 1, T: 1, I: 20, H: 3, K: 2, D: 6, N: 512, eps: 1e-6, theta: 10_000 }),
    sized({ B: 3, T: 1, I: 20, H: 3, K: 1, D: 6, N: 512, eps: 1e-5, theta: 10_000 }),
    sized({ B: 3, T: 21, I: 37, H: 4, K: 2, D: 6, N: 512, eps: 1e-5, theta: 500_000 }),
    sized({ B: 1, T: 1, I: 128, H: 4, K: 4, D: 32, N: 4608, eps: 1e-6, theta: 10_000 }),
    sized({ B: 1, T: 64, I: 128, H: 4, K: 4, D: 32, N: 4608, eps: 1e-6, theta: 10_000 }),
  ],
  chunk: [
    sized({ B: 1, T: 1, I: 20, H: 3, K: 2, D: 6, eps: 1e-6, theta: 10_000 }),
    sized({ B: 3, T: 1, I: 33, H: 3, K: 1, D: 10, eps: 1e-5, theta: 10_000 }),
    sized({ B: 3, T: 5, I: 33, H: 3, K: 1, D: 10, eps: 1e-5, theta: 10_000 }),
    sized({ B: 1, T: 1, I: 512, H: 8, K: 2, D: 64, eps: 1e-6, theta: 1_000_000 }),
    sized({ B: 1, T: 64, I: 128, H: 4, K: 4, D: 32, eps: 1e-6, theta: 10_000 }),
  ],
  sinks: [
    sized({ B: 4, T: 5, I: 33, H: 3, K: 1, D: 10, W: 7, S: 3, eps: 1e-5, theta: 10_000 }),
    sized({ B: 4, T: 1, I: 20, H: 4, K: 2, D: 6, W: 13, S: 9, eps: 1e-5, theta: 500_000 }),
    sized({ B: 1, T: 1, I: 20, H: 3, K: 2, D: 6, W: 13, S: 9, eps: 1e-5, theta: 10_000 }),
    sized({ B: 1, T: 64, I: 128, H: 4, K: 4, D: 32, W: 60, S: 4, eps: 1e-6, theta: 10_000 }),
  ],
};

/** [position, count] of each stream. */
type Streams = readonly (readonly [number, number])[];
const streamsOf: Record<Store, (s: Sizes<Letter>) => Streams> = {
  // across the edge of a page, the first slots, a frozen stream
  paged: ({ T, N }) => [
    [Math.max(N - 256 + (T >> 1) - T, 0), T],
    [0, Math.max(T - 1, 1)],
    [77, 0],
  ],
  // as far as the tables reach
  chunk: ({ T }) => [
    [ROPE_POSITIONS - T, T],
    [131_071, T - 1],
    [77, 0],
  ],
  // among the sinks, across their end, where the window begins to move, frozen
  sinks: ({ T, W, S }) => [
    [0, T],
    [S - 1, T],
    [S + W - 2, Math.max(T - 1, 1)],
    [1, 0],
  ],
};

const turned = { paged: make("paged", true), chunk: make("chunk", true), sinks: make("sinks", true) };
const unturned = { paged: make("paged", false), chunk: make("chunk", false) };
export const qkvRopes = [...Object.values(turned), ...Object.values(unturned)] as const;

/**
 * Where keys and values go: into the `paged` cache, beside a ring as the `chunk`'s own, or beside a ring that keeps `sinks`
 * before its window. With `turned: false` queries and keys are stored as they are; sinks have positions inside the cache.
 */
export const qkvRope = <const S extends Store, const Turned extends boolean = true>({
  store,
  turned: isTurned,
}: {
  store: S;
  turned?: S extends "sinks" ? true : Turned;
}): Made<S, Turned> =>
  (isTurned === false ? unturned : turned)[store as keyof typeof unturned] as unknown as Made<S, Turned>;
