// Cursors for cases where positions matter: across pages, around a ring, near the last position.

import { CURSOR, CURSOR_COLUMNS } from "../../engine/cursor.ts";

/** A cursor with these streams, each [position, count]. */
export function cursorOf(streams: readonly (readonly [number, number])[]): Uint32Array<ArrayBuffer> {
  const cursor = new Uint32Array(streams.length * CURSOR_COLUMNS);
  streams.forEach(([position, count], b) => {
    cursor[b * CURSOR_COLUMNS + CURSOR.position] = position;
    cursor[b * CURSOR_COLUMNS + CURSOR.count] = count;
  });
  return cursor;
}

/** A cursor for B streams: these, and more like the first. */
export const cursorFor = (B: number, streams: readonly (readonly [number, number])[]) =>
  cursorOf(Array.from({ length: B }, (_, b) => streams[b] ?? streams[0]!));

export const positionOf = (cursor: Uint32Array, b: number): number =>
  cursor[b * CURSOR_COLUMNS + CURSOR.position]!;
export const countOf = (cursor: Uint32Array, b: number): number => cursor[b * CURSOR_COLUMNS + CURSOR.count]!;
