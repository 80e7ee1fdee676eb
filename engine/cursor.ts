// The cursor: where each stream stands. u32 [B, 8], written by the host before a submit, advanced on the GPU by the
// last dispatch of a step, bound read-only everywhere else.

/** Columns of a stream's row. */
export const CURSOR = {
  /** Tokens that the stream has consumed: the absolute position of the chunk's first token. */
  position: 0,
  /** Valid tokens in this chunk, 0..T; 0: the stream is frozen and its state must not change. */
  count: 1,
  /** Tokens that the stream still has to run, this chunk's included. */
  remaining: 2,
  seed: 3,
  /** f32 bits; 0 is greedy. */
  temperature: 4,
  /** 0: all. */
  topK: 5,
  /** f32 bits; 1: all. */
  topP: 6,
  /** f32 bits; 0: all. */
  minP: 7,
} as const;
export const CURSOR_COLUMNS = 8;

/** Sampled ids are kept in a ring: the id sampled at position p stands in slot p mod ID_RING. */
export const ID_RING = 64;

/** WGSL for kernels that bind `cursor: [B, 8]`. */
export const cursorWgsl = /* wgsl */ `
fn position(b: u32) -> u32 { return cursor[b * 8u]; }
fn count(b: u32) -> u32 { return cursor[b * 8u + 1u]; }
`;

/** How a stream draws its tokens. */
export interface Settings {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  seed: number;
}
export const GREEDY: Settings = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0 };

const bits = (x: number): number => new Uint32Array(new Float32Array([x]).buffer)[0]!;

/** The rows of a run of T tokens: each stream's position, what it may consume in a run, and what it still has to. */
export function cursorWords(
  T: number,
  positions: readonly number[],
  remaining: readonly number[],
  settings: (b: number) => Settings,
): Uint32Array {
  const words = new Uint32Array(positions.length * CURSOR_COLUMNS);
  positions.forEach((position, b) => {
    const { seed, temperature, topK, topP, minP } = settings(b);
    const row = b * CURSOR_COLUMNS;
    words[row + CURSOR.position] = position;
    words[row + CURSOR.count] = Math.min(T, remaining[b]!);
    words[row + CURSOR.remaining] = remaining[b]!;
    words[row + CURSOR.seed] = seed;
    words[row + CURSOR.temperature] = bits(temperature);
    words[row + CURSOR.topK] = topK;
    words[row + CURSOR.topP] = bits(topP);
    words[row + CURSOR.minP] = bits(minP);
  });
  return words;
}
