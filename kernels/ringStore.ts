// The chunk's last min(count, W) keys and values into a ring: the one of position p in slot p mod W. Where sinks are kept,
// the ring's slots come after theirs. Attention reads the ring before, with the positions that came before the chunk.

import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  read,
  type Sizes,
  tiled,
  update,
} from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { ownElement, sinkSlots, storeThreads, storeWgsl } from "./attention/cache.ts";
import { countOf, cursorFor, positionOf } from "./reference/cursor.ts";

//   B streams   T tokens in the chunk   K key and value heads   W slots of the ring: the window   S sinks before them
//   D size of a head
type Letter = "B" | "T" | "K" | "W" | "S" | "D";

type Made<L extends Letter> = Kernel<
  L,
  {
    cursor: Binding<"B", "u32">;
    chunk: Binding<"B" | "K" | "T" | "D", "f32">;
    ring: Binding<Exclude<L, "T">, "f32">;
  } & Bindings<L>
>;

/** Tiles of four slots that so many tokens may touch: the first and the last in part, and the ring's last, which may not be whole. */
const slotTiles = ({ T, W }: Sizes<Letter>) => Math.min(ceilDiv(W, 4), Math.floor(Math.min(T, W) / 4) + 3);

const make = (sinks: boolean) =>
  defineKernel({
    name: sinks ? "ringStore[sinks]" : "ringStore",
    consts: ["B", "T", "K", "W", "D", ...((sinks ? ["S"] : []) as "S"[])],
    bindings: {
      cursor: read("u32", "B", 8),
      chunk: tiled(read("f32", 2, "B", "K", "T", "D")),
      ring: tiled(update("f32", 2, "B", "K", sinks ? sinkSlots : "W", "D")),
    },

    variants: {
      slots: {
        suits: "any",
        views: { chunk: "f32" },
        passes: [
          {
            workgroup: 64,
            grid: (s) => ceilDiv(storeThreads(s, slotTiles(s)), 64),
            wgsl: (s) =>
              storeWgsl({
                cache: "ring",
                own: ownElement,
                tiles: slotTiles(s),
                find: `let end = position(b) + count(b);
  let kept = min(count(b), W);
  let n4 = ((end - kept) % W / 4u + n) % W4;
  let row = plane * ${sinks ? "(S4 + W4) + S4" : "W4"} + n4;
  // how far behind the last token those of these slots are
  let slots = n4 * 4u + vec4u(0u, 1u, 2u, 3u);
  let behind = (vec4u((end + W - 1u) % W + W) - min(slots, vec4u(W))) % W;
  let which = (behind < vec4u(kept)) & (slots < vec4u(W));
  let tokens = select(vec4u(), vec4u(count(b) - 1u) - behind, which);`,
              }),
          },
        ],
      },
    },

    reference({ cursor, chunk, ring }, s) {
      const { B, T, K, W, D } = s;
      const slots = sinks ? sinkSlots.size(s) : W;
      for (let plane = 0; plane < 2 * B * K; plane++) {
        const b = Math.floor(plane / K) % B;
        const count = countOf(cursor, b);
        for (let t = Math.max(0, count - W); t < count; t++) {
          const slot = slots - W + ((positionOf(cursor, b) + t) % W);
          for (let d = 0; d < D; d++) ring[(plane * slots + slot) * D + d] = chunk[(plane * T + t) * D + d]!;
        }
      }
    },

    flops: () => 0,
    bytes: ({ B, T, K, W, D }, each) => 2 * B * K * Math.min(T, W) * D * (4 + each("ring")),
    cases: (sinks
      ? [
          { B: 3, T: 5, K: 1, W: 7, S: 3, D: 10 },
          { B: 1, T: 64, K: 4, W: 60, S: 4, D: 32 },
        ]
      : [
          { B: 3, T: 5, K: 1, W: 7, D: 10 },
          { B: 2, T: 21, K: 2, W: 7, D: 6 },
          { B: 1, T: 1, K: 4, W: 64, D: 32 },
          { B: 1, T: 64, K: 4, W: 64, D: 32 },
        ]) as readonly Partial<Sizes<Letter>>[] as readonly Sizes<Letter>[],
    fill: {
      cursor: ({ B, T }) =>
        cursorFor(B, [
          [1_048_500, T],
          [3, 0],
          [0, T - 1],
        ]),
    },
  });

const made = { window: make(false), sinks: make(true) } as unknown as {
  window: Made<Exclude<Letter, "S">>;
  sinks: Made<Letter>;
};
export const ringStores = Object.values(made);

/** Of a window, or of `sinks` and a window. */
export const ringStore = <const P extends keyof typeof made>({ pattern }: { pattern: P }) => made[pattern];
