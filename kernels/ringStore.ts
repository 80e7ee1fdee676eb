// The chunk's last min(count, W) keys and values into a ring: the one of position p in slot p mod W. Where sinks are kept,
// the ring's slots come after theirs. Attention reads the ring before, with the positions that came before the chunk.

import { cursorWgsl } from "../engine/cursor.ts";
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
import { elementWgsl, sinkSlots } from "./attention/cache.ts";
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

const threads = ({ B, T, K, W, D }: Sizes<Letter>) => 2 * B * K * Math.min(T, W) * D;

const make = (sinks: boolean) =>
  defineKernel({
    name: sinks ? "ringStore[sinks]" : "ringStore",
    consts: ["B", "T", "K", "W", "D", ...((sinks ? ["S"] : []) as "S"[])],
    bindings: {
      cursor: read("u32", "B", 8),
      chunk: tiled(read("f32", 2, "B", "K", "T", "D")),
      ring: tiled(update("f32", 2, "B", "K", sinks ? sinkSlots : "W", "D")),
    },

    // A thread copies one element: that of the j-th token from the end.
    variants: {
      elements: {
        suits: "any",
        views: { chunk: "f32", ring: "f32" },
        passes: [
          {
            workgroup: 64,
            grid: (s) => ceilDiv(threads(s), 64),
            wgsl: `${cursorWgsl}
const STORED = min(T, W);
${elementWgsl}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let d = i % D;
  let j = i / D % STORED;
  let plane = i / D / STORED;
  if (plane >= 2u * B * K) { return; }
  let b = plane / K % B;
  if (j >= count(b)) { return; }
  let t = count(b) - 1u - j;
  ring[element(plane, ${sinks ? "S4 + W4, 4u * S4 + " : "W4, "}(position(b) + t) % W, d)] = chunk[element(plane, T4, t, d)];
}`,
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
    bytes: (s) => 8 * threads(s),
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
