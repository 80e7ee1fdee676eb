// Decode over pages of which a query sees little: its keys and values are first gathered side by side, so that what
// follows is attention to all of a small cache, whatever the pattern.

import { cursorWgsl } from "../../engine/cursor.ts";
import { derived, type Pass, type Sizes } from "../../engine/kernel.ts";
import { ceilDiv, roundUp } from "../../engine/tensor.ts";
import type { Letter } from "../attention.ts";
import { onPage, pageSources, type Source, type Sparse } from "./cache.ts";

type S = Sizes<Letter>;

/** The largest power of two up to W: a shift, where integer division costs more than the rest of a thread. */
const shiftOf = ({ W }: { W: number }) => Math.floor(Math.log2(W));

/** Slots that a query's keys fill at most, by how far behind the query they stand: the last W, then every W-th. */
export const gatheredSlots = {
  local: derived("W", ["W"], ({ W }: S) => W),
  strided: derived("W + N/2^log2(W)", ["W", "N"], ({ W, N }: S) => W + ceilDiv(N, 2 ** shiftOf({ W }))),
};

/** Private scratch: as the cache, but a tile holds four keys one after the other. */
export const gatheredScratch = (kind: Sparse) => {
  const { text, letters, size } = gatheredSlots[kind];
  return [2, "B", "K", derived<Letter>(`4 ((${text})/4)`, letters, (s) => roundUp(size(s), 4)), "D"] as const;
};

/** WGSL for what reads the gathered keys: tiles of a plane, and slots that are filled. */
export const gatheredWgsl = (kind: Sparse, s: S): string => {
  const shift = shiftOf(s);
  return kind === "local"
    ? `
fn slots4() -> u32 { return W4; }
fn reached(at: u32) -> u32 { return min(at + 1u, W); }`
    : `
fn slots4() -> u32 { return (W + ((params.N + ${2 ** shift - 1}u) >> ${shift}u) + 3u) >> 2u; }
fn reached(at: u32) -> u32 { return min(at + 1u, W) + at / W; }`;
};

export const gatheredSource = (kind: Sparse): Source => ({
  array: "gathered",
  tiles: "slots4()",
  // behind the query; past the first token negative
  keys: (n4) => {
    const slots = `(vec4i(4 * i32(${n4})) + OFFSETS)`;
    return kind === "local" ? `vec4i(origin) - ${slots}` : `gatheredKeys(origin, ${slots})`;
  },
  tile: (row, d4) => `gatheredTile(${row}, ${d4})`,
});

export const gatheredTileWgsl = `
fn gatheredKeys(query: i32, slots: vec4i) -> vec4i {
  let window = vec4i(i32(W));
  return vec4i(query) - select(slots, (slots - window + 1) * window, slots >= window);
}
fn gatheredTile(row: u32, d4: u32) -> mat4x4f {
  let i = 4u * (row * D4 + d4);
  return transpose(mat4x4f(gathered[i], gathered[i + 1u], gathered[i + 2u], gathered[i + 3u]));
}`;

/**
 * Threads of a page and plane take what the query sees of it in turn: near keys, far ones, and the rest of the last
 * tile, which must be numbers. With `lanes` a thread copies four columns, else all.
 */
export const gather = (kind: Sparse, workgroup: number, lanes: boolean): Pass<Letter> => {
  const columns = ({ D }: S) => (lanes ? ceilDiv(D, 4) : 1);
  /** Keys that are copied at once: what a page may have, up to 16 of a thread's or 256 of many threads'. */
  const keys = ({ W, PAGE }: S & { PAGE: number }) =>
    Math.min(lanes ? 256 : 16, roundUp(Math.min(W, PAGE), 4) + 4);
  return {
    overPages: true,
    writes: ["gathered"],
    workgroup,
    grid: (s) => [ceilDiv(keys(s) * columns(s), workgroup), 2 * s.B * s.K, s.PAGES],
    wgsl: (s) => `${cursorWgsl}${gatheredWgsl(kind, s)}
const KEYS = ${keys(s)}u;
const COLUMNS = ${columns(s)}u;
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let page = wg.z;
  let plane = wg.y;
  let b = plane / K % B;
  let query = position(b);
  let start = params.base + page * PAGE;
  if (page >= params.pages || count(b) == 0u || start > query) { return; }
  let end = min(start + PAGE, query + 1u);
  let near = max(start, query + 1u - min(W, query + 1u));
  let nears = end - min(near, end);
  ${
    kind === "local"
      ? `const far = 0u;
  const fars = 0u;`
      : `// keys at whole strides from the query, of those before the near ones
  let far = start + (query - start) % W;
  let before = min(end, query + 1u - min(W, query + 1u));
  let fars = (before + W - 1u - min(far, before + W - 1u)) / W;`
  }
  let rests = select(0u, (4u - reached(query) % 4u) % 4u, end > query);
  let i = wg.x * WG + lane;
  if (i >= KEYS * COLUMNS) { return; }
  for (var j = i / COLUMNS; j < nears + fars + rests; j += KEYS) {
    var key = near + j;
    var slot = query - min(key, query);
    let isFar = j >= nears;
    if (isFar) { key = far + (j - nears) * W; slot = W - 1u + (query - min(key, query)) / W; }
    let isRest = j >= nears + fars;
    if (isRest) { slot = reached(query) + j - nears - fars; }
    let row = plane * (PAGE / 4u) + (key - start) / 4u;
    let to = plane * slots4() * D4 * 4u + slot / 4u * D4 * 4u + slot % 4u;
    for (var d4 = i % COLUMNS; d4 < D4; d4 += COLUMNS) {
      var x = vec4f();
      if (!isRest) { ${onPage(pageSources(s.PAGES), ({ array }) => `x = ${array}Row(row, d4, (key - start) % 4u);`)} }
      gathered[to + 4u * d4] = x;
    }
  }
}`,
  };
};
