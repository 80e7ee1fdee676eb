import { describe, expect, test } from "vitest";
import { fromF16, halfBits } from "../engine/half.ts";
import {
  elements,
  integers,
  nextPage,
  pack,
  pageSpec,
  pagesFor,
  rounded,
  rows,
  storedBytes,
  storedWords,
  tiles,
  unpack,
  withType,
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
    expect(storedWords(spec)).toBe(stored);
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

describe("f16", () => {
  test("every half that is a number is the nearest to itself", () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((h) => (h & 0x7c00) !== 0x7c00);
    const back = Array.from(fromF16(halves), halfBits);
    expect(back.findIndex((h, i) => h !== halves[i])).toBe(-1);
  });

  test.each([
    [1 + 2 ** -11, 0x3c00, "a tie goes to the even one below"],
    [1 + 3 * 2 ** -11, 0x3c02, "or above"],
    [1 + 2 ** -11 + 2 ** -20, 0x3c01, "past a tie"],
    [65519.9, 0x7bff, "the largest"],
    [65520, 0x7c00, "infinite"],
    [-1e9, 0xfc00, "infinite"],
    [2 ** -25, 0, "half of the smallest is a tie with zero"],
    [1.5 * 2 ** -24, 2, "a tie among subnormals"],
    [-(2 ** -14) + 2 ** -26, 0x8400, "a subnormal that is rounded up to a normal"],
    [Number.NaN, 0x7e00, "not a number"],
  ])("%f is 0x%s: %s", (x, bits) => {
    expect(halfBits(x)).toBe(bits);
  });
});

describe("tiles of narrow types", () => {
  // 70 columns: two groups of scales, the second of two tiles
  const spec = tiles(2, 6, 70);
  const numbers = Float32Array.from({ length: elements(spec) }, (_, i) => Math.sin(i) * 2 ** (i % 7));

  test("take half, and a quarter with a scale a row and 64 columns", () => {
    expect(storedBytes(withType(spec, "f16"))).toBe(storedBytes(spec) / 2);
    // two planes of two rows of tiles, each of 18 tiles of 16 bytes and 2 x 4 scales
    expect(storedBytes(withType(spec, "int8"))).toBe(2 * 2 * (18 * 16 + 2 * 16));
    expect(withType(rows(6, 70), "int8"), "rows stay f32").toEqual(rows(6, 70));
  });

  test("f16 is the nearest half", () => {
    const found = rounded(withType(spec, "f16"), numbers);
    expect(found).toEqual(fromF16(Uint16Array.from(numbers, halfBits)));
  });

  test("int8 is off by half a step of its row's scale at most", () => {
    const found = rounded(withType(spec, "int8"), numbers);
    for (let row = 0; row < 12; row++)
      for (const [begin, end] of [
        [0, 64],
        [64, 70],
      ] as const) {
        const of = (x: ArrayLike<number>) => Array.from(x).slice(row * 70 + begin, row * 70 + end);
        const most = Math.max(...of(numbers).map(Math.abs));
        const differences = of(found).map((x, i) => Math.abs(x - of(numbers)[i]!));
        expect(Math.max(...differences)).toBeLessThanOrEqual((most / 254) * (1 + 2 ** -15));
      }
  });

  test.each(["f16", "int8"] as const)("what is stored as %s and stored again stays as it is", (type) => {
    const once = rounded(withType(spec, type), numbers);
    expect(rounded(withType(spec, type), once)).toEqual(once);
    const zero = new Float32Array(elements(spec));
    expect(rounded(withType(spec, type), zero)).toEqual(zero);
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
