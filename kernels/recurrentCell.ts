// What the Elman, GRU and LSTM cells share. Each walks the tokens of a chunk: gates from W [x; h] + bias, then an
// update of the hidden vector. w is [gates, H, K], PyTorch's weight_ih and weight_hh side by side: columns 0..I
// multiply x, columns K-H..K multiply h, and what lies between (I is rounded up to whole tiles) is zero.

import { CURSOR_COLUMNS, cursorWgsl } from "../engine/cursor.ts";
import { type Pass, type Sizes, type Variant, workgroupSize } from "../engine/kernel.ts";
import { ceilDiv, roundUp } from "../engine/tensor.ts";
import { productVariants } from "./product.ts";

//   B streams   T tokens in the chunk   I input features   H hidden units   K columns of w
export type CellLetter = "B" | "T" | "I" | "H" | "K";
type S = Sizes<CellLetter>;

export interface Cell {
  /** In PyTorch's order, which is the first axis of w. */
  gates: readonly string[];
  /** A gate whose product with h is not added to its product with x but is a term of its own, `<gate>h`. */
  apart?: string;
  /**
   * `fn update(at: u32, before: vec4f, <gates>: vec4f, <gate>h: vec4f) -> vec4f`: four units of the new hidden
   * vector from the old; `at` is their index in [B, H].
   */
  update: string;
}

/** Columns of w. */
export const cellColumns = (I: number, H: number): number => roundUp(I, 4) + H;

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const each = <A>(items: readonly A[], line: (item: A, i: number) => string, indent = "  ") =>
  items.map(line).join(`\n${indent}`);

export function cellVariants(cell: Cell): Record<string, Variant<CellLetter>> {
  const G = cell.gates.length;
  const terms = [...cell.gates, ...(cell.apart ? [`${cell.apart}h`] : [])];
  const views = { x: "vec4f", h: "vec4f", hNext: "vec4f", c: "vec4f", y: "vec4f", bias: "vec4f" } as const;
  const chunkViews = { ...views, sums: "vec4f" } as const;
  const head = `${cursorWgsl}${cell.update}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {`;

  /** What a term starts from: x's part and the bias, already summed for a chunk. */
  const start = (term: string, b: string, t: string, fused: boolean) => {
    const gate = terms.indexOf(term);
    return fused || gate === G
      ? `bias[${gate}u * H4 + j]`
      : `sums[((${b} * T + ${t}) * ${G}u + ${gate}u) * H4 + j]`;
  };
  const updated = (at: string, before: string, value: (term: string) => string) =>
    `update(${at}, ${before}, ${terms.map(value).join(", ")})`;

  /** Where a step reads and writes. A chunk's first token follows h, the others the token before. */
  interface Step {
    /** Add x's part here, not in a pass before. */
    fused: boolean;
    t: string;
    before(b: string, k: string): string;
    after(b: string, value: string): string;
  }
  const y = (b: string, t: string, k: string) => `y[(${b} * T + ${t}) * H4 + ${k}]`;
  const single: Step = {
    fused: true,
    t: "0u",
    before: (b, k) => `h[${b} * H4 + ${k}]`,
    after: (b, value) => `hNext[${b} * H4 + j] = ${value}; y[${b} * H4 + j] = ${value};`,
  };
  const first: Step = { ...single, fused: false, after: (b, value) => `${y(b, "0u", "j")} = ${value};` };
  const next: Step = {
    fused: false,
    t: "t",
    before: (b, k) => y(b, "t - 1u", k),
    after: (b, value) =>
      `${y(b, "t", "j")} = ${value}; if (t == T - 1u) { hNext[${b} * H4 + j] = ${value}; }`,
  };

  /** Streams that share the weights a thread has loaded. */
  const block = ({ B }: S) => Math.min(B, 4);
  type Body = Pick<Pass<CellLetter>, "workgroup" | "grid" | "wgsl">;

  /** Terms that are products: in a chunk, one that stands apart from h has been summed before. */
  const summed = (step: Step) => (step.fused ? terms : terms.filter((term) => term !== cell.apart));
  /**
   * `sum<r>`: the product behind `term` for streams b<r>, over every `stride`th tile from `first` on. A loop over terms
   * in WGSL, not copies of its body: software adapters compile a long body for seconds.
   */
  const sumTerm = (step: Step, streams: readonly number[], first: string, stride: string, live: string) => {
    const loop = (tiles: string, from: string, v: (b: string) => string) =>
      `for (var k = ${first}; k < ${tiles}; k += ${stride}) { let tile = wTile(row, ${from}k); ${streams.map((r) => `sum${r} += tile * ${v(`b${r}`)};`).join(" ")} }`;
    const apart = step.fused && cell.apart;
    return `let row = min(term, ${G - 1}u) * H4 + j;
    ${each(streams, (r) => `var sum${r} = vec4f();`, "    ")}
    ${step.fused ? loop(apart ? `select(I4, 0u, term == ${G}u)` : "I4", "", (b) => `x[${b} * I4 + k]`) : ""}
    ${loop(apart ? `select(${live}, 0u, term == ${G - 1}u)` : live, "I4 + ", (b) => step.before(b, "k"))}`;
  };
  /** Stream b's new hidden vector, from totals [term, stream]; the stream is number `r` of its block. */
  const finish = (step: Step, streams: readonly number[], r: string) => `
    let before = ${step.before("b", "j")};
    var after = before;
    if (count(b) > ${step.t}) {
      ${each(
        terms,
        (term) => {
          const at = summed(step).indexOf(term);
          const product = at < 0 ? "" : `totals[${at * streams.length}u + ${r}] + `;
          return `let ${term} = ${product}${start(term, "b", step.t, step.fused)};`;
        },
        "      ",
      )}
      after = ${updated("b * H4 + j", "before", (term) => term)};
    }
    ${step.after("b", "after")}`;

  /** Without barriers: a thread owns all gates of four units. */
  const alone = (step: Step): Body => {
    const threads = (s: S) => ceilDiv(s.H, 4) * ceilDiv(s.B, block(s));
    const size = (s: S) => (threads(s) < 64 ? 4 : 16);
    return {
      workgroup: size,
      grid: (s) => ceilDiv(threads(s), size(s)),
      wgsl: (s) => {
        const streams = range(block(s));
        return `${head}
  let i = workgroupIndex(wg) * WG + lane;
  let j = i % H4;
  let b0 = i / H4 * ${streams.length}u;
  if (b0 >= B) { return; }
  ${step.t === "t" ? "let t = params.step + 1u;" : ""}
  ${each(streams.slice(1), (r) => `let b${r} = min(b0 + ${r}u, B - 1u);`)}
  let live = select(0u, H4, ${streams.map((r) => `count(b${r}) > ${step.t}`).join(" || ")});
  var totals: array<vec4f, ${summed(step).length * streams.length}>;
  for (var term = 0u; term < ${summed(step).length}u; term++) {
    ${sumTerm(step, streams, "0u", "1u", "live")}
    ${streams.map((r) => `totals[term * ${streams.length}u + ${r}u] = sum${r};`).join(" ")}
  }
  for (var b = b0; b < min(b0 + ${streams.length}u, B); b++) {${finish(step, streams, "b - b0")}
  }
}`;
      },
    };
  };

  /**
   * A workgroup owns all gates of four units: its lanes stride over w, so that a warp reads one run. The terms share
   * workgroup memory: a software adapter clears every element of it with code of its own.
   */
  const together = (step: Step): Body => ({
    workgroup: 64,
    grid: (s) => [ceilDiv(s.H, 4), ceilDiv(s.B, block(s))],
    wgsl: (s) => {
      const streams = range(block(s));
      const N = `${streams.length}u`;
      return `var<workgroup> partial: array<vec4f, ${N} * WG>;  // [stream, lane]
var<workgroup> totals: array<vec4f, ${summed(step).length * streams.length}>;
${head}
  let j = wg.x;
  let first = wg.y * ${N};
  ${step.t === "t" ? "let t = params.step + 1u;" : ""}
  ${each(streams, (r) => `let b${r} = min(first + ${r}u, B - 1u);`)}
  for (var term = 0u; term < ${summed(step).length}u; term++) {
    ${sumTerm(step, streams, "lane", "WG", "H4")}
    ${streams.map((r) => `partial[${r}u * WG + lane] = sum${r};`).join(" ")}
    workgroupBarrier();
    for (var stride = WG / 2u; stride > 0u; stride /= 2u) {
      if (lane < stride) {
        for (var at = lane; at < ${N} * WG; at += WG) { partial[at] += partial[at + stride]; }
      }
      workgroupBarrier();
    }
    if (lane < ${N}) { totals[term * ${N} + lane] = partial[lane * WG]; }
    workgroupBarrier();
  }
  let b = first + lane;
  if (lane < ${N} && b < B) {${finish(step, streams, "lane")}
  }
}`;
    },
  });

  /** One workgroup a stream walks the whole chunk with h in its memory: no dispatch a token, but one core a stream. */
  const walking: Pass<CellLetter> = {
    workgroup: ({ H }) => Math.min(256, roundUp(G * ceilDiv(H, 4), 32)),
    grid: ({ B }) => B,
    wgsl: `var<workgroup> hidden: array<vec4f, H4>;
var<workgroup> products: array<vec4f, ${G} * H4>;
${head}
  let b = workgroupIndex(wg);
  for (var j = lane; j < H4; j += WG) { hidden[j] = h[b * H4 + j]; }
  workgroupBarrier();
  for (var t = 0u; t < T; t++) {
    let valid = t < count(b);
    for (var row = lane; valid && row < ${G}u * H4; row += WG) {
      var sum = vec4f();
      for (var k = 0u; k < H4; k++) { sum += wTile(row, I4 + k) * hidden[k]; }
      products[row] = sum;
    }
    workgroupBarrier();
    for (var j = lane; j < H4; j += WG) {
      let before = hidden[j];
      var after = before;
      if (valid) {
        ${each(
          cell.gates,
          (gate, g) =>
            gate === cell.apart
              ? `let ${gate} = ${start(gate, "b", "t", false)}; let ${gate}h = products[${g}u * H4 + j] + ${start(`${gate}h`, "b", "t", false)};`
              : `let ${gate} = products[${g}u * H4 + j] + ${start(gate, "b", "t", false)};`,
          "        ",
        )}
        after = ${updated("b * H4 + j", "before", (term) => term)};
      }
      hidden[j] = after;
      ${y("b", "t", "j")} = after;
    }
    workgroupBarrier();
  }
  for (var j = lane; j < H4; j += WG) { hNext[b * H4 + j] = hidden[j]; }
}`,
  };
  /**
   * Its vectors fit workgroup memory; and h's weights are at most 1 MiB, since one core that reads more a token is
   * slower than a dispatch a token (an estimate: no GPU was at hand).
   */
  const walkable = ({ H }: S) => 16 * (G + 1) * ceilDiv(H, 4) <= 16384 && 4 * G * H * H <= 2 ** 20;

  /** sums [B, T, gates, H] = the product of the whole chunk with x's columns of w, and the bias. */
  const products = productVariants({
    weights: ["w"],
    squares: false,
    finish: "fn finish(sum: vec4f, squares: f32, m: u32, o4: u32) { sums[m * O4 + o4] = sum + bias[o4]; }",
  });
  const productSizes = ({ B, T, I, H }: S) => ({ M: B * T, I, O: 4 * G * ceilDiv(H, 4) });
  const inputs = (name: keyof typeof products): Pass<CellLetter> => {
    const pass = products[name].passes[0]!;
    const page = { PAGE: 0, PAGES: 0 };
    return {
      workgroup: (s) => workgroupSize(pass, productSizes(s)),
      grid: (s) => pass.grid({ ...productSizes(s), ...page }),
      wgsl: (s) =>
        `const M = ${s.B * s.T}u; const O4 = ${G}u * H4;\n${typeof pass.wgsl === "string" ? pass.wgsl : pass.wgsl({ ...productSizes(s), ...page })}`,
      writes: ["sums"],
    };
  };

  const chunk = {
    views: chunkViews,
    scratch: { sums: ["B", "T", G, "H"] },
  } as const;
  const repeat = ({ T }: S) => T - 1;
  const many = ({ B, T }: S) => T > 1 && B * T >= 8;
  const few = ({ B, T }: S) => T > 1 && B * T < 8;
  return {
    step: { suits: "cpu", when: ({ T }) => T === 1, views, passes: [alone(single)] },
    stepWorkgroup: { suits: "gpu", when: ({ T }) => T === 1, views, passes: [together(single)] },
    quad: {
      ...chunk,
      suits: "cpu",
      needs: ["subgroups"],
      when: many,
      passes: [inputs("quad"), alone(first), { ...alone(next), repeat }],
    },
    tiles: {
      ...chunk,
      suits: "cpu",
      when: ({ T }) => T > 1,
      passes: [inputs("tiles"), alone(first), { ...alone(next), repeat }],
    },
    walk: {
      ...chunk,
      suits: "gpu",
      when: (s) => many(s) && walkable(s),
      passes: [inputs("shared"), walking],
    },
    dispatches: {
      ...chunk,
      suits: "gpu",
      when: many,
      passes: [inputs("shared"), together(first), { ...together(next), repeat }],
    },
    dispatchesFew: {
      ...chunk,
      suits: "gpu",
      when: few,
      passes: [inputs("workgroup"), together(first), { ...together(next), repeat }],
    },
  };
}

/** Without overflow, and as exact on every adapter: WGSL lets tanh be 1e-5 off, and lets its exponentials overflow. */
export const gateWgsl = /* wgsl */ `
fn sigmoid(v: vec4f) -> vec4f { let e = exp(-abs(v)); return select(e, vec4f(1.0), v >= vec4f()) / (1.0 + e); }
fn tangent(v: vec4f) -> vec4f { let e = exp(-2.0 * abs(v)); return sign(v) * (1.0 - e) / (1.0 + e); }
`;

/** Sum of a[p + i] b[q + i] over i < n. */
export function dot(a: ArrayLike<number>, p: number, b: ArrayLike<number>, q: number, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[p + i]! * b[q + i]!;
  return sum;
}

/** 2 (I + H) operations a unit and gate; the elementwise rest is not counted. */
export const cellFlops =
  (gates: number) =>
  ({ B, T, I, H }: S): number =>
    2 * B * T * gates * H * (I + H);

/**
 * With so many rows of bias and so many vectors of H that are read or written. The columns of w that multiply h are read
 * for every token: it waits for the one before.
 */
export const cellBytes =
  (gates: number, biases: number, vectors: number) =>
  ({ B, T, I, H, K }: S, each: (binding: "w") => number): number =>
    4 * (B * CURSOR_COLUMNS + B * T * (I + H) + biases * H + vectors * B * H) +
    each("w") * gates * H * (K - H + T * H);

const sizes = (B: number, T: number, I: number, H: number): S => ({ B, T, I, H, K: cellColumns(I, H) });

/** Odd sizes, more streams than a block holds, few and many tokens; then the layers of a shipped checkpoint. */
export const cellCases = (embedding: number, hidden: number): S[] => [
  sizes(3, 1, 5, 7),
  sizes(5, 1, 8, 6),
  sizes(3, 2, 6, 9),
  sizes(3, 6, 3, 10),
  sizes(5, 3, 7, 5),
  sizes(1, 1, embedding, hidden),
  sizes(2, 16, hidden, hidden),
];

export const cellFill = (gates: number) => ({
  /** Stream 1 is frozen, the later ones end within the chunk. */
  cursor: ({ B, T }: S): Uint32Array => {
    const cursor = new Uint32Array(B * CURSOR_COLUMNS);
    for (let b = 0; b < B; b++) {
      cursor[b * CURSOR_COLUMNS] = 100 * b;
      cursor[b * CURSOR_COLUMNS + 1] = b === 1 ? 0 : Math.max(1, T - b);
    }
    return cursor;
  },
  /** PyTorch's range, which keeps gates out of saturation, and zeros between the columns of x and of h. */
  w: ({ I, H, K }: S, random: () => number): Float32Array =>
    Float32Array.from({ length: gates * H * K }, (_, at) => {
      const column = at % K;
      return column >= I && column < K - H ? 0 : random() / Math.sqrt(H);
    }),
});
