// The blocked matrix product behind `linear` and `gatedLinear`: WGSL for one or more matrices W_j [O, I], in 4x4 tiles,
// times the same rows x [M, I]. A caller supplies `finish`, the epilogue for four outputs of one row.

import type { Sizes, Variant } from "../engine/kernel.ts";
import { ceilDiv, roundUp } from "../engine/tensor.ts";
import { swapped, swappedRow } from "./quad.ts";

//   M rows of x   I input features   O output features
export type ProductLetter = "M" | "I" | "O";

export interface Product {
  /** Bindings of the matrices. */
  weights: readonly string[];
  /** Also sum the squares of each row of x, for RMSNorm. */
  squares: boolean;
  /** `fn finish(sum_<weight>: vec4f ..., squares: f32, m: u32, o4: u32)`, with m < M and o4 < O4. */
  finish: string;
  /** The epilogue is long: one copy of it in a loop over a thread's rows, where compilers would inline one a row. */
  loop?: boolean;
}

/** Rows of x that a thread multiplies with the tile of W it has loaded. */
const block = (M: number) => Math.min(M, 8);
/** Those that a quad shares: sixteen cost fewer loads a product, where they waste no more rows than eight. */
export const quadBlock = (M: number) => (M % 16 === 0 || M % 16 > 8 ? 16 : 8);
const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const each = (n: number, line: (i: number) => string, indent = "  ") =>
  range(n).map(line).join(`\n${indent}`);

export function productVariants({
  weights,
  squares,
  finish,
  loop = false,
}: Product): Record<"quad" | "tiles" | "subgroups" | "workgroup" | "shared", Variant<ProductLetter>> {
  const views = { x: "vec4f", y: "vec4f", bias: "vec4f" } as const;
  const ifSquares = (code: string) => (squares ? code : "");
  const sums = (row: number | string) => weights.map((w) => `${w}Sum${row}`).join(", ");
  const declare = (rows: number) =>
    each(rows, (r) => `${weights.map((w) => `var ${w}Sum${r} = vec4f();`).join(" ")} var squares${r} = 0.0;`);
  const load = (r: string, k: string) => weights.map((w) => `let ${w}Now = ${w}Tile(${r}, ${k});`).join(" ");
  const accumulate = (row: number, v: string) =>
    weights.map((w) => `${w}Sum${row} += ${w}Now * ${v};`).join(" ");
  /** `row(r)`: the row of x of a thread's r-th sums, where r is WGSL. */
  const finishRows = (rows: number, row: (r: string) => string) => {
    if (!loop)
      return each(
        rows,
        (r) => `{ let row = ${row(`${r}u`)}; if (row < M) { finish(${sums(r)}, squares${r}, row, o4); } }`,
      );
    const list = (name: string) =>
      range(rows)
        .map((r) => `${name}${r}`)
        .join(", ");
    return `${weights.map((w) => `var ${w}Sums = array<vec4f, ${rows}>(${list(`${w}Sum`)});`).join(" ")}
  var squares = array<f32, ${rows}>(${list("squares")});
  for (var r = 0u; r < ${rows}u; r++) {
    let row = ${row("r")};
    if (row < M) { finish(${weights.map((w) => `${w}Sums[r]`).join(", ")}, squares[r], row, o4); }
  }`;
  };
  const threads = ({ M, O }: Sizes<"M" | "O">) => ceilDiv(O, 4) * ceilDiv(M, block(M));
  const small = (s: Sizes<"M" | "O">) => (threads(s) < 64 ? 4 : 16);
  const mainWith = (builtins: string) => `${finish}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32${builtins}) {`;
  const main = mainWith("");

  /**
   * A workgroup owns one row of tiles: its lanes stride over the inputs, so that a warp reads W in one run. Their sums are
   * added in workgroup memory, or within each subgroup, whose lanes are consecutive as those of a quad are, so that one
   * barrier is left.
   */
  const oneRow = (subgroups: boolean): Variant<ProductLetter> => ({
    suits: "gpu",
    ...(subgroups ? { needs: ["subgroups" as const] } : {}),
    when: ({ M }) => M < 8,
    views,
    passes: [
      {
        workgroup: 64,
        grid: ({ O }) => ceilDiv(O, 4),
        wgsl: ({ M }) => {
          // of each row of x: a lane's sum, or a subgroup's, of which the smallest has four lanes
          const slots = subgroups ? 16 : 64;
          const parts = [...weights.map((w) => `${w}Part`), ...(squares ? ["squaresPart"] : [])];
          const type = (part: string) => (part === "squaresPart" ? "f32" : "vec4f");
          const value = (part: string, r: number) =>
            part.replace("Part", part === "squaresPart" ? `${r}` : `Sum${r}`);
          const results = weights.map((w) => `${w}Part[lane * ${slots}u]`).join(", ");
          const added = subgroups
            ? `${each(M, (r) => parts.map((p) => `let ${p}${r} = subgroupAdd(${value(p, r)});`).join(" "))}
  if (inner == 0u) { ${each(M, (r) => parts.map((p) => `${p}[${slots * r}u + lane / size] = ${p}${r};`).join(" "))} }
  workgroupBarrier();
  if (lane < ${M}u) {
    for (var i = 1u; i < WG / size; i++) { ${parts.map((p) => `${p}[lane * ${slots}u] += ${p}[lane * ${slots}u + i];`).join(" ")} }
  }`
            : `${each(M, (r) => parts.map((p) => `${p}[${r}u * WG + lane] = ${value(p, r)};`).join(" "))}
  workgroupBarrier();
  for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
    if (lane < stride) {
      for (var at = lane; at < ${64 * M}u; at += WG) { ${parts.map((p) => `${p}[at] += ${p}[at + stride];`).join(" ")} }
    }
    workgroupBarrier();
  }`;
          const builtins = subgroups
            ? ", @builtin(subgroup_size) size: u32, @builtin(subgroup_invocation_id) inner: u32"
            : "";
          return `${parts.map((p) => `var<workgroup> ${p}: array<${type(p)}, ${slots * M}>;`).join("\n")}
${mainWith(builtins)}
  let o4 = workgroupIndex(wg);
  let mine = min(o4, O4 - 1u);
  ${declare(M)}
  for (var k = lane; k < I4; k += WG) {
    ${load("mine", "k")}
    ${each(M, (r) => `{ let v = x[${r}u * I4 + k]; ${accumulate(r, "v")} ${ifSquares(`squares${r} += dot(v, v);`)} }`, "    ")}
  }
  ${added}
  if (lane < ${M}u && o4 < O4) { finish(${results}, ${squares ? `squaresPart[lane * ${slots}u]` : "0.0"}, lane, o4); }
}`;
        },
      },
    ],
  });

  return {
    // Lanes 0..3 hold consecutive tiles of W and share a block of rows of x: each lane loads a quarter of them, and gets the
    // others by swapping.
    quad: {
      suits: "cpu",
      needs: ["subgroups"],
      when: ({ M }) => M >= 8,
      views,
      passes: [
        {
          workgroup: 16,
          grid: ({ M, O }) => ceilDiv(roundUp(ceilDiv(O, 4), 4) * ceilDiv(M, quadBlock(M)), 16),
          wgsl: ({ M }) => {
            const rows = quadBlock(M);
            const loads = rows / 4;
            return `${main}
  let i = workgroupIndex(wg) * WG + lane;
  const QUADS = (O4 + 3u) / 4u;
  let o4 = (i / 4u % QUADS) * 4u + i % 4u;
  let m = i / 4u / QUADS * ${rows}u;
  let mine = min(o4, O4 - 1u);
  ${each(loads, (j) => `let row${j} = min(m + ${swappedRow(`${4 * j}u`)}, M - 1u) * I4; ${ifSquares(`var loaded${j} = 0.0;`)}`)}
  ${declare(rows)}
  for (var k = 0u; k < I4; k++) {
    ${load("mine", "k")}
    ${each(loads, (j) => `let x${j} = x[row${j} + k]; ${ifSquares(`loaded${j} += dot(x${j}, x${j});`)}`, "    ")}
    ${each(rows, (r) => `{ let v = ${swapped(`x${r >> 2}`, r % 4)}; ${accumulate(r, "v")} }`, "    ")}
  }
  ${ifSquares(each(rows, (r) => `squares${r} = ${swapped(`loaded${r >> 2}`, r % 4)};`))}
  if (o4 >= O4) { return; }
  ${finishRows(rows, (r) => `m + ${swappedRow(r)}`)}
}`;
          },
        },
      ],
    },
    // A thread owns four outputs of up to eight rows; each tile of W is read once.
    tiles: {
      suits: "cpu",
      views,
      passes: [
        {
          workgroup: small,
          grid: (s) => ceilDiv(threads(s), small(s)),
          wgsl: ({ M }) => `${main}
  let i = workgroupIndex(wg) * WG + lane;
  let o4 = i % O4;
  let m = i / O4 * ${block(M)}u;
  if (m >= M) { return; }
  ${each(block(M), (r) => `let row${r} = min(m + ${r}u, M - 1u) * I4;`)}
  ${declare(block(M))}
  for (var k = 0u; k < I4; k++) {
    ${load("o4", "k")}
    ${each(block(M), (r) => `{ let v = x[row${r} + k]; ${accumulate(r, "v")} ${ifSquares(`squares${r} += dot(v, v);`)} }`, "    ")}
  }
  ${finishRows(block(M), (r) => `m + ${r}`)}
}`,
        },
      ],
    },
    subgroups: oneRow(true),
    workgroup: oneRow(false),
    // 32 rows of x by 64 outputs a workgroup; x is staged through workgroup memory, four columns of tiles at a time.
    shared: {
      suits: "gpu",
      when: ({ M }) => M >= 8,
      views,
      passes: [
        {
          workgroup: 64,
          grid: ({ M, O }) => [ceilDiv(O, 64), ceilDiv(M, 32)],
          wgsl: `var<workgroup> slab: array<vec4f, 128>;  // [32 rows, 4]
${main}
  let o4 = wg.x * 16u + lane % 16u;
  let rows = lane / 16u * 8u;
  let mine = min(o4, O4 - 1u);
  ${declare(8)}
  for (var k0 = 0u; k0 < I4; k0 += 4u) {
    workgroupBarrier();
    for (var j = lane; j < 128u; j += WG) {
      let k = k0 + j % 4u;
      slab[j] = select(vec4f(), x[min(wg.y * 32u + j / 4u, M - 1u) * I4 + min(k, I4 - 1u)], k < I4);
    }
    workgroupBarrier();
    for (var k = 0u; k < min(4u, I4 - k0); k++) {
      ${load("mine", "k0 + k")}
      ${each(8, (r) => `{ let v = slab[(rows + ${r}u) * 4u + k]; ${accumulate(r, "v")} ${ifSquares(`squares${r} += dot(v, v);`)} }`, "      ")}
    }
  }
  if (o4 >= O4) { return; }
  let m = wg.y * 32u + rows;
  ${finishRows(8, (r) => `m + ${r}`)}
}`,
        },
      ],
    },
  };
}
