// The streams that most cases run.

import { cursorOf } from "./cursor.ts";

/** Streams at different positions with different numbers of valid tokens; the last of several is frozen. */
export const mixedStreams = ({ B, T }: { B: number; T: number }): Uint32Array<ArrayBuffer> =>
  cursorOf(
    Array.from({ length: B }, (_, b) => [2 + 11 * b, b > 0 && b === B - 1 ? 0 : Math.max(T - b, 1)] as const),
  );
