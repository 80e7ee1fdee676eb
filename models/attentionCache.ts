// Where a layer's keys and values are kept and which of them a query sees: all tokens' in pages, or a window's in a ring.
//
//   B streams   T tokens in the chunk   H query heads   K key and value heads   D size of a head
//   J columns of [q, k, v]   Y columns of the heads' outputs   N slots of the paged cache   W slots of the ring

import { type Carried, type Chunk, kv, pagedKv } from "../engine/model.ts";
import type { Recorder } from "../engine/plan.ts";
import { type Spec, type Tensor, tiles } from "../engine/tensor.ts";
import { attention, headColumns } from "../kernels/attention.ts";
import { ringStore } from "../kernels/ringStore.ts";
import { rope } from "../kernels/rope.ts";
import type { AttentionSizes, Pattern } from "./configs.ts";

export const headLetters = ({ heads: H, kvHeads: K, headDim: D }: AttentionSizes) => ({
  H,
  K,
  D,
  J: (H + 2 * K) * D,
  Y: headColumns({ H, D }).Y,
});

/** What stands around the cache of one layer. */
interface Attended {
  cursor: Tensor;
  qkv: Tensor;
  /** The rotary tables; absent where the model has no positional encoding. */
  coarse?: Tensor | undefined;
  fine?: Tensor | undefined;
  q: Tensor;
  y: Tensor;
}

/** Where keys and values are kept. */
export interface Cache {
  /** Of one layer. */
  state(c: AttentionSizes, B: number): Carried;
  /** The chunk's own keys and values, where the cache takes them in only afterwards. */
  chunk(c: AttentionSizes, chunk: Chunk): Spec | undefined;
  /** q, k and v from `qkv`, the cache brought up to date, and y. */
  attend(
    m: Recorder,
    c: AttentionSizes,
    t: Attended,
    carried: Tensor,
    own: Tensor | undefined,
    chunk: Chunk,
  ): void;
}

/** Every token's, in pages. */
const paged: Cache = {
  state: ({ kvHeads: K, headDim: D }, B) => pagedKv(3, tiles(2, B, K, 0, D)),
  chunk: () => undefined,
  attend(m, c, { cursor, qkv, coarse, fine, q, y }, carried, _, { B, T }) {
    const { H, K, D, J, Y } = headLetters(c);
    const sizes = { B, T, H, K, D, N: 0 };
    const heads = { cursor, qkv, q, kv: carried };
    const theta = c.ropeTheta;
    if (coarse && fine && theta !== null)
      m.run(rope({ store: "paged" }), { ...heads, coarse, fine }, { ...sizes, J, theta });
    else m.run(rope({ store: "paged", turned: false }), heads, { ...sizes, J });
    m.run(attention({ cache: "paged" }), { cursor, q, kv: carried, y }, { ...sizes, Y });
  },
};

/** W. */
const windowOf = ({ pattern }: AttentionSizes): number => (pattern.kind === "window" ? pattern.window : 0);

/** The window's, in a ring; the chunk is attended to beside it and stored when all is read. */
const ring: Cache = {
  state: (c, B) => kv(tiles(2, B, c.kvHeads, windowOf(c), c.headDim)),
  chunk: ({ kvHeads: K, headDim: D }, { B, T }) => tiles(2, B, K, T, D),
  attend(m, c, { cursor, qkv, coarse, fine, q, y }, carried, own, { B, T }) {
    const { H, K, D, J, Y } = headLetters(c);
    const W = windowOf(c);
    const chunk = own!;
    const heads = { cursor, qkv, q, chunk };
    const theta = c.ropeTheta;
    if (coarse && fine && theta !== null)
      m.run(rope({ store: "chunk" }), { ...heads, coarse, fine }, { B, T, H, K, D, J, theta });
    else m.run(rope({ store: "chunk", turned: false }), heads, { B, T, H, K, D, J });
    m.run(attention({ cache: "ring" }), { cursor, q, ring: carried, chunk, y }, { B, T, H, K, D, Y, W });
    m.run(ringStore, { cursor, chunk, ring: carried }, { B, T, K, W, D });
  },
};

/** By pattern; those that are missing are not implemented. */
export const caches: Partial<Record<Pattern["kind"], Cache>> = { full: paged, window: ring };
