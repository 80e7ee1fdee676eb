// A thread owns a channel and keeps its states in registers while it walks over the tokens: over all of them, or, where
// time is cut into chunks, over those of one. The chunks' ends are then linked by a short pass (the three phases of
// Blelloch's scan with long leaves): a chunk multiplies the state that it starts from by exp(a sum dt), exactly, with an
// exponent that is never positive. Nothing but the chunks' ends is kept over time.

import { cursorWgsl } from "../../engine/cursor.ts";
import type { Pass, Variant } from "../../engine/kernel.ts";
import { ceilDiv } from "../../engine/tensor.ts";
import { swapped, swappedLane } from "../quad.ts";
import type { Letter } from "../selectiveScan.ts";
import { CHUNK, chunks, each, main, range, siluWgsl, timeScratch, timeSteps, xyzw } from "./common.ts";

/**
 * `whole`: from h to h. `ends`: a chunk from a state of zero to `states`, with the sum of its time steps in `elapsed`.
 * `outputs`: a chunk from `states`.
 */
type Part = "whole" | "ends" | "outputs";

/**
 * Gates, which wait for nothing, come before the states: a CPU then computes both at once, which takes a tenth off the walk.
 * With `shared`, a thread owns two channels, and lanes 0..3 load a quarter each of a token's B and C and swap them, so that
 * each lane holds its channels' states in an order of its own.
 */
function walk(part: Part, shared: boolean, workgroup: number): Pass<Letter> {
  const outputs = part !== "ends";
  const channels = shared ? 2 : 1;
  return {
    workgroup,
    grid: ({ B, T, E }) => [ceilDiv(E, workgroup * channels), part === "whole" ? 1 : ceilDiv(T, CHUNK), B],
    ...(part === "ends" ? { writes: ["states", "elapsed"] } : {}),
    wgsl: ({ N }) => {
      const least = ceilDiv(N, 4);
      // lanes that swap are two or four
      const quads = shared && least === 3 ? 4 : least;
      const full = N === 4 * quads;
      const owned = (line: (c: number) => string, indent = "  ") => each(channels, line, indent);
      const load = (name: string, first: string) =>
        shared
          ? `let ${name} = rbc[row * P4 + ${first} + min(quad0, N4 - 1u)]; ${range(quads)
              .map((j) => `let ${name}${j} = ${swapped(name, j)};`)
              .join(" ")}`
          : range(quads)
              .map((j) => `let ${name}${j} = rbc[row * P4 + ${first} + ${j}u];`)
              .join(" ");
      const at = (row: string, c: number) => `(${row}) * E4 * 4u + e${c}`;
      const state = (n: string, c: number) =>
        part === "whole"
          ? `h[${at(`b * N + ${n}`, c)}]`
          : `states[${at(`(b * CHUNKS + wg.y) * N + ${n}`, c)}]`;
      /** A line for each state of a channel that there is. */
      const eachState = (line: (n: string, j: number, i: string) => string, indent: string) =>
        each(
          4 * quads,
          (k) => {
            const n = `quad${k >> 2} * 4u + ${k % 4}u`;
            return `${full ? "" : `if (${n} < N) `}{ ${line(`(${n})`, k >> 2, xyzw(k))} }`;
          },
          indent,
        );
      // what lies past the last state is another column, or padding
      const next = (j: number, c: number) =>
        `h${c}${j} = exp2(step${c} * a${c}${j}) * h${c}${j} + input${c} * b${j}${full ? "" : ` * there${j}`};`;
      return `${cursorWgsl}${siluWgsl("f32")}
const CHUNKS = ${part === "whole" ? 1 : `(T + ${CHUNK - 1}u) / ${CHUNK}`}u;
const TOKENS = ${part === "whole" ? "T" : `${CHUNK}u`};
const LOG2E = ${Math.LOG2E};
${main}
  let b = wg.z;
  ${each(quads, (j) => `let quad${j} = ${shared ? `(${swappedLane(j)}) % ${quads}u` : `${j}u`};`)}
  ${full ? "" : each(quads, (j) => `let there${j} = select(vec4f(), vec4f(1.0), quad${j} * 4u + vec4u(0u, 1u, 2u, 3u) < vec4u(N));`)}
  ${owned((c) => `let mine${c} = (wg.x * ${channels}u + ${c}u) * WG + lane; let e${c} = min(mine${c}, E - 1u);`)}
  ${owned((c) => each(quads, (j) => `var a${c}${j} = vec4f(); var h${c}${j} = vec4f();`))}
  ${owned((c) =>
    eachState(
      (n, j, i) =>
        `a${c}${j}.${i} = LOG2E * a[${at(n, c)}];${outputs ? ` h${c}${j}.${i} = ${state(n, c)};` : ""}`,
      "  ",
    ),
  )}
  ${owned((c) => (outputs ? `let D${c} = biasD[${at("1u", c)}];` : `var sum${c} = 0.0;`))}
  let end = min(count(b), (wg.y + 1u) * TOKENS);
  for (var t = wg.y * TOKENS; t < end; t++) {
    let row = b * T + t;
    ${load("b", "R4")}
    ${outputs ? load("c", "R4 + N4") : ""}
    ${owned((c) => `let step${c} = dt[${at("row", c)}]; let x${c} = u[${at("row", c)}]; let input${c} = step${c} * x${c};`, "    ")}
    ${outputs ? owned((c) => `let gate${c} = silu(xz[(row * X4 + E4) * 4u + e${c}]);`, "    ") : ""}
    ${owned((c) => (outputs ? `var y${c} = D${c} * x${c};` : `sum${c} += step${c};`), "    ")}
    ${owned((c) => each(quads, (j) => `${next(j, c)}${outputs ? ` y${c} += dot(h${c}${j}, c${j});` : ""}`, "    "), "    ")}
    ${outputs ? owned((c) => `if (mine${c} < E) { u[${at("row", c)}] = y${c} * gate${c}; }`, "    ") : ""}
  }
  ${
    part === "outputs"
      ? ""
      : owned(
          (c) => `if (mine${c} < E) {
    ${eachState((n, j, i) => `${state(n, c)} = h${c}${j}.${i};`, "    ")}
    ${part === "ends" ? `elapsed[${at("b * CHUNKS + wg.y", c)}] = sum${c};` : ""}
  }`,
        )
  }
}`;
    },
  };
}

/** From the chunks' ends to their starts, and h from the first token to the last: a thread owns a state. */
const link = (workgroup: number): Pass<Letter> => ({
  workgroup,
  grid: ({ B, E, N }) => ceilDiv(B * N * E, workgroup),
  writes: ["states"],
  wgsl: `${cursorWgsl}
const CHUNKS = (T + ${CHUNK - 1}u) / ${CHUNK}u;
${main}
  let i = workgroupIndex(wg) * WG + lane;
  let e = i % E;
  let n = i / E % N;
  let b = i / E / N;
  if (b >= B) { return; }
  let decay = a[n * E4 * 4u + e];
  let mine = (b * N + n) * E4 * 4u + e;
  let used = (count(b) + ${CHUNK - 1}u) / ${CHUNK}u;
  if (used == 0u) { return; }
  var state = h[mine];
  for (var c = b * CHUNKS; c < b * CHUNKS + used; c++) {
    let at = (c * N + n) * E4 * 4u + e;
    let end = states[at];
    states[at] = state;
    state = exp(decay * elapsed[c * E4 * 4u + e]) * state + end;
  }
  h[mine] = state;
}`,
});

/** One token after the other. */
export const serial = (shared: boolean): Variant<Letter> => ({
  suits: "cpu",
  ...(shared ? { needs: ["subgroups"] } : {}),
  when: ({ T, N }) => T > 1 && N <= 16,
  views: { rbc: "vec4f" },
  scratch: timeScratch,
  passes: [timeSteps(16, shared), walk("whole", shared, 16)],
});

/** All chunks at once, twice, with a short serial pass between; with `shared` in workgroups too small for a GPU. */
export const chunked = (shared: boolean, workgroup: number): Variant<Letter> => ({
  suits: shared ? "cpu" : "any",
  ...(shared ? { needs: ["subgroups"] } : {}),
  when: ({ T, N }) => T >= 2 * CHUNK && N <= 16,
  views: { rbc: "vec4f" },
  scratch: { ...timeScratch, states: ["B", chunks, "N", "E"], elapsed: ["B", chunks, "E"] },
  passes: [
    timeSteps(workgroup, shared),
    walk("ends", shared, workgroup),
    link(workgroup),
    walk("outputs", shared, workgroup),
  ],
});
