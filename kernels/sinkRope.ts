// What sinks need beside `rope`: queries turned as the sinks are asked, and the sinks themselves stored. Positions are
// those inside the cache (Xiao et al. 2023, arXiv 2309.17453, section 3.2): a sink stands where it was read, and a query that
// has left the window's first place stands at its last, S + W - 1. Before a stream is that long nothing differs.

import { cursorWgsl } from "../engine/cursor.ts";
import { defineKernel, read, tiled, update } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { elementWgsl, sinkSlots } from "./attention/cache.ts";
import { sinkPosition } from "./attention/pattern.ts";
import { countOf, cursorFor, positionOf } from "./reference/cursor.ts";
import { ROPE_STEPS, ROPE_STRIDES, ropeTables, turnedWgsl } from "./rope.ts";

//   B streams   T tokens in the chunk   H query heads   K key and value heads   D size of a head, even
//   J = (H + 2K) D columns of qkv: queries, keys, values   W slots of the ring   S sinks   theta base of the angles

export const sinkRope = defineKernel({
  name: "sinkRope",
  consts: ["B", "T", "H", "K", "D", "J", "W", "S"],
  scalars: ["theta"],
  bindings: {
    cursor: read("u32", "B", 8),
    qkv: read("f32", "B", "T", "J"),
    coarse: read("f32", ROPE_STRIDES, "D"),
    fine: read("f32", ROPE_STEPS, "D"),
    /** The chunk's own keys and values, turned. */
    chunk: tiled(read("f32", 2, "B", "K", "T", "D")),
    /** The queries as the window is asked (0), which stay, and as the sinks are (1). */
    q: update("f32", 2, "B", "T", "H", "D"),
    /** Sinks, and the window's ring after them, which stays. */
    ring: tiled(update("f32", 2, "B", "K", sinkSlots, "D")),
  },

  // A thread turns a pair of a query, or owns four sinks of a group of columns and stores those that the chunk has.
  variants: {
    pairs: {
      suits: "any",
      views: { chunk: "f32" },
      passes: [
        {
          workgroup: 64,
          grid: ({ B, T, H, K, D, S }) =>
            ceilDiv(B * T * H * (D / 2) + 2 * B * K * ceilDiv(S, 4) * ceilDiv(D, 4), 64),
          wgsl: `${cursorWgsl}
const PAIRS = D / 2u;
const TURNED = B * T * H * PAIRS;
const GROUPS = (D4 + ring_GROUP - 1u) / ring_GROUP;
${turnedWgsl}
${elementWgsl}
fn own(plane: u32, tokens: vec4u, d: u32) -> vec4f {
  if (d >= D) { return vec4f(); }
  return vec4f(${[0, 1, 2, 3].map((j) => `chunk[element(plane, T4, tokens[${j}], d)]`).join(", ")});
}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  if (i < TURNED) {
    let pair = i % PAIRS;
    let row = i / PAIRS;
    let token = row / H;
    let source = token * J4 * 4u + row % H * D + pair;
    let at = min(position(token / T) + token % T, S + W - 1u);
    let x = turned(vec2f(qkv[source], qkv[source + PAIRS]), at, pair);
    let to = (B * T * H + row) * D4 * 4u + pair;
    q[to] = x.x;
    q[to + PAIRS] = x.y;
    return;
  }
  let j = i - TURNED;
  let plane = j / GROUPS / S4;
  if (plane >= 2u * B * K) { return; }
  let b = plane / K % B;
  let n4 = j / GROUPS % S4;
  let slots = n4 * 4u + vec4u(0u, 1u, 2u, 3u);
  let which = (slots >= vec4u(position(b))) & (slots < vec4u(min(S, position(b) + count(b))));
  if (!any(which)) { return; }
  let tokens = select(vec4u(), slots - position(b), which);
  let row = plane * (S4 + W4) + n4;
  let first = j % GROUPS * ring_GROUP;
  let last = min(first + ring_GROUP, D4);
  var most = vec4f();
  for (var d = 4u * first; ring_GROUP > 1u && d < 4u * last; d++) { most = max(most, abs(own(plane, tokens, d))); }
  ringBegin(row, first, which, most);
  for (var d = 4u * first; d < 4u * last; d++) { ringPut(row, d / 4u, d % 4u, which, own(plane, tokens, d)); }
}`,
        },
      ],
    },
  },

  reference({ cursor, qkv, chunk, q, ring }, s) {
    const { B, T, H, K, D, J, W, S, theta } = s;
    const slots = sinkSlots.size(s);
    for (let b = 0; b < B; b++)
      for (let t = 0; t < T; t++) {
        const at = sinkPosition({ sinks: S, window: W }, positionOf(cursor, b) + t);
        for (let h = 0; h < H; h++)
          for (let i = 0; i < D / 2; i++) {
            const angle = at * theta ** ((-2 * i) / D);
            const x = qkv[(b * T + t) * J + h * D + i]!;
            const y = qkv[(b * T + t) * J + h * D + i + D / 2]!;
            const to = (((B + b) * T + t) * H + h) * D + i;
            q[to] = x * Math.cos(angle) - y * Math.sin(angle);
            q[to + D / 2] = y * Math.cos(angle) + x * Math.sin(angle);
          }
      }
    for (let plane = 0; plane < 2 * B * K; plane++) {
      const b = Math.floor(plane / K) % B;
      const position = positionOf(cursor, b);
      for (let t = 0; t < countOf(cursor, b) && position + t < S; t++)
        for (let d = 0; d < D; d++)
          ring[(plane * slots + position + t) * D + d] = chunk[(plane * T + t) * D + d]!;
    }
  },

  flops: ({ B, T, H, D }) => 12 * B * T * H * (D / 2),
  // queries in and out and a row of each table a token; sinks are stored once in a stream's life
  bytes: ({ B, T, H, D }) => 4 * B * T * (2 * H * D + 2 * D),
  cases: [
    { B: 4, T: 5, H: 3, K: 1, D: 10, J: 50, W: 7, S: 3, theta: 10_000 },
    { B: 4, T: 1, H: 4, K: 2, D: 6, J: 48, W: 13, S: 9, theta: 500_000 },
    { B: 1, T: 64, H: 4, K: 4, D: 32, J: 384, W: 60, S: 4, theta: 10_000 },
  ],
  fill: {
    cursor: ({ B, T, S, W }) =>
      cursorFor(B, [
        [0, T],
        [S - 1, T],
        [S + W - 2, Math.max(T - 1, 1)],
        [1, 0],
      ]),
    coarse: ({ theta, D }) => ropeTables(theta, D).coarse,
    fine: ({ theta, D }) => ropeTables(theta, D).fine,
  },
});
