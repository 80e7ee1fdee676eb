// y_t = silu(bias + sum_k w_k x_{t-(K-1)+k}): the depthwise causal convolution in front of a selective scan
// (Gu & Dao 2023, arXiv 2312.00752, section 3.4, figure 3).
// The K - 1 columns before the chunk stand in a ring, the one of position p in slot p mod (K - 1): a token then costs
// the state one column.

import { CURSOR_COLUMNS, cursorWgsl } from "../engine/cursor.ts";
import { defineKernel, read, type Sizes, update, type Variant, write } from "../engine/kernel.ts";
import { ceilDiv } from "../engine/tensor.ts";
import { countOf, positionOf } from "./reference/cursor.ts";
import { silu } from "./reference/math.ts";
import { mixedStreams } from "./reference/streams.ts";

//   B streams   T tokens in the chunk   E channels   K columns that an output sees, its own included (>= 2)
//   S slots of the ring: K - 1   X columns of a row of x, of which the first E are convolved
type Letter = "B" | "T" | "E" | "K" | "S" | "X";

/** Taps up to which a thread keeps the columns that it sees in registers. */
const UNROLLED = 8;

/** A thread owns four channels of `block(s)` tokens; that of the chunk's first tokens, who alone see the ring, moves it on. */
const variant = (
  suits: "cpu" | "gpu" | "any",
  workgroup: (threads: number) => number,
  block: (s: Sizes<Letter>) => number,
  tokens: (s: Sizes<Letter>) => string,
): Variant<Letter> => {
  const threads = (s: Sizes<Letter>) => s.B * ceilDiv(s.E, 4) * ceilDiv(s.T, block(s));
  return {
    suits,
    views: { x: "vec4f", w: "vec4f", bias: "vec4f", past: "vec4f", y: "vec4f" },
    passes: [
      {
        workgroup: (s) => workgroup(threads(s)),
        grid: (s) => ceilDiv(threads(s), workgroup(threads(s))),
        wgsl: (s) => `${cursorWgsl}
const BLOCK = ${block(s)}u;
const BLOCKS = (T + BLOCK - 1u) / BLOCK;
fn silu(v: vec4f) -> vec4f { return v / (1.0 + exp(-max(v, vec4f(-80.0)))); }
fn slot(b: u32, p: u32, e4: u32) -> u32 { return (b * S + p % S) * E4 + e4; }
// column i of the stream, counted from the ring's oldest
fn column(b: u32, i: u32, e4: u32) -> vec4f {
  if (i < S) { return past[slot(b, position(b) + i, e4)]; }
  return x[(b * T + i - S) * X4 + e4];
}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  let e4 = i % E4;
  let b = i / E4 / BLOCKS;
  let first = i / E4 % BLOCKS * BLOCK;
  if (b >= B) { return; }
  ${tokens(s)}
  if (first > 0u) { return; }
  for (var t = max(count(b), S) - S; t < count(b); t++) {
    past[slot(b, position(b) + t, e4)] = x[(b * T + t) * X4 + e4];
  }
}`,
      },
    ],
  };
};

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

const fromRegisters = ({ K }: Sizes<Letter>) => `
  let bias4 = bias[e4];
  ${range(K)
    .map((k) => `let w${k} = w[${k}u * E4 + e4];`)
    .join(" ")}
  var x0 = vec4f();
  ${range(K - 1)
    .map((k) => `var x${k + 1} = column(b, first + ${k}u, e4);`)
    .join(" ")}
  for (var t = first; t < min(first + BLOCK, T); t++) {
    ${range(K - 1)
      .map((k) => `x${k} = x${k + 1};`)
      .join(" ")}
    x${K - 1} = x[(b * T + t) * X4 + e4];
    y[(b * T + t) * E4 + e4] = silu(bias4 + ${range(K)
      .map((k) => `w${k} * x${k}`)
      .join(" + ")});
  }`;

const fromMemory = () => `
  for (var t = first; t < min(first + BLOCK, T); t++) {
    var sum = bias[e4];
    for (var k = 0u; k < K; k++) { sum += w[k * E4 + e4] * column(b, t + k, e4); }
    y[(b * T + t) * E4 + e4] = silu(sum);
  }`;

const fewTaps = ({ K }: Sizes<Letter>) => K <= UNROLLED;
const few = (threads: number) => (threads < 64 ? 4 : 16);

export const causalConv = defineKernel({
  name: "causalConv",
  consts: ["B", "T", "E", "K", "S", "X"],
  bindings: {
    cursor: read("u32", "B", CURSOR_COLUMNS),
    x: read("f32", "B", "T", "X"),
    w: read("f32", "K", "E"),
    bias: read("f32", "E"),
    past: update("f32", "B", "S", "E"),
    y: write("f32", "B", "T", "E"),
  },
  variants: {
    runs: { ...variant("cpu", few, () => 32, fromRegisters), when: fewTaps },
    blocks: {
      ...variant(
        "gpu",
        () => 64,
        () => UNROLLED,
        fromRegisters,
      ),
      when: fewTaps,
    },
    taps: variant(
      "any",
      () => 16,
      ({ S }) => Math.max(S, 8),
      fromMemory,
    ),
  },

  reference({ cursor, x, w, bias, past, y }, { B, T, E, K, S, X }) {
    for (let b = 0; b < B; b++) {
      const position = positionOf(cursor, b);
      const count = countOf(cursor, b);
      for (let e = 0; e < E; e++) {
        const slot = (p: number) => (b * S + (p % S)) * E + e;
        const columns: number[] = [];
        for (let i = 0; i < S; i++) columns.push(past[slot(position + i)]!);
        for (let t = 0; t < T; t++) columns.push(x[(b * T + t) * X + e]!);
        for (let t = 0; t < T; t++) {
          let sum = bias[e]!;
          for (let k = 0; k < K; k++) sum += w[k * E + e]! * columns[t + k]!;
          y[(b * T + t) * E + e] = silu(sum);
        }
        for (let t = Math.max(count - S, 0); t < count; t++) past[slot(position + t)] = columns[S + t]!;
      }
    }
  },

  /** A multiply-add a tap, and four for the SiLU. */
  flops: ({ B, T, E, K }) => B * T * E * (2 * K + 4),
  /** Of x the first E columns; of the ring what is read and at most what is written. */
  bytes: ({ B, T, E, K, S }) =>
    4 * (B * CURSOR_COLUMNS + 2 * B * T * E + (K + 1) * E + B * E * (S + Math.min(T, S))),
  cases: [
    { B: 3, T: 1, E: 5, K: 4, S: 3, X: 13 },
    { B: 3, T: 2, E: 33, K: 4, S: 3, X: 69 },
    { B: 3, T: 45, E: 10, K: 3, S: 2, X: 10 },
    { B: 2, T: 7, E: 6, K: 2, S: 1, X: 14 },
    { B: 2, T: 31, E: 7, K: 12, S: 11, X: 15 },
    { B: 1, T: 1, E: 256, K: 4, S: 3, X: 512 },
    { B: 1, T: 64, E: 256, K: 4, S: 3, X: 512 },
  ],
  fill: { cursor: mixedStreams },
});
