// What drawing a token by `argmax` and by `sample` has in common.

import { CURSOR, CURSOR_COLUMNS, ID_RING } from "../engine/cursor.ts";

type S = { readonly B: number; readonly V: number };

/** The larger score wins, the lower index on ties; NaN never does. The index is exact as an f32. */
export const best = /* wgsl */ `
struct Best { score: f32, index: u32 }
const NONE = Best(-3.4e38, 16777216u);
fn better(a: Best, b: Best) -> Best {
  if (b.score > a.score || (b.score == a.score && b.index < a.index)) { return b; }
  return a;
}`;

/** The token that stream b draws, unless it is frozen. */
export const take = /* wgsl */ `
fn take(b: u32, index: u32) {
  if (count(b) == 0u) { return; }
  let token = min(index, V - 1u);
  tokens[b] = token;
  ids[position(b) % ${ID_RING}u * B + b] = token;
}`;

/** Stream 1 is frozen; what it holds must stay. */
export const drawFill = {
  cursor: ({ B }: S): Uint32Array => {
    const cursor = new Uint32Array(B * CURSOR_COLUMNS);
    for (let b = 0; b < B; b++) {
      cursor[b * CURSOR_COLUMNS + CURSOR.position] = 62 + 7 * b;
      cursor[b * CURSOR_COLUMNS + CURSOR.count] = b === 1 ? 0 : 1;
    }
    return cursor;
  },
  tokens: ({ B }: S): Uint32Array => new Uint32Array(B).fill(1000),
  ids: ({ B }: S): Uint32Array => new Uint32Array(ID_RING * B).fill(2000),
};
