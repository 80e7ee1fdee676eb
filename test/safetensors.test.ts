import { describe, expect, test } from "vitest";
import { fromF16 } from "../engine/half.ts";
import { fromBf16, openSafetensors, TensorError } from "../models/safetensors.ts";
import { CheckpointError, filesSource } from "../models/source.ts";

/** A file from its parts; `length` may lie. */
function file(
  header: string | Uint8Array,
  data: Uint8Array = new Uint8Array(0),
  length?: bigint,
): Uint8Array<ArrayBuffer> {
  const bytes = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const out = new Uint8Array(8 + bytes.length + data.length);
  new DataView(out.buffer).setBigUint64(0, length ?? BigInt(bytes.length), true);
  out.set(bytes, 8);
  out.set(data, 8 + bytes.length);
  return out;
}
const open = (bytes: Uint8Array<ArrayBuffer>) =>
  openSafetensors(filesSource([new File([bytes], "model.safetensors")]), "model.safetensors");
const entry = (dtype: string, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets });
const withHeader = (header: unknown, dataBytes: number) =>
  file(JSON.stringify(header), new Uint8Array(dataBytes));

describe("a header that lies", () => {
  const bad: [name: string, bytes: Uint8Array<ArrayBuffer>, message: RegExp][] = [
    ["empty file", new Uint8Array(0), /found 0 bytes, wanted at least the 8/],
    ["seven bytes", new Uint8Array(7), /found 7 bytes, wanted at least the 8/],
    [
      "length past the cap",
      file("{}", undefined, 100_000_001n),
      /claims 100000001 bytes, wanted at most 100000000/,
    ],
    ["length 2^64 - 1", file("{}", undefined, 2n ** 64n - 1n), /claims 18446744073709551615 bytes/],
    ["length past the end", file("{}", undefined, 3n), /claims 3 bytes, the file holds 2/],
    ["length short by one", file("{}", undefined, 1n), /not JSON/],
    ["length zero", file("{}", undefined, 0n), /not JSON/],
    ["not JSON", file("{a}"), /not JSON/],
    ["not UTF-8", file(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), /not JSON in UTF-8/],
    ["a list", file("[]"), /the header is \[\], wanted a JSON object/],
    ["null", file("null"), /the header is null, wanted a JSON object/],
    ["leading blank", file(" {}"), /wanted a JSON object that starts with {/],
    ["metadata of numbers", file('{"__metadata__":{"a":1}}'), /__metadata__ is {"a":1}, wanted strings/],
    [
      "entry is a number",
      withHeader({ a: 1 }, 0),
      /tensor a: entry is 1, wanted dtype, shape and data_offsets/,
    ],
    [
      "no shape",
      withHeader({ a: { dtype: "F32", data_offsets: [0, 4] } }, 4),
      /tensor a: shape is absent, wanted/,
    ],
    [
      "dtype 32",
      withHeader({ a: { dtype: 32, shape: [1], data_offsets: [0, 4] } }, 4),
      /dtype is 32, wanted a string/,
    ],
    [
      "negative size",
      withHeader({ a: entry("F32", [-1], [0, 4]) }, 4),
      /shape\.0 is -1, wanted a whole number/,
    ],
    [
      "fractional size",
      withHeader({ a: entry("F32", [1.5], [0, 6]) }, 6),
      /shape\.0 is 1\.5, wanted a whole number/,
    ],
    [
      "unsafe size",
      withHeader({ a: entry("F32", [2 ** 60], [0, 4]) }, 4),
      /shape\.0 is 1152921504606847000, wanted/,
    ],
    [
      "text for a size",
      withHeader({ a: entry("F32", ["1"], [0, 4]) }, 4),
      /shape\.0 is "1", wanted a whole number/,
    ],
    ["product past 2^53", withHeader({ a: entry("F32", [2 ** 30, 2 ** 30], [0, 4]) }, 4), /past 2\^53/],
    ["one offset", withHeader({ a: entry("F32", [1], [0]) }, 4), /data_offsets\S* is .*, wanted/],
    ["three offsets", withHeader({ a: entry("F32", [1], [0, 4, 8]) }, 8), /data_offsets\S* is .*, wanted/],
    [
      "offsets swapped",
      withHeader({ a: entry("F32", [1], [4, 0]) }, 4),
      /data_offsets are \[4, 0\], wanted begin <= end/,
    ],
    ["negative offset", withHeader({ a: entry("F32", [1], [-4, 0]) }, 4), /data_offsets\.0 is -4, wanted/],
    [
      "past the end",
      withHeader({ a: entry("F32", [2], [0, 8]) }, 4),
      /tensor a ends at byte \d+, the file holds \d+/,
    ],
    [
      "size disagrees",
      withHeader({ a: entry("F32", [3], [0, 8]) }, 8),
      /tensor a holds 8 bytes, F32 \[3\] needs 12/,
    ],
    ["scalar of eight bytes", withHeader({ a: entry("F32", [], [0, 8]) }, 8), /F32 \[\] needs 4/],
    [
      "overlap",
      withHeader({ a: entry("F32", [2], [0, 8]), b: entry("F32", [2], [4, 12]) }, 12),
      /tensor b begins at byte \d+ and overlaps/,
    ],
    ["hole at the start", withHeader({ a: entry("F32", [1], [4, 8]) }, 8), /tensor a begins at .* no holes/],
    [
      "hole between",
      withHeader({ a: entry("F32", [1], [0, 4]), b: entry("F32", [1], [8, 12]) }, 12),
      /tensor b begins at .* no holes/,
    ],
    [
      "trailing bytes",
      withHeader({ a: entry("F32", [1], [0, 4]) }, 5),
      /the tensors end at byte \d+, the file holds \d+/,
    ],
  ];
  test.each(bad)("%s", async (_, bytes, message) => {
    const error = await open(bytes).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toMatch(/^model\.safetensors: /);
  });

  test("a missing file", async () => {
    await expect(openSafetensors(filesSource([]), "model.safetensors")).rejects.toThrow(
      /holds no model\.safetensors/,
    );
  });
});

test("tensors of any order, padding after the header, no elements, no axes", async () => {
  const data = new Uint8Array(new Float32Array([1, 2, 3]).buffer);
  const header = {
    last: entry("F32", [1], [8, 12]),
    __metadata__: { format: "pt" },
    none: entry("F32", [0, 7], [8, 8]),
    first: entry("F32", [2], [0, 8]),
  };
  const opened = await open(file(`${JSON.stringify(header)}   `, data));
  expect(opened.metadata).toEqual({ format: "pt" });
  expect([...opened.tensors.keys()]).toEqual(["last", "none", "first"]);
  expect([...(await opened.read("first"))]).toEqual([1, 2]);
  expect([...(await opened.read("last"))]).toEqual([3]);
  expect(await opened.read("none")).toHaveLength(0);
  const scalar = await open(file(JSON.stringify({ s: entry("F32", [], [0, 4]) }), data.slice(8)));
  expect([...(await scalar.read("s"))]).toEqual([3]);
});

test("an unsupported or unknown dtype is refused when read, by name", async () => {
  const opened = await open(
    withHeader({ q: entry("F8_E4M3", [4], [0, 4]), z: entry("Q3_X", [9], [4, 7]) }, 7),
  );
  expect(opened.tensors.get("z")?.dtype).toBe("Q3_X");
  await expect(opened.read("q")).rejects.toThrow(
    /^q: dtype F8_E4M3 found in model\.safetensors, F32, F16, BF16 wanted$/,
  );
  await expect(opened.read("z")).rejects.toThrow(TensorError);
  await expect(opened.read("nope")).rejects.toThrow(/holds no tensor nope/);
});

test("integers", async () => {
  const data = new Uint8Array(44);
  new Int32Array(data.buffer, 0, 3).set([-1, 2 ** 31 - 1, -(2 ** 31)]);
  const view = new DataView(data.buffer);
  for (const [i, value] of [-1n, 2n ** 31n - 1n, -(2n ** 31n), 2n ** 31n].entries())
    view.setBigInt64(12 + 8 * i, value, true);
  const header = {
    i: entry("I32", [3], [0, 12]),
    l: entry("I64", [3], [12, 36]),
    big: entry("I64", [1], [36, 44]),
  };
  const opened = await open(file(JSON.stringify(header), data));
  const ints = [-1, 2 ** 31 - 1, -(2 ** 31)];
  expect([...(await opened.readInts("i"))]).toEqual(ints);
  expect([...(await opened.readInts("l"))]).toEqual(ints);
  await expect(opened.readInts("big")).rejects.toThrow(
    /big: element 0 is 2147483648, wanted a 32-bit integer/,
  );
  await expect(opened.read("i")).rejects.toThrow(/dtype I32/);
});

/** The definition, in doubles. */
function slowF16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const mantissa = half & 1023;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

test("all 65,536 F16 values", async () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const opened = await open(
    file(JSON.stringify({ h: entry("F16", [256, 256], [0, 131072]) }), new Uint8Array(halves.buffer)),
  );
  const values = await opened.read("h");
  const wrong = values.findIndex((value, i) => !Object.is(value, slowF16(i)));
  expect(wrong).toBe(-1);
  // A NaN keeps its sign and payload.
  expect(new Uint32Array(fromF16(Uint16Array.of(0xfe01)).buffer)[0]).toBe(0xffc02000);
});

test("all 65,536 BF16 values are the upper halves of F32", () => {
  const bits = new Uint32Array(fromBf16(Uint16Array.from({ length: 65536 }, (_, i) => i)).buffer);
  expect(bits.findIndex((value, i) => value !== i * 65536)).toBe(-1);
  expect([...fromBf16(Uint16Array.of(0x3f80, 0xbfc0, 0x0001, 0x7f80))]).toEqual([
    1,
    -1.5,
    2 ** -133,
    Number.POSITIVE_INFINITY,
  ]);
});
