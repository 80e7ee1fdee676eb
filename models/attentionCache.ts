// Where a layer's keys and values are kept and which of them a query sees: all tokens' in pages, or in a ring a window's,
// with or without the stream's first tokens before it.
//
//   B streams   T tokens in the chunk   H query heads   K key and value heads   D size of a head
//   O rows of [q, k, v]'s weights   Y columns of the heads' outputs   N slots of the paged cache
//   W slots of the ring, or the window or stride of pages of which a query sees a part   S sinks

import { ShapeError } from "../engine/errors.ts";
import { type Carried, type Chunk, kv, pagedKv } from "../engine/model.ts";
import type { Recorder } from "../engine/plan.ts";
import { rows, type Spec, type Tensor, tiles } from "../engine/tensor.ts";
import { isSparse, sinkSlots } from "../kernels/attention/cache.ts";
import { attention, headColumns } from "../kernels/attention.ts";
import { qkvRope } from "../kernels/qkvRope.ts";
import { ringStore } from "../kernels/ringStore.ts";
import type { AttentionSizes, Pattern } from "./configs.ts";

export const headLetters = ({ heads: H, kvHeads: K, headDim: D }: AttentionSizes) => ({
  H,
  K,
  D,
  O: (H + 2 * K) * D,
  Y: headColumns({ H, D }).Y,
});

/** Letters of the product that gives queries, keys and values. */
const productLetters = (c: AttentionSizes, { B, T }: Chunk) => ({
  M: B * T,
  I: c.hidden,
  O: headLetters(c).O,
  eps: c.eps,
});

/** What stands around the cache of one layer. */
interface Attended {
  cursor: Tensor;
  /** The weights of queries, keys and values, and what they are multiplied with. */
  w: Tensor;
  x: Tensor;
  /** The rotary tables; absent where the model has no positional encoding. */
  coarse?: Tensor | undefined;
  fine?: Tensor | undefined;
  q: Tensor;
  y: Tensor;
}

/** Where keys and values are kept. */
export interface Cache {
  /** What holds the queries of a chunk. */
  queries(c: AttentionSizes, chunk: Chunk): Spec;
  /** Of one layer. */
  state(c: AttentionSizes, B: number): Carried;
  /** The chunk's own keys and values, where the cache takes them in only afterwards. */
  chunk(c: AttentionSizes, chunk: Chunk): Spec | undefined;
  /** q, k and v, the cache brought up to date, and y. */
  attend(
    m: Recorder,
    c: AttentionSizes,
    t: Attended,
    carried: Tensor,
    own: Tensor | undefined,
    chunk: Chunk,
  ): void;
}

const plainQueries: Cache["queries"] = ({ heads: H, headDim: D }, { B, T }) => rows(B, T, H, D);

/** W and S; 0 where a pattern has none. */
function patternLetters({ pattern }: AttentionSizes): { W: number; S: number } {
  switch (pattern.kind) {
    case "full":
    case "materialised":
      return { W: 0, S: 0 };
    case "strided":
      return { W: pattern.stride, S: 0 };
    case "window":
    case "local":
      return { W: pattern.window, S: 0 };
    case "sinks":
      return { W: pattern.window, S: pattern.sinks };
  }
}

/** Every token's, in pages. */
const paged = (pattern: "full" | "materialised" | "local" | "strided"): Cache => ({
  queries: plainQueries,
  state: ({ kvHeads: K, headDim: D }, B) => pagedKv(3, tiles(2, B, K, 0, D)),
  chunk: () => undefined,
  attend(m, c, { cursor, w, x, coarse, fine, q, y }, carried, _, { B, T }) {
    const { H, K, D, Y } = headLetters(c);
    const { W } = patternLetters(c);
    const sizes = { B, T, H, K, D, N: 0 };
    const product = { ...sizes, ...productLetters(c, { B, T }) };
    const heads = { cursor, w, x, q, kv: carried };
    const theta = c.ropeTheta;
    if (coarse && fine && theta !== null)
      m.run(qkvRope({ store: "paged" }), { ...heads, coarse, fine }, { ...product, theta });
    else m.run(qkvRope({ store: "paged", turned: false }), heads, product);
    const bound = { cursor, q, kv: carried, y };
    if (isSparse(pattern)) m.run(attention({ pattern }), bound, { ...sizes, Y, W });
    else m.run(attention({ pattern }), bound, { ...sizes, Y });
  },
});

/** The window's, in a ring; the chunk is attended to beside it and stored when all is read. */
const ring: Cache = {
  queries: plainQueries,
  state: (c, B) => kv(tiles(2, B, c.kvHeads, patternLetters(c).W, c.headDim)),
  chunk: ({ kvHeads: K, headDim: D }, { B, T }) => tiles(2, B, K, T, D),
  attend(m, c, { cursor, w, x, coarse, fine, q, y }, carried, own, { B, T }) {
    const { H, K, D, Y } = headLetters(c);
    const { W } = patternLetters(c);
    const chunk = own!;
    const sizes = { B, T, H, K, D };
    const product = { ...sizes, ...productLetters(c, { B, T }) };
    const heads = { cursor, w, x, q, chunk };
    const theta = c.ropeTheta;
    if (coarse && fine && theta !== null)
      m.run(qkvRope({ store: "chunk" }), { ...heads, coarse, fine }, { ...product, theta });
    else m.run(qkvRope({ store: "chunk", turned: false }), heads, product);
    m.run(attention({ pattern: "window" }), { cursor, q, ring: carried, chunk, y }, { ...sizes, Y, W });
    m.run(ringStore({ pattern: "window" }), { cursor, chunk, ring: carried }, { B, T, K, W, D });
  },
};

/** The stream's first tokens', and a window's in a ring after them: StreamingLLM (arXiv 2309.17453). */
const sinks: Cache = {
  // turned as the window is asked, and as the sinks are
  queries: ({ heads: H, headDim: D }, { B, T }) => rows(2, B, T, H, D),
  state(c, B) {
    const sizes = patternLetters(c);
    return kv(tiles(2, B, c.kvHeads, sinkSlots.size(sizes), c.headDim), sizes.S);
  },
  chunk: ring.chunk,
  attend(m, c, { cursor, w, x, coarse, fine, q, y }, carried, own, { B, T }) {
    const { H, K, D, Y } = headLetters(c);
    const { W, S } = patternLetters(c);
    const chunk = own!;
    const sizes = { B, T, H, K, D, W, S };
    const product = { ...sizes, ...productLetters(c, { B, T }) };
    const theta = c.ropeTheta;
    if (!coarse || !fine || theta === null)
      throw new ShapeError("sinks have positions inside the cache: a model without any cannot have sinks");
    const heads = { cursor, w, x, coarse, fine, q, chunk, ring: carried };
    m.run(qkvRope({ store: "sinks" }), heads, { ...product, theta });
    m.run(attention({ pattern: "sinks" }), { cursor, q, ring: carried, chunk, y }, { ...sizes, Y });
    m.run(ringStore({ pattern: "sinks" }), { cursor, chunk, ring: carried }, { B, T, K, W, S, D });
  },
};

export const caches: Readonly<Record<Pattern["kind"], Cache>> = {
  full: paged("full"),
  materialised: paged("materialised"),
  window: ring,
  sinks,
  local: paged("local"),
  strided: paged("strided"),
};
