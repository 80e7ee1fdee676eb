// Tensors and how their elements lie in memory. Pure data: no GPUDevice, no browser API.

import { type StoredType, tileFormats } from "./tiles.ts";

/** f16 and int8 only in tiles. */
export type ElementType = StoredType | "u32";
/** Elements in logical order; of what is stored as f16 or int8, the numbers that these stand for. */
export type Data = Float32Array | Uint32Array;

/**
 * How a tensor's elements are stored. Shapes and letters stay logical; the layout packs them.
 * - `rows`: row-major; rows of f32 are padded to a multiple of 4 elements, so that a row can be read as vec4f.
 * - `tiles`: the last two letters [R, C] in 4x4 tiles, tile-row by tile-row; column c of a tile holds rows
 *   r..r+3 at column c, so that `tile * v` is four partial dot products (`mat4x4f` is column-major).
 */
export type Layout = "rows" | "tiles";

/** Where a tensor's bytes are counted. `kv`: keys and values; `state`: all else carried from token to token. */
export const CATEGORIES = ["weights", "state", "kv", "scratch", "uniform", "staging"] as const;
export type Category = (typeof CATEGORIES)[number];
export type Bytes = Record<Category, number>;
export const noBytes = (): Bytes => ({ weights: 0, state: 0, kv: 0, scratch: 0, uniform: 0, staging: 0 });

export interface Spec {
  readonly shape: readonly number[];
  readonly type: ElementType;
  readonly layout: Layout;
  /** The axis along which the tensor grows by pages; its size in `shape` is then the capacity. */
  readonly pagedAxis?: number;
}

/** One GPU buffer, or what stands for one on another machine. */
export interface Storage {
  readonly category: Category;
  readonly label: string;
  readonly bytes: number;
}

/** Bytes of storages by category. */
export function bytesOf(storages: readonly Storage[]): Bytes {
  const bytes = noBytes();
  for (const s of storages) bytes[s.category] += s.bytes;
  return bytes;
}

/** A view of a storage (or of one storage a page) with a shape. */
export interface Tensor {
  readonly label: string;
  readonly spec: Spec;
  /** Bytes from the start of the storage: a multiple of 256. */
  readonly offset: number;
  /** One storage; for a paged tensor one a page, in order. */
  readonly storages: readonly Storage[];
  /** Slots of each page, for a paged tensor. */
  readonly pages?: readonly number[];
}

export const rows = (...shape: number[]): Spec => ({ shape, type: "f32", layout: "rows" });
export const tiles = (...shape: number[]): Spec => ({ shape, type: "f32", layout: "tiles" });
export const integers = (...shape: number[]): Spec => ({ shape, type: "u32", layout: "rows" });

export const product = (numbers: readonly number[]): number => numbers.reduce((a, b) => a * b, 1);
export const ceilDiv = (a: number, b: number): number => Math.ceil(a / b);
export const roundUp = (a: number, to: number): number => Math.ceil(a / to) * to;

/** Logical elements. */
export const elements = (spec: Spec): number => product(spec.shape);

/** The same tensor with another element type, if it is one of tiles: what lies in rows stays f32. */
export const withType = <S extends Spec>(spec: S, type: StoredType): S =>
  spec.layout === "tiles" ? { ...spec, type } : spec;

const tileRows = ({ shape }: Spec): number => product(shape.slice(0, -2)) * ceilDiv(shape.at(-2)!, 4);
/** Tiles of a row of tiles. */
export const rowTiles = ({ shape }: Pick<Spec, "shape">): number => ceilDiv(shape.at(-1)!, 4);

/** Words of four bytes: the elements, the layout's padding and the type's scales. */
export function storedWords(spec: Spec): number {
  const { shape, type, layout } = spec;
  if (layout === "tiles" && type !== "u32") return tileRows(spec) * tileFormats[type].words(rowTiles(spec));
  const columns = shape.at(-1) ?? 1;
  return product(shape.slice(0, -1)) * (type === "f32" ? roundUp(columns, 4) : columns);
}

export const storedBytes = (spec: Spec): number => 4 * storedWords(spec);

/** Calls `visit(logical, stored)` with the index of every element in both orders. */
function eachElement(spec: Spec, visit: (logical: number, stored: number) => void): void {
  const { shape, layout, type } = spec;
  const C = shape.at(-1) ?? 1;
  if (layout === "tiles") {
    const R = shape.at(-2)!;
    const C4 = ceilDiv(C, 4);
    const plane = ceilDiv(R, 4) * C4 * 16;
    const planes = product(shape.slice(0, -2));
    let logical = 0;
    for (let p = 0; p < planes; p++)
      for (let r = 0; r < R; r++)
        for (let c = 0; c < C; c++) {
          visit(logical++, p * plane + ((r >> 2) * C4 + (c >> 2)) * 16 + (c & 3) * 4 + (r & 3));
        }
    return;
  }
  const stride = type === "f32" ? roundUp(C, 4) : C;
  const count = product(shape.slice(0, -1));
  let logical = 0;
  for (let r = 0; r < count; r++) for (let c = 0; c < C; c++) visit(logical++, r * stride + c);
}

export const zeros = (type: ElementType, n: number): Data =>
  type === "u32" ? new Uint32Array(n) : new Float32Array(n);
const isDense = (spec: Spec): boolean => spec.layout === "rows" && storedWords(spec) === elements(spec);
const isNarrow = ({ type }: Spec): boolean => type === "f16" || type === "int8";

/** Logical order to stored order; padding is zero. */
export function pack(spec: Spec, logical: Data): Data {
  if (isDense(spec)) return logical;
  if (isNarrow(spec)) return repacked(spec, pack({ ...spec, type: "f32" }, logical) as Float32Array);
  const stored = zeros(spec.type, storedWords(spec));
  eachElement(spec, (i, j) => (stored[j] = logical[i]!));
  return stored;
}

/** Rows of tiles from f32. */
function repacked(spec: Spec, tiles: Float32Array): Uint32Array {
  const format = tileFormats[spec.type as StoredType];
  const wide = 16 * rowTiles(spec);
  const words = new Uint32Array(storedWords(spec));
  for (let row = 0; row < tileRows(spec); row++)
    words.set(format.pack(tiles.subarray(row * wide, (row + 1) * wide)), row * format.words(rowTiles(spec)));
  return words;
}

/** Stored order to logical order; padding is dropped. */
export function unpack(spec: Spec, stored: Data): Data {
  if (isDense(spec)) return stored.slice(0, elements(spec));
  if (isNarrow(spec)) {
    const format = tileFormats[spec.type as StoredType];
    const words = format.words(rowTiles(spec));
    const tiles = new Float32Array(16 * rowTiles(spec) * tileRows(spec));
    for (let row = 0; row < tileRows(spec); row++)
      tiles.set(
        format.unpack((stored as Uint32Array).subarray(row * words, (row + 1) * words)),
        row * 16 * rowTiles(spec),
      );
    return unpack({ ...spec, type: "f32" }, tiles);
  }
  const logical = zeros(spec.type, elements(spec));
  eachElement(spec, (i, j) => (logical[i] = stored[j]!));
  return logical;
}

/** The numbers that remain of these once they are stored. */
export const rounded = (spec: Spec, logical: Data): Data =>
  isNarrow(spec) ? unpack(spec, pack(spec, logical)) : logical;

/** Slots of the smallest page. */
export const SMALLEST_PAGE = 256;

/** Slots of the page that a cache of `length` slots grows by: slack stays under an eighth (and 256 slots). */
export const nextPage = (length: number): number =>
  Math.max(SMALLEST_PAGE, 2 ** Math.floor(Math.log2(Math.max(length / 8, 1))));

/** The pages of a cache that holds at least `length` slots. */
export function pagesFor(length: number): number[] {
  const pages: number[] = [];
  for (let held = 0; held < length; ) {
    const page = nextPage(held);
    pages.push(page);
    held += page;
  }
  return pages;
}

/** The spec of one page of a paged tensor. */
export function pageSpec(spec: Spec, slots: number): Spec {
  const shape = spec.shape.map((n, axis) => (axis === spec.pagedAxis ? slots : n));
  return { shape, type: spec.type, layout: spec.layout };
}

/** A paged tensor's elements in logical order with so many slots: cut off, or zeros at the end. */
export function recut(spec: Spec, data: Data, slots: number): Data {
  const { shape, pagedAxis } = spec;
  const inner = product(shape.slice(pagedAxis! + 1));
  const outer = product(shape.slice(0, pagedAxis));
  const from = data.length / outer / inner;
  if (from === slots) return data;
  const out = zeros(spec.type, outer * slots * inner);
  const kept = Math.min(from, slots) * inner;
  for (let o = 0; o < outer; o++)
    out.set(data.subarray(o * from * inner, o * from * inner + kept), o * slots * inner);
  return out;
}
