// Decode over pages of which a query sees little: its keys and values are first gathered side by side, so that what
// follows is attention to all of a small cache, whatever the pattern.

import { cursorWgsl } from "../../engine/cursor.ts";
import { derived, type Grid, type Pass, type Sizes } from "../../engine/kernel.ts";
import { ceilDiv, roundUp } from "../../engine/tensor.ts";
import type { Letter } from "../attention.ts";
import { onPage, pageSources, type Source } from "./cache.ts";

type S = Sizes<Letter>;

/** Slots that a query's keys fill at most, by how far behind the query they stand: the last W, then every W-th. */
export const gatheredSlots = {
  local: derived("W", ["W"], ({ W }: S) => W),
  strided: derived("W + N/W", ["W", "N"], ({ W, N }: S) => W + ceilDiv(N, W)),
};
export type Sparse = keyof typeof gatheredSlots;

/** Private scratch: as the cache, but a tile holds four keys one after the other. */
export const gatheredScratch = (kind: Sparse) => {
  const { text, letters, size } = gatheredSlots[kind];
  return [2, "B", "K", derived<Letter>(`4 ((${text})/4)`, letters, (s) => roundUp(size(s), 4)), "D"] as const;
};

/** WGSL for what reads the gathered keys: slots in a plane, slots that are filled, and the tiles. */
export const gatheredWgsl = (kind: Sparse): string => `
fn slots4() -> u32 { return ${kind === "local" ? "W4" : "(W + (params.N + W - 1u) / W + 3u) / 4u"}; }
fn reached(at: u32) -> u32 { return min(at + 1u, W)${kind === "local" ? "" : " + at / W"}; }`;

export const gatheredSource = (kind: Sparse): Source => ({
  array: "gathered",
  tiles: "slots4()",
  // behind the query; past the first token negative
  keys: (n4) => {
    const slots = `(vec4i(4 * i32(${n4})) + OFFSETS)`;
    return kind === "local" ? `vec4i(origin) - ${slots}` : `gatheredKeys(origin, ${slots})`;
  },
  tile: (index) => `gatheredTile(${index})`,
});

export const gatheredTileWgsl = `
fn gatheredKeys(query: i32, slots: vec4i) -> vec4i {
  let window = vec4i(i32(W));
  return vec4i(query) - select(slots, (slots - window + 1) * window, slots >= window);
}
fn gatheredTile(index: u32) -> mat4x4f {
  let i = 4u * index;
  return transpose(mat4x4f(gathered[i], gathered[i + 1u], gathered[i + 2u], gathered[i + 3u]));
}`;

/** A thread copies four columns of a key or a value: of the page's near keys, then its far ones. */
export const gather = (kind: Sparse, workgroup: number): Pass<Letter> => {
  const near = ({ W, PAGE }: S & { PAGE: number }) => Math.min(W, PAGE);
  const far = ({ W, PAGE }: S & { PAGE: number }) => (kind === "local" ? 0 : ceilDiv(PAGE, W));
  // and the rest of the last tile, which must be numbers
  const threads = (s: S & { PAGE: number }) => near(s) + far(s) + 3;
  return {
    overPages: true,
    writes: ["gathered"],
    workgroup,
    grid: (s): Grid => ceilDiv(s.PAGES * 2 * s.B * s.K * threads(s) * ceilDiv(s.D, 4), workgroup),
    wgsl: (s) => `${cursorWgsl}${gatheredWgsl(kind)}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg) * WG + lane;
  const NEAR = ${near(s)}u;
  const FAR = ${far(s)}u;
  const THREADS = ${threads(s)}u;
  let d4 = i % D4;
  let j = i / D4 % THREADS;
  let plane = i / D4 / THREADS % (2u * B * K);
  let page = i / D4 / THREADS / (2u * B * K);
  let b = plane / K % B;
  let query = position(b);
  let start = params.base + page * PAGE;
  if (page >= params.pages || count(b) == 0u || start > query) { return; }
  let end = min(start + PAGE, query + 1u);
  var key = max(start, query + 1u - min(W, query + 1u)) + j;
  var slot = query - min(key, query);
  ${
    kind === "local"
      ? ""
      : `if (j >= NEAR) {
    key = start + (query - start) % W + (j - NEAR) * W;
    slot = W - 1u + (query - min(key, query)) / W;
    if (key + W > query) { key = end; }
  }`
  }
  let rest = reached(query) + j - NEAR - FAR;
  let resting = j >= NEAR + FAR;
  if (resting) {
    if (end <= query || rest / 4u > (reached(query) - 1u) / 4u) { return; }
    slot = rest;
  } else if (key >= end) { return; }
  let source = ((plane * (PAGE / 4u) + (key - start) / 4u) * D4 + d4) * 16u + (key - start) % 4u;
  let to = ((plane * slots4() + slot / 4u) * D4 + d4) * 4u + slot % 4u;
  if (resting) { gathered[to] = vec4f(); return; }
  ${onPage(pageSources(s.PAGES), ({ array }) => `gathered[to] = vec4f(${[0, 4, 8, 12].map((c) => `${array}[source + ${c}u]`).join(", ")});`)}
}`,
  };
};
