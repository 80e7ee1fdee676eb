// Four lanes in a row share what each has loaded. A lane sees its neighbours' values by swapping, in an order of its own:
// lane l has that of lane l ^ j as its j-th. A swap is one shuffle, where SwiftShader takes several for a broadcast.

const SWAPS = ["", "quadSwapX", "quadSwapY", "quadSwapDiagonal"];

/** WGSL: `value` as lane `lane ^ j` holds it. */
export const swapped = (value: string, j: number): string => (j === 0 ? value : `${SWAPS[j]}(${value})`);

/** WGSL: of rows that a quad shares, four to a load, the one whose value a lane sees as its r-th. */
export const swappedRow = (r: string): string => `(${r} & ~3u) + ((lane ^ ${r}) & 3u)`;

/** WGSL: the lane of the quad whose value that is. */
export const swappedLane = (j: number): string => (j === 0 ? "lane % 4u" : `((lane % 4u) ^ ${j}u)`);
