import { describe, expect, test } from "vitest";
import {
  elements,
  integers,
  nextPage,
  pack,
  pageSpec,
  pagesFor,
  rows,
  storedBytes,
  storedElements,
  tiles,
  unpack,
} from "../engine/tensor.ts";

describe("layouts", () => {
  test.each([
    // rows of f32 are padded to four, rows of u32 are not
    [rows(3, 5), 24],
    [rows(7), 8],
    [rows(2, 3, 4), 24],
    [integers(3, 5), 15],
    // tiles: both of the last two letters are padded to four
    [tiles(5, 6), 64],
    [tiles(4, 8), 32],
    [tiles(2, 3, 1, 1), 96],
    [tiles(1, 9), 48],
  ])("%j stores %i elements, and packs and unpacks to what it was", (spec, stored) => {
    expect(storedElements(spec)).toBe(stored);
    expect(storedBytes(spec)).toBe(4 * stored);
    const n = elements(spec);
    const logical =
      spec.type === "f32"
        ? Float32Array.from({ length: n }, (_, i) => i + 1)
        : Uint32Array.from({ length: n }, (_, i) => i + 1);
    const packed = pack(spec, logical);
    expect(packed).toHaveLength(stored);
    expect(
      [...packed].filter((x) => x !== 0).sort((a, b) => a - b),
      "padding is zero",
    ).toEqual([...logical]);
    expect(unpack(spec, packed)).toEqual(logical);
  });

  test("column c of a tile holds four rows at column c", () => {
    const matrix = Float32Array.from({ length: 30 }, (_, i) => 10 * Math.floor(i / 6) + (i % 6));
    const packed = pack(tiles(5, 6), matrix);
    expect([...packed.subarray(0, 8)]).toEqual([0, 10, 20, 30, 1, 11, 21, 31]);
    expect([...packed.subarray(16, 24)], "the next four columns").toEqual([4, 14, 24, 34, 5, 15, 25, 35]);
    expect([...packed.subarray(32, 40)], "the next four rows").toEqual([40, 0, 0, 0, 41, 0, 0, 0]);
  });

  test("unpacking leaves what was stored alone", () => {
    const stored = new Float32Array([1, 2, 3, 4]);
    unpack(rows(4), stored)[0] = 9;
    expect(stored[0]).toBe(1);
  });
});

describe("pages", () => {
  test("hold 256 slots until an eighth of the cache is more", () => {
    expect([0, 255, 256, 2048, 4095, 4096, 8191, 8192, 100_000, 1 << 20].map(nextPage)).toEqual([
      256,
      256,
      256,
      256,
      256,
      512,
      512,
      1024,
      8192,
      1 << 17,
    ]);
    expect(pagesFor(0)).toEqual([]);
    expect(pagesFor(1)).toEqual([256]);
    expect(pagesFor(257)).toEqual([256, 256]);
    expect(pagesFor(4097)).toEqual([...new Array(16).fill(256), 512]);
  });

  test("slack stays under an eighth past 2,048 tokens, and the pages stay few", () => {
    for (let length = 2049; length <= 1 << 20; length = Math.ceil(length * 1.003)) {
      const pages = pagesFor(length);
      const held = pages.reduce((a, b) => a + b, 0);
      expect(held).toBeGreaterThanOrEqual(length);
      expect(held - length, `${length} tokens`).toBeLessThan(length / 8);
      expect(held - pages.at(-1)!, "no page too many").toBeLessThan(length);
    }
    expect(pagesFor(1 << 20).length).toBeLessThan(100);
  });

  test("hold the tensor's other sizes whole", () => {
    const spec = { ...tiles(2, 3, 768, 20), pagedAxis: 2 };
    expect(pageSpec(spec, 256)).toEqual(tiles(2, 3, 256, 20));
  });
});
