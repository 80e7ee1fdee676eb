// What the variants of the selective scan over many tokens share.

import { type Pass, type Sizes, share } from "../../engine/kernel.ts";
import { ceilDiv, roundUp } from "../../engine/tensor.ts";
import { quadBlock } from "../product.ts";
import { swapped, swappedRow } from "../quad.ts";
import type { Letter } from "../selectiveScan.ts";

export const range = (n: number) => Array.from({ length: n }, (_, i) => i);
export const each = (n: number, line: (i: number) => string, indent = "  ") =>
  range(n).map(line).join(`\n${indent}`);
export const xyzw = (i: number) => "xyzw"[i % 4]!;

// log(1 + x) = 2 artanh(x / (2 + x)), a series in s^2 <= 1/9: WGSL's log may be off by 2^-21 near 1, a large share of a
// small time step
export const softplusWgsl = (type: "f32" | "vec4f") => `
fn softplus(v: ${type}) -> ${type} {
  let x = exp(-abs(v));
  let s = x / (2.0 + x);
  let q = s * s;
  let tail = 1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0)));
  return max(v, ${type}()) + 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * tail)));
}`;
export const siluWgsl = (type: "f32" | "vec4f") => `
fn silu(v: ${type}) -> ${type} { return v / (1.0 + exp(-max(v, ${type}(-80.0)))); }
`;
export const main = `@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {`;

/**
 * The time steps of all tokens: a thread owns four channels of a block of tokens. With `shared`, lanes 0..3 load a
 * quarter each of what they multiply by, as in `product.ts`.
 */
export const timeSteps = (workgroup: number, shared = false): Pass<Letter> => {
  const tokens = ({ B, T }: Sizes<"B" | "T">) => (shared ? quadBlock(B * T) : 8);
  return {
    workgroup,
    grid: (s) => ceilDiv(roundUp(ceilDiv(s.E, 4), 4) * ceilDiv(s.B * s.T, tokens(s)), workgroup),
    writes: ["dt"],
    wgsl: (s) => {
      const block = tokens(s);
      const loads = shared ? block / 4 : block;
      const owner = (j: string) => `m + ${shared ? swappedRow(j) : j}`;
      const value = (j: number) => (shared ? swapped(`r${j >> 2}`, j % 4) : `r${j}`);
      return `${softplusWgsl("vec4f")}
${main}
  let i = workgroupIndex(wg) * WG + lane;
  const QUADS = (E4 + 3u) / 4u;
  let e4 = (i / 4u % QUADS) * 4u + i % 4u;
  let m = i / 4u / QUADS * ${block}u;
  let mine = min(e4, E4 - 1u);
  let bias = vec4f(${range(4)
    .map((j) => `biasD[mine * 4u + ${j}u]`)
    .join(", ")});
  ${each(loads, (j) => `let row${j} = min(${owner(`${shared ? 4 * j : j}u`)}, B * T - 1u) * P4;`)}
  ${each(block, (j) => `var sum${j} = bias;`)}
  for (var k = 0u; k < R4; k++) {
    let tile = wDtTile(mine, k);
    ${each(loads, (j) => `let r${j} = rbc[row${j} + k];`, "    ")}
    ${each(block, (j) => `sum${j} += tile * ${value(j)};`, "    ")}
  }
  if (e4 >= E4) { return; }
  // a loop, of which a CPU keeps the code in its cache: a fifth faster than ${block} copies
  var sums = array<vec4f, ${block}>(${range(block)
    .map((j) => `sum${j}`)
    .join(", ")});
  for (var j = 0u; j < ${block}u; j++) {
    let row = ${owner("j")};
    if (row >= B * T) { continue; }
    let at = (row * E4 + e4) * 4u;
    let step = softplus(sums[j]);
    dt[at] = step.x; dt[at + 1u] = step.y; dt[at + 2u] = step.z; dt[at + 3u] = step.w;
  }
}`;
    },
  };
};
export const timeScratch = { dt: ["B", "T", "E"] } as const;

/** Tokens that a thread walks over where time is cut into chunks. */
export const CHUNK = 32;
export const chunks = share("T", CHUNK);
