// How 4x4 tiles are stored: as f32, as f16, or as int8 with scales. A body reads and writes them through functions that the
// derived header declares for each tiled binding `w`, and so is written once. r counts rows of tiles (over all of a tensor's
// planes), k the tiles of a row, c the columns of a tile, j its rows:
//   wTile(r, k) -> mat4x4f      the tile, a column of four rows after the other
//   wColumn(r, k, c) -> vec4f   one of its columns
//   wRow(r, k, j) -> vec4f      one of its rows
// and, where the binding is written, for the rows that `which` names:
//   wBegin(r, k, which, most)   before the first put into a group: the largest magnitude that each row of it will hold
//   wPut(r, k, c, which, v)     a column
//   wPutTile(r, k, tile)        all rows of all columns
//   w_GROUP                     tiles of a group. A row of tiles begins with one, and one invocation owns all of it: it may
//                               share words, and in int8 shares scales.

import { fromF16, halfBits } from "./half.ts";

/** Element types that tiles may be stored as. */
export const STORED_TYPES = ["f32", "f16", "int8"] as const;
export type StoredType = (typeof STORED_TYPES)[number];

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Tiles of a row that share scales: 64 columns. */
const GROUP = 16;

interface TileFormat {
  /** Words of four bytes in a row of so many tiles. */
  words(tiles: number): number;
  /** A row of tiles from f32. */
  pack(row: Float32Array): Uint32Array;
  /** And back. */
  unpack(row: Uint32Array): Float32Array;
  /** Tiles of a group that one invocation must write. */
  group: number;
  /** How the binding is seen. */
  view: "mat4x4f" | "vec4u";
  /** WGSL of the functions for a binding of this name with rows of so many tiles. */
  read(name: string, tiles: number): Record<string, string>;
  write(name: string, tiles: number): Record<string, string>;
}

const f32: TileFormat = {
  words: (tiles) => 16 * tiles,
  pack: (row) => new Uint32Array(row.buffer, row.byteOffset, row.length),
  unpack: (row) => new Float32Array(row.buffer, row.byteOffset, row.length),
  group: 1,
  view: "mat4x4f",
  read: (w, tiles) => ({
    Tile: `(r: u32, k: u32) -> mat4x4f { return ${w}[r * ${tiles}u + k]; }`,
    Column: `(r: u32, k: u32, c: u32) -> vec4f { return ${w}[r * ${tiles}u + k][c]; }`,
    Row: `(r: u32, k: u32, j: u32) -> vec4f {
  let i = r * ${tiles}u + k;
  return vec4f(${w}[i][0][j], ${w}[i][1][j], ${w}[i][2][j], ${w}[i][3][j]);
}`,
  }),
  write: (w, tiles) => ({
    Begin: "(r: u32, k: u32, which: vec4<bool>, most: vec4f) {}",
    Put: `(r: u32, k: u32, c: u32, which: vec4<bool>, v: vec4f) {
  let i = r * ${tiles}u + k;
  ${w}[i][c] = select(${w}[i][c], v, which);
}`,
    PutTile: `(r: u32, k: u32, tile: mat4x4f) { ${w}[r * ${tiles}u + k] = tile; }`,
  }),
};

/** A column is two words, of two rows each. */
const f16: TileFormat = {
  words: (tiles) => 8 * tiles,
  pack(row) {
    const words = new Uint32Array(row.length / 2);
    for (let i = 0; i < words.length; i++)
      words[i] = halfBits(row[2 * i]!) | (halfBits(row[2 * i + 1]!) << 16);
    return words;
  },
  unpack: (row) => fromF16(new Uint16Array(row.buffer, row.byteOffset, 2 * row.length)),
  group: 1,
  view: "vec4u",
  read: (w, tiles) => ({
    Tile: `(r: u32, k: u32) -> mat4x4f {
  let i = (r * ${tiles}u + k) * 2u;
  let a = ${w}[i];
  let b = ${w}[i + 1u];
  return mat4x4f(
    vec4f(unpack2x16float(a.x), unpack2x16float(a.y)), vec4f(unpack2x16float(a.z), unpack2x16float(a.w)),
    vec4f(unpack2x16float(b.x), unpack2x16float(b.y)), vec4f(unpack2x16float(b.z), unpack2x16float(b.w)));
}`,
    Column: `(r: u32, k: u32, c: u32) -> vec4f {
  let i = (r * ${tiles}u + k) * 2u + c / 2u;
  let j = c % 2u * 2u;
  return vec4f(unpack2x16float(${w}[i][j]), unpack2x16float(${w}[i][j + 1u]));
}`,
    Row: `(r: u32, k: u32, j: u32) -> vec4f {
  let i = (r * ${tiles}u + k) * 2u;
  let shift = vec4u(j % 2u * 16u);
  let h = vec4u(${w}[i][j / 2u], ${w}[i][j / 2u + 2u], ${w}[i + 1u][j / 2u], ${w}[i + 1u][j / 2u + 2u]) >> shift;
  return vec4f(unpack2x16float(h.x).x, unpack2x16float(h.y).x, unpack2x16float(h.z).x, unpack2x16float(h.w).x);
}`,
  }),
  write: (w, tiles) => ({
    Begin: "(r: u32, k: u32, which: vec4<bool>, most: vec4f) {}",
    Put: `(r: u32, k: u32, c: u32, which: vec4<bool>, v: vec4f) {
  let i = (r * ${tiles}u + k) * 2u + c / 2u;
  let j = c % 2u * 2u;
  let mask = select(vec4u(), vec4u(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), which);
  ${w}[i][j] = (${w}[i][j] & ~(mask.x | mask.y)) | (pack2x16float(v.xy) & (mask.x | mask.y));
  ${w}[i][j + 1u] = (${w}[i][j + 1u] & ~(mask.z | mask.w)) | (pack2x16float(v.zw) & (mask.z | mask.w));
}`,
    PutTile: `(r: u32, k: u32, tile: mat4x4f) {
  let i = (r * ${tiles}u + k) * 2u;
  ${range(2)
    .map((half) => {
      const words = [2 * half, 2 * half + 1].flatMap((c) =>
        ["xy", "zw"].map((rows) => `pack2x16float(tile[${c}].${rows})`),
      );
      return `${w}[i + ${half}u] = vec4u(${words.join(", ")});`;
    })
    .join("\n  ")}
}`,
  }),
};

/**
 * Bytes of -127 .. 127 and, before each group of tiles of a row, a scale for each of the four rows: what llama.cpp's Q8_0 is for
 * runs of 32. A scale is the largest magnitude over 127, rounded up to 17 bits of mantissa: 127 scales are then exact, and
 * what is read and stored again stays as it is. A column is one word.
 */
const int8: TileFormat = {
  words: (tiles) => 4 * (tiles + Math.ceil(tiles / GROUP)),
  pack(row) {
    const tiles = row.length / 16;
    const words = new Uint32Array(this.words(tiles));
    const scales = new Float32Array(words.buffer);
    const bytes = new Int8Array(words.buffer);
    for (let k0 = 0; k0 < tiles; k0 += GROUP) {
      const at = 4 * (k0 + k0 / GROUP);
      const end = 16 * Math.min(k0 + GROUP, tiles);
      for (let j = 0; j < 4; j++) {
        let most = 0;
        for (let i = 16 * k0 + j; i < end; i += 4) most = Math.max(most, Math.abs(row[i]!));
        scales[at + j] = most / 127;
        // a sum of whole words: rounded up
        words[at + j] = (words[at + j]! + 127) & ~127;
        const scale = scales[at + j]!;
        for (let i = 16 * k0 + j; i < end; i += 4)
          bytes[4 * (at + 4) + i - 16 * k0] = scale === 0 ? 0 : Math.floor(row[i]! / scale + 0.5);
      }
    }
    return words;
  },
  unpack(row) {
    const scales = new Float32Array(row.buffer, row.byteOffset, row.length);
    const bytes = new Int8Array(row.buffer, row.byteOffset, 4 * row.length);
    const groups = Math.ceil(row.length / 4 / (GROUP + 1));
    const tiles = row.length / 4 - groups;
    const out = new Float32Array(16 * tiles);
    for (let i = 0; i < out.length; i++) {
      const at = 4 * Math.floor(i / 16 / GROUP) * (GROUP + 1);
      out[i] = scales[at + (i % 4)]! * bytes[4 * (at + 4) + (i % (16 * GROUP))]!;
    }
    return out;
  },
  group: GROUP,
  view: "vec4u",
  read: (w, tiles) => {
    const place = `let row = r * ${tiles + Math.ceil(tiles / GROUP)}u;
  let scale = bitcast<vec4f>(${w}[row + k / ${GROUP}u * ${GROUP + 1}u]);`;
    const column = (word: string) =>
      `scale * vec4f(vec4i(vec4u(${word}) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u))`;
    const at = `row + k + k / ${GROUP}u + 1u`;
    return {
      Tile: `(r: u32, k: u32) -> mat4x4f {
  ${place}
  let q = ${w}[${at}];
  return mat4x4f(${["x", "y", "z", "w"].map((c) => column(`q.${c}`)).join(", ")});
}`,
      Column: `(r: u32, k: u32, c: u32) -> vec4f {
  ${place}
  return ${column(`${w}[${at}][c]`)};
}`,
      Row: `(r: u32, k: u32, j: u32) -> vec4f {
  ${place}
  return scale[j] * vec4f(vec4i(${w}[${at}] << vec4u(24u - 8u * j)) >> vec4u(24u));
}`,
    };
  },
  write: (w, tiles) => {
    const row = `r * ${tiles + Math.ceil(tiles / GROUP)}u`;
    const place = `let row = ${row};
  let scale = bitcast<vec4f>(${w}[row + k / ${GROUP}u * ${GROUP + 1}u]);
  let i = row + k + k / ${GROUP}u + 1u;`;
    /** The bytes of four rows, each where it stands in the word. */
    const bytes = (v: string) =>
      `((vec4u(vec4i(floor(select(${v} / scale, vec4f(), scale == vec4f()) + 0.5))) & vec4u(0xffu)) << vec4u(0u, 8u, 16u, 24u))`;
    const word = (bytes: string) => `(${bytes}.x | ${bytes}.y | ${bytes}.z | ${bytes}.w)`;
    return {
      Begin: `(r: u32, k: u32, which: vec4<bool>, most: vec4f) {
  let i = ${row} + k / ${GROUP}u * ${GROUP + 1}u;
  ${w}[i] = select(${w}[i], (bitcast<vec4u>(most / 127.0) + 127u) & vec4u(~127u), which);
}`,
      Put: `(r: u32, k: u32, c: u32, which: vec4<bool>, v: vec4f) {
  ${place}
  let rows = select(vec4u(), vec4u(0xffu, 0xff00u, 0xff0000u, 0xff000000u), which);
  let bytes = ${bytes("v")} & rows;
  ${w}[i][c] = (${w}[i][c] & ~${word("rows")}) | ${word("bytes")};
}`,
      PutTile: `(r: u32, k: u32, tile: mat4x4f) {
  ${place}
  ${range(4)
    .map((c) => `let bytes${c} = ${bytes(`tile[${c}]`)};`)
    .join("\n  ")}
  ${w}[i] = vec4u(${range(4)
    .map((c) => word(`bytes${c}`))
    .join(", ")});
}`,
    };
  },
};

export const tileFormats: Readonly<Record<StoredType, TileFormat>> = { f32, f16, int8 };
