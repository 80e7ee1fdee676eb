// Draws a token from softmax(logits / temperature), cut down in the order of transformers' warpers: the topK largest
// logits; then, among those, the fewest largest whose probability reaches topP; then those with at least minP times
// the largest probability. Each filter is a threshold on the logit, so tokens that tie with the last one kept stay.
// Temperature 0 is argmax, with the lowest index on ties.
//
// The draw is the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, arXiv 1411.0030): argmax of logit / temperature
// + g_i with g_i = -log(E_i), E_i = -log(1 - v_i) and v_i uniform, needs no softmax. v_i is a hash of (seed, stream,
// position, i), so a draw depends on nothing that came before: Wellons' lowbias32 (nullprogram.com, 2018), chained.

import { CURSOR, CURSOR_COLUMNS, cursorWgsl, ID_RING } from "../engine/cursor.ts";
import { defineKernel, type Pass, read, update } from "../engine/kernel.ts";
import { best, bestOfRuns, bestOfWorkgroup, drawFill, take } from "./draw.ts";

//   B streams   V vocabulary
type Letter = "B" | "V";

const settings = /* wgsl */ `${cursorWgsl}
fn temperature(b: u32) -> f32 { return bitcast<f32>(cursor[b * 8u + ${CURSOR.temperature}u]); }
fn topK(b: u32) -> u32 { return cursor[b * 8u + ${CURSOR.topK}u]; }
fn topP(b: u32) -> f32 { return bitcast<f32>(cursor[b * 8u + ${CURSOR.topP}u]); }
fn minP(b: u32) -> f32 { return bitcast<f32>(cursor[b * 8u + ${CURSOR.minP}u]); }
fn logit(b: u32, i: u32) -> f32 { return logits[b * V4 * 4u + i]; }
const LOWEST = -3.4e38;`;

const scoreWgsl = /* wgsl */ `
fn scramble(value: u32) -> u32 {
  var v = value;
  v = (v ^ (v >> 16u)) * 0x7feb352du;
  v = (v ^ (v >> 15u)) * 0x846ca68bu;
  return v ^ (v >> 16u);
}
fn drawKey(b: u32) -> u32 { return scramble(position(b) + scramble(b + scramble(cursor[b * 8u + ${CURSOR.seed}u]))); }
// Large scores come from v near 0, where v has its finest steps and log(1 - v) must be a series.
fn gumbel(key: u32, i: u32) -> f32 {
  let v = min((f32(scramble(key + i * 0x9e3779b9u)) + 0.5) * 2.3283064e-10, 0.99999994);
  let series = v * (1.0 + v * (0.5 + v * (0.33333333 + v * (0.25 + v * 0.2))));
  return -log(select(-log(1.0 - v), series, v < 0.0625));
}
fn score(b: u32, i: u32, key: u32, cut: f32) -> f32 {
  let l = logit(b, i);
  if (temperature(b) == 0.0) { return l; }
  if (l < cut) { return LOWEST; }
  return l / max(temperature(b), 1e-6) + gumbel(key, i);
}`;

// A search, two bits a round, in the integers that order as the floats do.
const cutWgsl = /* wgsl */ `
var<workgroup> sums: array<vec4f, WG>;
fn filtered(b: u32) -> bool {
  return temperature(b) > 0.0 && ((topK(b) > 0u && topK(b) < V) || topP(b) < 1.0 || minP(b) > 0.0);
}
fn orderOf(l: f32) -> u32 {
  let bits = bitcast<u32>(l);
  return select(bits ^ 0x80000000u, ~bits, bits >= 0x80000000u);
}
fn logitOf(order: u32) -> f32 {
  if (order == 0u) { return LOWEST; }
  return bitcast<f32>(select(~order, order ^ 0x80000000u, order >= 0x80000000u));
}
fn largest(b: u32, lane: u32) -> f32 {
  var top = LOWEST;
  for (var i = lane; i < V; i += WG) { top = max(top, logit(b, i)); }
  sums[lane].x = top;
  workgroupBarrier();
  for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
    if (lane < stride) { sums[lane].x = max(sums[lane].x, sums[lane + stride].x); }
    workgroupBarrier();
  }
  top = sums[0].x;
  workgroupBarrier();
  return top;
}
// The largest logit such that those from it up, none under \`least\`, number \`wanted\`, or have that share of the mass.
fn threshold(b: u32, lane: u32, share: bool, wanted: f32, least: f32, top: f32) -> f32 {
  let t = max(temperature(b), 1e-6);
  var found = 0u;
  var goal = wanted;
  for (var round = 0u; round < 16u; round++) {
    let shift = 30u - 2u * round;
    let steps = found + (vec4u(0u, 1u, 2u, 3u) << vec4u(shift));
    var sum = vec4f();
    for (var i = lane; i < V; i += WG) {
      let l = logit(b, i);
      let weight = select(0.0, select(1.0, exp(min(l - top, 0.0) / t), share), l >= least);
      sum += select(vec4f(), vec4f(weight), vec4u(orderOf(l)) >= steps);
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
      if (lane < stride) { sums[lane] += sums[lane + stride]; }
      workgroupBarrier();
    }
    if (share && round == 0u) { goal = max(goal * sums[0].x, 1e-30); }
    // the first step is where the search stands
    let reached = select(vec3u(), vec3u(1u), sums[0].yzw >= vec3f(goal));
    found += (reached.x + reached.y + reached.z) << shift;
    workgroupBarrier();
  }
  return logitOf(found);
}
fn cutoff(b: u32, lane: u32) -> f32 {
  let top = largest(b, lane);
  var cut = LOWEST;
  if (topK(b) > 0u && topK(b) < V) { cut = threshold(b, lane, false, f32(topK(b)), LOWEST, top); }
  if (topP(b) < 1.0) { cut = max(cut, threshold(b, lane, true, topP(b), cut, top)); }
  if (minP(b) > 0.0) { cut = max(cut, top + max(temperature(b), 1e-6) * log(minP(b))); }
  return min(cut, top);
}`;

/** A workgroup of this size does all of a stream. */
const together = (size: Pass<Letter>["workgroup"]): Pass<Letter> => ({
  workgroup: size,
  grid: ({ B }) => B,
  wgsl: `${settings}${scoreWgsl}${cutWgsl}${best}${take}
var<workgroup> tops: array<Best, WG>;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = workgroupIndex(wg);
  if (b >= B || count(b) == 0u) { return; }
  var cut = LOWEST;
  if (filtered(b)) { cut = cutoff(b, lane); }
  let key = drawKey(b);${bestOfWorkgroup("score(b, i, key, cut)")}
}`,
});

/** Of a frozen stream (count 0) the token and the ring of ids stay as they are. */
export const sample = defineKernel({
  name: "sample",
  consts: ["B", "V"],
  bindings: {
    cursor: read("u32", "B", CURSOR_COLUMNS),
    logits: read("f32", "B", "V"),
    tokens: update("u32", "B"),
    ids: update("u32", ID_RING, "B"),
  },
  variants: {
    // Few lanes, since a software adapter pays for each at a barrier.
    small: { suits: "cpu", when: ({ V }) => V <= 4096, passes: [together(16)] },
    // The cut by a small workgroup a stream, the scores by 64 threads a stream, then one thread over those.
    runs: {
      suits: "cpu",
      scratch: { cuts: ["B"], tops: ["B", 2, 64] },
      passes: [
        {
          workgroup: 16,
          grid: ({ B }) => B,
          writes: ["cuts"],
          wgsl: `${settings}${cutWgsl}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let b = workgroupIndex(wg);
  if (b >= B) { return; }
  var cut = LOWEST;
  if (filtered(b)) { cut = cutoff(b, lane); }
  if (lane == 0u) { cuts[b] = cut; }
}`,
        },
        ...bestOfRuns(
          `${settings}${scoreWgsl}`,
          "let cut = cuts[b]; let key = drawKey(b);",
          "score(b, i, key, cut)",
        ),
      ],
    },
    workgroup: { suits: "gpu", passes: [together(({ V }) => (V <= 1024 ? 64 : 256))] },
  },

  reference({ cursor, logits, tokens, ids }, { B, V }) {
    for (let b = 0; b < B; b++) {
      const row = cursor.subarray(b * CURSOR_COLUMNS, (b + 1) * CURSOR_COLUMNS);
      if (row[CURSOR.count] === 0) continue;
      const scores = drawScores(logits.subarray(b * V, (b + 1) * V), drawSettings(row), b);
      const token = scores.indexOf(scores.reduce((a, x) => Math.max(a, x)));
      tokens[b] = token;
      ids[(row[CURSOR.position]! % ID_RING) * B + b] = token;
    }
  },

  flops: ({ B, V }) => 10 * B * V,
  cases: [
    { B: 3, V: 37 },
    { B: 7, V: 4099 },
    { B: 1, V: 256 },
    { B: 1000, V: 64 },
  ],
  fill: {
    ...drawFill,
    cursor: mixedCursor,
    /** Rows whose winner is ahead by more than rounding could turn, and is the same when the filters shift a little. */
    logits: ({ B, V }, random) => {
      const logits = new Float32Array(B * V);
      const cursor = mixedCursor({ B });
      for (let b = 0; b < B; b++) {
        const row = logits.subarray(b * V, (b + 1) * V);
        const s = drawSettings(cursor.subarray(b * CURSOR_COLUMNS, (b + 1) * CURSOR_COLUMNS));
        // a constant source would never make one
        for (let tries = 0; tries < 100; tries++) {
          for (let i = 0; i < V; i++) row[i] = 6 * random();
          if (decisive(row, s, b)) break;
        }
      }
      return logits;
    },
  },
});

interface DrawSettings {
  position: number;
  seed: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
}

function drawSettings(row: Uint32Array): DrawSettings {
  const floats = new Float32Array(row.buffer, row.byteOffset, CURSOR_COLUMNS);
  return {
    position: row[CURSOR.position]!,
    seed: row[CURSOR.seed]!,
    temperature: floats[CURSOR.temperature]!,
    topK: row[CURSOR.topK]!,
    topP: floats[CURSOR.topP]!,
    minP: floats[CURSOR.minP]!,
  };
}

/** What stream b's draw is the argmax of; -Infinity for what the filters take out. */
function drawScores(logits: Float32Array, s: DrawSettings, b: number): Float64Array {
  if (s.temperature === 0) return Float64Array.from(logits);
  const T = Math.max(s.temperature, 1e-6);
  const sorted = Float64Array.from(logits).sort().reverse();
  const top = sorted[0]!;
  let cut = Number.NEGATIVE_INFINITY;
  if (s.topK > 0 && s.topK < sorted.length) cut = sorted[s.topK - 1]!;
  if (s.topP < 1) {
    const kept = sorted.filter((l) => l >= cut);
    const total = kept.reduce((sum, l) => sum + Math.exp((l - top) / T), 0);
    let mass = 0;
    let last = -1;
    while (last < kept.length - 1 && mass < s.topP * total) mass += Math.exp((kept[++last]! - top) / T);
    cut = kept[Math.max(last, 0)]!;
  }
  if (s.minP > 0) cut = Math.max(cut, top + T * Math.log(s.minP));
  cut = Math.min(cut, top);
  const key = scramble(s.position + scramble(b + scramble(s.seed)));
  return Float64Array.from(logits, (l, i) => (l < cut ? Number.NEGATIVE_INFINITY : l / T + gumbel(key, i)));
}

function scramble(value: number): number {
  let v = value >>> 0;
  v = Math.imul(v ^ (v >>> 16), 0x7feb352d) >>> 0;
  v = Math.imul(v ^ (v >>> 15), 0x846ca68b) >>> 0;
  return (v ^ (v >>> 16)) >>> 0;
}

const gumbel = (key: number, i: number): number => {
  const v = Math.fround((Math.fround(scramble(key + Math.imul(i, 0x9e3779b9))) + 0.5) / 2 ** 32);
  return -Math.log(-Math.log1p(-Math.min(v, 1 - 2 ** -24)));
};

function decisive(logits: Float32Array, s: DrawSettings, b: number): boolean {
  const winners = [1 - 1e-4, 1, 1 + 1e-4].map((by) => {
    const scores = drawScores(logits, { ...s, topP: s.topP < 1 ? s.topP * by : 1, minP: s.minP * by }, b);
    const top = scores.indexOf(scores.reduce((a, x) => Math.max(a, x)));
    const behind = scores.reduce((a, x, i) => (i === top ? a : Math.max(a, x)), Number.NEGATIVE_INFINITY);
    return scores[top]! - behind > 1e-3 ? top : -1;
  });
  return winners.every((w) => w >= 0 && w === winners[0]);
}

/** Streams with all sorts of settings; stream 1 is frozen. */
function mixedCursor({ B }: { B: number }): Uint32Array {
  const cursor = drawFill.cursor({ B, V: 0 });
  const floats = new Float32Array(cursor.buffer);
  for (let b = 0; b < B; b++) {
    const row = b * CURSOR_COLUMNS;
    cursor[row + CURSOR.seed] = 1000 * Math.floor(b / 5);
    floats[row + CURSOR.temperature] = [0.8, 1, 0, 1.5, 0.25][b % 5]!;
    cursor[row + CURSOR.topK] = [20, 0, 0, 5, 1, 0][b % 6]!;
    floats[row + CURSOR.topP] = [0.9, 1, 1, 0.5][b % 4]!;
    floats[row + CURSOR.minP] = [0.02, 0, 0, 0.1, 0, 0, 0][b % 7]!;
  }
  return cursor;
}
