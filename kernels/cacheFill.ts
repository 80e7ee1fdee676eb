// Random keys and values in a cache, in the place of a prefill: those of the positions from where a stream stands to as many
// further on as its count says, uniform in [-1, 1). An element depends on the stream's seed, on which tensor, stream,
// head and position it is, and on nothing else: not on pages, and not on how many calls fill them.
//   x = 2^-23 (g(h(h(h(seed + L) + plane) + position) + d * 0x9e3779b9) >> 8) - 1     plane = (2b + values) K + head
// with h lowbias32 (Wellons 2018, https://nullprogram.com/blog/2018/07/31/) and g its last round, which is enough over what
// is hashed already. Exact in f32.

import { CURSOR, CURSOR_COLUMNS, cursorWgsl } from "../engine/cursor.ts";
import {
  type Binding,
  type Bindings,
  defineKernel,
  type Kernel,
  paged,
  read,
  tiled,
  update,
} from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { countOf, cursorFor, positionOf } from "./reference/cursor.ts";

//   B streams   K key and value heads   D size of a head   L number of the tensor among those of the model
//   N slots of the paged cache   R slots in all of a ring with S sinks before it: 4 ceil(S/4) + W, where position p is held in
//   slot p of the sinks, if it is below S, and in slot p mod W of the ring
type Letter = "B" | "K" | "D" | "N" | "R" | "S" | "L";

interface Caches {
  paged: Kernel<
    Exclude<Letter, "R" | "S">,
    Filled<Exclude<Letter, "R" | "S">, { kv: Binding<"B" | "K" | "N" | "D", "f32"> }>
  >;
  ring: Kernel<
    Exclude<Letter, "N">,
    Filled<Exclude<Letter, "N">, { ring: Binding<"B" | "K" | "R" | "D", "f32"> }>
  >;
}
type Filled<L extends string, C> = { cursor: Binding<"B", "u32"> } & C & Bindings<L>;

const hash = (x: number): number => {
  let h = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
};

const round = (x: number): number => Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0;

/** A tile's column; past the D elements it is padding and stays zero. */
const column = (c: number, D: number): string => {
  const drawn = `drawn(rows + (d + ${c}u) * 0x9e3779b9u)`;
  return D % 4 === 0 ? drawn : `select(vec4f(), ${drawn}, d + ${c}u < D)`;
};
const columns = (one: (c: number) => string): string => [0, 1, 2, 3].map(one).join(", ");

/** Of plane (kind B + b) K + head, the tile at four positions and elements d to d + 3. */
const shared = (D: number) => `${cursorWgsl}
fn hash(x: vec4u) -> vec4u {
  var h = (x ^ (x >> vec4u(16u))) * 0x7feb352du;
  h = (h ^ (h >> vec4u(15u))) * 0x846ca68bu;
  return h ^ (h >> vec4u(16u));
}
fn drawn(x: vec4u) -> vec4f {
  return vec4f(((x ^ (x >> vec4u(15u))) * 0x846ca68bu) >> vec4u(8u)) * 0x1p-23f - 1.0;
}
fn drawnTile(plane: u32, at: vec4u, d: u32) -> mat4x4f {
  let b = plane / K % B;
  let seed = cursor[b * ${CURSOR_COLUMNS}u + ${CURSOR.seed}u];
  let rows = hash(hash(hash(vec4u(seed + params.L)) + (2u * b + plane / K / B) * K + plane % K) + at);
  return mat4x4f(${columns((c) => column(c, D))});
}
fn isFilled(plane: u32, at: vec4u) -> vec4<bool> {
  let first = position(plane / K % B);
  return (at >= vec4u(first)) & (at < vec4u(first + count(plane / K % B)));
}
// the largest magnitude of each position's elements of a group, which scales need
fn most(plane: u32, at: vec4u, first: u32, last: u32) -> vec4f {
  var most = vec4f();
  for (var d4 = first; last > first + 1u && d4 < last; d4++) {
    let tile = drawnTile(plane, at, 4u * d4);
    most = max(most, max(max(abs(tile[0]), abs(tile[1])), max(abs(tile[2]), abs(tile[3]))));
  }
  return most;
}`;

/** WGSL: puts into a group of a row of tiles those of the four positions `at` that are filled. */
const partly = (cache: string, row: string): string => `let filled = isFilled(plane, at);
  if (!any(filled)) { return; }
  let begin = i % GROUPS * ${cache}_GROUP;
  let end = min(begin + ${cache}_GROUP, D4);
  ${cache}Begin(${row}, begin, filled, most(plane, at, begin, end));
  for (var d4 = begin; d4 < end; d4++) {
    let tile = drawnTile(plane, at, 4u * d4);
    for (var c = 0u; c < 4u; c++) { ${cache}Put(${row}, d4, c, filled, tile[c]); }
  }`;

const make = (cache: keyof Caches) => {
  const isPaged = cache === "paged";
  return defineKernel({
    name: `cacheFill[${cache}]`,
    consts: (isPaged ? ["B", "K", "D"] : ["B", "K", "D", "R", "S"]) as Letter[],
    params: (isPaged ? ["N", "L"] : ["L"]) as Letter[],
    bindings: {
      cursor: read("u32", "B", 8),
      ...(isPaged
        ? { kv: paged("N", tiled(update("f32", 2, "B", "K", "N", "D"))) }
        : { ring: tiled(update("f32", 2, "B", "K", "R", "D")) }),
    } as Bindings<Letter>,

    // A thread fills four slots of a group of columns. A page's tiles that are filled in part, at most two a plane, are left
    // to a second pass: a software adapter pays for both sides of a branch.
    variants: {
      tiles: {
        suits: "any",
        passes: isPaged
          ? [
              {
                overPages: true,
                workgroup: 64,
                grid: ({ B, K, D, PAGE }) => ceilDiv(2 * B * K * (PAGE / 4) * ceilDiv(D, 4), 64),
                wgsl: ({ D }) => `${shared(D)}
const GROUPS = (D4 + kv0_GROUP - 1u) / kv0_GROUP;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let row = i / GROUPS;
  let plane = row / (PAGE / 4u);
  if (plane >= 2u * B * K) { return; }
  let at = params.base + row % (PAGE / 4u) * 4u + vec4u(0u, 1u, 2u, 3u);
  if (!all(isFilled(plane, at))) { return; }
  let first = i % GROUPS * kv0_GROUP;
  let last = min(first + kv0_GROUP, D4);
  kv0Begin(row, first, vec4<bool>(true), most(plane, at, first, last));
  for (var d4 = first; d4 < last; d4++) { kv0PutTile(row, d4, drawnTile(plane, at, 4u * d4)); }
}`,
              },
              {
                overPages: true,
                workgroup: 16,
                grid: ({ B, K, D }) => ceilDiv(2 * B * K * 2 * ceilDiv(D, 4), 16),
                wgsl: ({ D }) => `${shared(D)}
const GROUPS = (D4 + kv0_GROUP - 1u) / kv0_GROUP;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let plane = i / GROUPS / 2u;
  if (plane >= 2u * B * K) { return; }
  let b = plane / K % B;
  let first = position(b) / 4u;
  let last = (position(b) + count(b)) / 4u;
  let row = select(last, first, i / GROUPS % 2u == 0u);
  let other = i / GROUPS % 2u == 1u && first == last;
  if (other || row * 4u < params.base || row * 4u >= params.base + PAGE) { return; }
  let at = row * 4u + vec4u(0u, 1u, 2u, 3u);
  ${partly("kv0", "plane * (PAGE / 4u) + row - params.base / 4u")}
}`,
              },
            ]
          : [
              {
                workgroup: 64,
                grid: ({ B, K, D, R }) => ceilDiv(2 * B * K * ceilDiv(R, 4) * ceilDiv(D, 4), 64),
                wgsl: ({ D }) => `${shared(D)}
const GROUPS = (D4 + ring_GROUP - 1u) / ring_GROUP;
const W = R - 4u * S4;
// the last position that each of four slots holds; \`end\` where it holds none
fn held(slots: vec4u, end: u32) -> vec4u {
  let last = max(end, 1u) - 1u;
  let back = (last + R - min(slots, vec4u(R))) % W;
  let none = (back > vec4u(last)) | (slots >= vec4u(R));
  let ring = select(last - back, vec4u(end), none);
  return select(ring, select(vec4u(end), slots, slots < vec4u(S)), slots < vec4u(4u * S4));
}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let plane = i / GROUPS / R4;
  if (plane >= 2u * B * K) { return; }
  let b = plane / K % B;
  let at = held(i / GROUPS % R4 * 4u + vec4u(0u, 1u, 2u, 3u), position(b) + count(b));
  ${partly("ring", "i / GROUPS")}
}`,
              },
            ],
      },
    },

    reference(t, { B, K, D, N, R, S, L }) {
      const { cursor, kv, ring } = t as unknown as Record<string, Float32Array> & { cursor: Uint32Array };
      const [to, slots] = isPaged ? [kv!, N] : [ring!, R];
      const W = R - 4 * ceilDiv(S, 4);
      const slotsOf = (p: number) => {
        if (isPaged) return [p];
        return p < S ? [p, R - W + (p % W)] : [R - W + (p % W)];
      };
      for (let b = 0; b < B; b++) {
        const seed = cursor[b * CURSOR_COLUMNS + CURSOR.seed]!;
        const first = positionOf(cursor, b);
        for (let p = first; p < first + countOf(cursor, b); p++)
          for (let kind = 0; kind < 2; kind++)
            for (let k = 0; k < K; k++) {
              const row = hash(hash(hash(seed + L) + (2 * b + kind) * K + k) + p);
              for (const slot of slotsOf(p))
                for (let d = 0; d < D; d++)
                  to[(((kind * B + b) * K + k) * slots + slot) * D + d] =
                    (round(row + Math.imul(d, 0x9e3779b9)) >>> 8) * 2 ** -23 - 1;
            }
      }
    },

    flops: () => 0,
    // all slots are written at most once
    bytes: ({ B, K, D, N, R }, each) => each(isPaged ? "kv" : "ring") * 2 * B * K * (isPaged ? N : R) * D,
    cases: (isPaged
      ? [
          { B: 4, K: 1, D: 10, N: 512, L: 1 },
          { B: 1, K: 4, D: 32, N: 4608, L: 3 },
        ]
      : [
          { B: 4, K: 1, D: 10, R: 7, S: 0, L: 1 },
          { B: 4, K: 2, D: 6, R: 11, S: 3, L: 0 },
          { B: 1, K: 4, D: 32, R: 64, S: 0, L: 3 },
          { B: 1, K: 4, D: 32, R: 64, S: 4, L: 0 },
        ]) as unknown as readonly Record<Letter, number>[],
    fill: {
      // across the edges of pages, around the ring once and more than once, a frozen stream, the first slots
      cursor: (s: Record<Letter, number>) => {
        const streams = isPaged
          ? ([
              [101, s.N - 111],
              [77, 0],
              [0, 5],
              [254, 1],
            ] as const)
          : ([
              [s.R - 3, 2 * s.R + 1],
              [77, 0],
              [0, 5],
              [s.R - 2, 4],
            ] as const);
        const cursor = cursorFor(s.B, streams);
        for (let b = 0; b < s.B; b++) cursor[b * CURSOR_COLUMNS + CURSOR.seed] = 2 ** 32 - 1 - 7 * b;
        return cursor;
      },
    },
  });
};

const made = { paged: make("paged"), ring: make("ring") } as unknown as Caches;
export const cacheFills = [made.paged, made.ring] as const;

/** Random keys and values in pages, or in a ring. */
export const cacheFill = <const C extends keyof Caches>({ cache }: { cache: C }): Caches[C] => made[cache];
