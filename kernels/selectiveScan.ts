// The selective scan with all that is elementwise around it (Gu & Dao 2023, arXiv 2312.00752, algorithm 2):
//   dt_t = softplus(W r_t + bias)
//   h_t[n] = exp(dt_t A[n]) h_{t-1}[n] + dt_t B_t[n] u_t
//   y_t = (sum_n C_t[n] h_t[n] + D u_t) * silu(z_t)
// A row of x_proj's output holds r, B and C; a row of in_proj's holds the gate z. y takes the place of u: a channel's
// output needs no other channel's input. A token past its stream's count leaves both state and u as they are.

import { CURSOR_COLUMNS, cursorWgsl } from "../engine/cursor.ts";
import { defineKernel, read, tiled, update } from "../engine/kernel.ts";
import { ceilDiv, roundUp } from "../engine/tensor.ts";
import { countOf, cursorFor } from "./reference/cursor.ts";
import { silu, softplus } from "./reference/math.ts";
import { mixedStreams } from "./reference/streams.ts";
import { each, main, range, siluWgsl, softplusWgsl, timeScratch, timeSteps, xyzw } from "./scan/common.ts";
import { chunked, serial } from "./scan/registers.ts";

//   B streams   T tokens in the chunk   E channels   N states of a channel   R rank of the time step
//   P columns of x_proj's output: r from 0, B from 4 R4, C from 4 (R4 + N4), so that each begins a vec4f
//   X columns of in_proj's output, of which the gate's begin at 4 E4
export type Letter = "B" | "T" | "E" | "N" | "R" | "P" | "X";

/** Columns of x_proj's output at which B and C begin, and how many there are. */
export const scanColumns = ({ R, N }: { R: number; N: number }) => {
  const b = roundUp(R, 4);
  const c = b + roundUp(N, 4);
  return { b, c, P: c + N };
};

/** Column of in_proj's output at which the gate begins, and how many there are. */
export const gateColumns = ({ E }: { E: number }) => ({ z: roundUp(E, 4), X: roundUp(E, 4) + E });

const few = (threads: number) => (threads < 64 ? 4 : 16);

/** Tokens that are staged at a time, and channels a workgroup, in `block`. */
const BLOCK = 16;

export const selectiveScan = defineKernel({
  name: "selectiveScan",
  consts: ["B", "T", "E", "N", "R", "P", "X"],
  bindings: {
    cursor: read("u32", "B", CURSOR_COLUMNS),
    rbc: read("f32", "B", "T", "P"),
    wDt: tiled(read("f32", "E", "R")),
    a: read("f32", "N", "E"),
    /** The time step's bias, then D: one tensor, since a pass binds at most eight. */
    biasD: read("f32", 2, "E"),
    xz: read("f32", "B", "T", "X"),
    h: update("f32", "B", "N", "E"),
    /** In: the convolution's output; out: y. */
    u: update("f32", "B", "T", "E"),
  },
  variants: {
    quad: serial(true),
    channels: serial(false),
    quadChunks: chunked(true, 16),
    chunks: chunked(false, 32),
    // Four lanes a channel, each with a quarter of its states; tokens are staged through workgroup memory in blocks.
    block: {
      suits: "gpu",
      when: ({ T, N }) => T > 1 && N <= 64,
      views: { rbc: "vec4f" },
      scratch: timeScratch,
      passes: [
        timeSteps(64),
        {
          workgroup: 4 * BLOCK,
          grid: ({ B, E }) => [ceilDiv(E, BLOCK), B],
          wgsl: ({ N }) => {
            const quads = ceilDiv(N, 16); // vec4f of states a lane
            const n = (j: number, i: number) => `(lane % 4u) * 4u + ${16 * j + i}u`;
            const state = (j: number, i: number) => `(b * N + ${n(j, i)}) * E4 * 4u + e`;
            return `${cursorWgsl}${siluWgsl("f32")}
const BLOCK = ${BLOCK}u;
const Q = ${4 * quads}u;  // vec4f of states a token
var<workgroup> inputs: array<vec4f, BLOCK * Q>;   // B
var<workgroup> outputs: array<vec4f, BLOCK * Q>;  // C
var<workgroup> steps: array<f32, BLOCK * BLOCK>;  // [token, channel]
var<workgroup> xs: array<f32, BLOCK * BLOCK>;
var<workgroup> parts: array<f32, BLOCK * WG>;     // [token, channel, lane]
${main}
  let b = wg.y;
  let first = wg.x * BLOCK;
  let e = min(first + lane / 4u, E - 1u);
  let mine = first + lane / 4u < E;
  ${each(quads, (j) => `var a${j} = vec4f(); var h${j} = vec4f();`)}
  ${each(4 * quads, (k) => `if (${n(k >> 2, k & 3)} < N) { a${k >> 2}.${xyzw(k)} = a[(${n(k >> 2, k & 3)}) * E4 * 4u + e]; h${k >> 2}.${xyzw(k)} = h[${state(k >> 2, k & 3)}]; }`)}
  for (var start = 0u; start < count(b); start += BLOCK) {
    let tokens = min(BLOCK, count(b) - start);
    workgroupBarrier();
    for (var i = lane; i < tokens * Q; i += WG) {
      let row = (b * T + start + i / Q) * P4;
      let n4 = i % Q;
      // what lies past the last state is another column, or padding
      inputs[i] = select(vec4f(), rbc[row + R4 + min(n4, N4 - 1u)], vec4u(0u, 1u, 2u, 3u) + n4 * 4u < vec4u(N));
      outputs[i] = rbc[row + R4 + N4 + min(n4, N4 - 1u)];
    }
    for (var i = lane; i < tokens * BLOCK; i += WG) {
      let channel = min(first + i % BLOCK, E - 1u);
      let at = (b * T + start + i / BLOCK) * E4 * 4u + channel;
      steps[i] = dt[at];
      xs[i] = u[at];
    }
    workgroupBarrier();
    for (var t = 0u; t < tokens; t++) {
      let step = steps[t * BLOCK + lane / 4u];
      let x = xs[t * BLOCK + lane / 4u];
      var y = 0.0;
      ${each(quads, (j) => `{ let n4 = t * Q + lane % 4u + ${4 * j}u; h${j} = exp(step * a${j}) * h${j} + step * x * inputs[n4]; y += dot(h${j}, outputs[n4]); }`, "      ")}
      parts[t * WG + lane] = y;
    }
    workgroupBarrier();
    for (var i = lane; i < tokens * BLOCK; i += WG) {
      let channel = first + i % BLOCK;
      if (channel < E) {
        let row = b * T + start + i / BLOCK;
        let y = parts[i * 4u] + parts[i * 4u + 1u] + parts[i * 4u + 2u] + parts[i * 4u + 3u] + biasD[E4 * 4u + channel] * xs[i];
        u[row * E4 * 4u + channel] = y * silu(xz[(row * X4 + E4) * 4u + channel]);
      }
    }
  }
  if (!mine) { return; }
  ${each(4 * quads, (k) => `if (${n(k >> 2, k & 3)} < N) { h[${state(k >> 2, k & 3)}] = h${k >> 2}.${xyzw(k)}; }`)}
}`;
          },
        },
      ],
    },
    // One token: sixteen lanes share four channels, first the time step's product, then the states.
    lanes: {
      suits: "gpu",
      when: ({ T }) => T === 1,
      views: { rbc: "vec4f", a: "vec4f", biasD: "vec4f", xz: "vec4f", h: "vec4f", u: "vec4f" },
      passes: [
        {
          workgroup: 64,
          grid: ({ B, E }) => [ceilDiv(ceilDiv(E, 4), 4), B],
          wgsl: `${cursorWgsl}${softplusWgsl("vec4f")}${siluWgsl("vec4f")}
var<workgroup> parts: array<vec4f, 64>;  // [lane, channels]
fn total(group: u32) -> vec4f {
  var sum = vec4f();
  for (var i = group; i < WG; i += 4u) { sum += parts[i]; }
  return sum;
}
${main}
  let b = wg.y;
  if (count(b) == 0u) { return; }
  let group = lane % 4u;
  let e4 = min(wg.x * 4u + group, E4 - 1u);
  let mine = wg.x * 4u + group < E4;
  var sum = vec4f();
  for (var k = lane / 4u; k < R4; k += 16u) { sum += wDtTile(e4, k) * rbc[b * P4 + k]; }
  parts[lane] = sum;
  workgroupBarrier();
  let step = softplus(total(group) + biasD[e4]);
  workgroupBarrier();
  let x = u[b * E4 + e4];
  var y = vec4f();
  if (mine) {
    for (var n = lane / 4u; n < N; n += 16u) {
      let at = (b * N + n) * E4 + e4;
      let next = exp(step * a[n * E4 + e4]) * h[at] + step * x * rbc[b * P4 + R4 + n / 4u][n % 4u];
      h[at] = next;
      y += next * rbc[b * P4 + R4 + N4 + n / 4u][n % 4u];
    }
  }
  parts[lane] = y;
  storageBarrier();
  workgroupBarrier();
  if (lane < 4u && mine) {
    u[b * E4 + e4] = (total(group) + biasD[E4 + e4] * x) * silu(xz[b * X4 + E4 + e4]);
  }
}`,
        },
      ],
    },
    // A thread owns four channels; their states pass from token to token through memory.
    fused: {
      suits: "any",
      views: { a: "vec4f", biasD: "vec4f", xz: "vec4f", h: "vec4f", u: "vec4f" },
      passes: [
        {
          workgroup: ({ B, E }) => few(B * ceilDiv(E, 4)),
          grid: ({ B, E }) => ceilDiv(B * ceilDiv(E, 4), few(B * ceilDiv(E, 4))),
          wgsl: `${cursorWgsl}${softplusWgsl("vec4f")}${siluWgsl("vec4f")}${main}
  let i = workgroupIndex(wg) * WG + lane;
  let e4 = i % E4;
  let b = i / E4;
  if (b >= B) { return; }
  let tokens = count(b);
  for (var t = 0u; t < tokens; t++) {
    let row = b * T + t;
    let r = row * P4 * 4u;
    var sum = biasD[e4];
    for (var k = 0u; k < R4; k++) {
      sum += wDtTile(e4, k) * vec4f(${range(4)
        .map((j) => `rbc[r + k * 4u + ${j}u]`)
        .join(", ")});
    }
    let step = softplus(sum);
    let x = u[row * E4 + e4];
    var y = biasD[E4 + e4] * x;
    for (var n = 0u; n < N; n++) {
      let at = (b * N + n) * E4 + e4;
      let next = exp(step * a[n * E4 + e4]) * h[at] + step * x * rbc[r + R4 * 4u + n];
      h[at] = next;
      y += next * rbc[r + (R4 + N4) * 4u + n];
    }
    u[row * E4 + e4] = y * silu(xz[row * X4 + E4 + e4]);
  }
}`,
        },
      ],
    },
  },

  reference({ cursor, rbc, wDt, a, biasD, xz, h, u }, { B, T, E, N, R, P, X }) {
    const columns = scanColumns({ R, N });
    for (let b = 0; b < B; b++) {
      for (let t = 0; t < countOf(cursor, b); t++) {
        const row = b * T + t;
        for (let e = 0; e < E; e++) {
          let sum = biasD[e]!;
          for (let r = 0; r < R; r++) sum += wDt[e * R + r]! * rbc[row * P + r]!;
          const step = softplus(sum);
          const x = u[row * E + e]!;
          let y = biasD[E + e]! * x;
          for (let n = 0; n < N; n++) {
            const at = (b * N + n) * E + e;
            const input = step * rbc[row * P + columns.b + n]! * x;
            h[at] = Math.exp(step * a[n * E + e]!) * h[at]! + input;
            y += rbc[row * P + columns.c + n]! * h[at]!;
          }
          u[row * E + e] = y * silu(xz[row * X + gateColumns({ E }).z + e]!);
        }
      }
    }
  },

  /** The time step's product, seven a state (exp as one), and twelve for softplus, D and gate. */
  flops: ({ B, T, E, N, R }) => B * T * E * (2 * R + 7 * N + 12),
  /** Of xz the gate's columns. */
  bytes: ({ B, T, E, N, R, P }, each) =>
    4 * (B * CURSOR_COLUMNS + B * T * (P + 3 * E) + E * (N + 2) + 2 * B * N * E) + each("wDt") * E * R,
  cases: [
    { B: 3, T: 1, E: 13, N: 5, R: 3, P: 17, X: 29 },
    { B: 3, T: 21, E: 13, N: 7, R: 5, P: 23, X: 29 },
    { B: 2, T: 9, E: 70, N: 19, R: 2, P: 43, X: 142 },
    { B: 1, T: 19, E: 9, N: 11, R: 3, P: 27, X: 21 },
    { B: 1, T: 5, E: 6, N: 64, R: 4, P: 132, X: 14 },
    { B: 2, T: 33, E: 64, N: 16, R: 2, P: 36, X: 128 },
    { B: 1, T: 1, E: 256, N: 16, R: 8, P: 40, X: 512 },
    { B: 1, T: 64, E: 256, N: 16, R: 8, P: 40, X: 512 },
    { B: 3, T: 200, E: 13, N: 7, R: 5, P: 23, X: 29 },
    { B: 1, T: 512, E: 32, N: 16, R: 2, P: 36, X: 64 },
  ],
  fill: {
    cursor: (s) =>
      s.T > 64
        ? cursorFor(s.B, [
            [2, s.T],
            [13, ceilDiv(s.T, 3)],
            [24, 0],
          ])
        : mixedStreams(s),
    // -exp(A_log) of trained models reaches from about -1 to -N
    a: ({ N, E }, random) => Float32Array.from({ length: N * E }, () => -8 * (1.001 + random())),
    // some channels keep all that they have seen, some forget it at once
    biasD: ({ E }, random) => Float32Array.from({ length: 2 * E }, () => 8 * random() ** 3),
  },
});
