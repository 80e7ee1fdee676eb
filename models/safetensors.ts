// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes of header length, little-endian, a
// JSON header, then the tensors' bytes without holes. The header is checked whole before any tensor is read, and
// tensors are read one at a time. Typed arrays are used as they lie: every WebGPU platform is little-endian.

import * as v from "valibot";
import { fromF16 } from "../engine/half.ts";
import { CheckpointError, type Source, show } from "./source.ts";

/** A tensor that is absent, or whose shape, dtype or values are not what was wanted. */
export class TensorError extends Error {
  override name = "TensorError";
}

export interface TensorInfo {
  /** As written in the file: "F32", "F16", "BF16" can be read as floats; others are kept as metadata. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Where the bytes lie in the file: [begin, end). */
  readonly begin: number;
  readonly end: number;
}

export interface Safetensors {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  /** An F32, F16 or BF16 tensor, converted exactly. */
  read(name: string): Promise<Float32Array<ArrayBuffer>>;
  /** An I32 or I64 tensor whose values fit 32 bits. */
  readInts(name: string): Promise<Int32Array<ArrayBuffer>>;
}

/** The cap of the format's own reader: a lying length must not make us ask for gigabytes. */
const HEADER_CAP = 100_000_000;

const DTYPE_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
  C64: 8,
};

// A schema's message says what was wanted.
const WHOLE = "a whole number from 0 to 2^53 - 1";
const whole = v.pipe(v.number(WHOLE), v.safeInteger(WHOLE), v.minValue(0, WHOLE));
const HeaderEntry = v.object(
  {
    dtype: v.string("a string"),
    shape: v.array(whole, "a list of sizes"),
    data_offsets: v.strictTuple([whole, whole], "[begin, end]"),
  },
  "dtype, shape and data_offsets",
);
const Metadata = v.nullish(v.record(v.string(), v.string()), {});
type Fail = (message: string, cause?: unknown) => never;

/** `path` names the file in messages. */
export async function openSafetensors(source: Source, path: string): Promise<Safetensors> {
  const fail: Fail = (message, cause) => {
    throw new CheckpointError(`${path}: ${message}`, { cause });
  };
  const size = await source.size(path);
  if (size === null) throw new CheckpointError(`${source.name} holds no ${path}`);
  if (size < 8) fail(`found ${size} bytes, wanted at least the 8 of the header's length`);
  const prefix = await source.read(path, 0, 8);
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > HEADER_CAP) fail(`the header claims ${length} bytes, wanted at most ${HEADER_CAP}`);
  const dataBegin = 8 + Number(length);
  if (dataBegin > size)
    fail(`the header claims ${length} bytes, the file holds ${size - 8} after the length`);

  const header = parseHeader(await source.read(path, 8, dataBegin), fail);
  const { __metadata__, ...entries } = header;
  const metadata = v.safeParse(Metadata, __metadata__);
  if (!metadata.success) fail(`__metadata__ is ${show(__metadata__)}, wanted strings by name`);

  const tensors = new Map<string, TensorInfo>();
  for (const [name, value] of Object.entries(entries)) {
    const parsed = v.safeParse(HeaderEntry, value);
    if (!parsed.success) {
      const issue = parsed.issues[0];
      fail(
        `tensor ${name}: ${v.getDotPath(issue) ?? "entry"} is ${show(issue.input)}, wanted ${issue.message}`,
      );
    }
    const { dtype, shape, data_offsets } = parsed.output;
    const [begin, end] = data_offsets;
    if (begin > end) fail(`tensor ${name}: data_offsets are [${begin}, ${end}], wanted begin <= end`);
    if (dataBegin + end > size)
      fail(`tensor ${name} ends at byte ${dataBegin + end}, the file holds ${size}`);
    const elements = shape.reduce((a, b) => a * b, 1);
    if (!Number.isSafeInteger(elements)) fail(`tensor ${name}: shape [${shape}] is past 2^53 elements`);
    const each = Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype] : undefined;
    if (each !== undefined && end - begin !== elements * each)
      fail(`tensor ${name} holds ${end - begin} bytes, ${dtype} [${shape}] needs ${elements * each}`);
    tensors.set(name, { dtype, shape, begin: dataBegin + begin, end: dataBegin + end });
  }
  checkNoHoles(tensors, dataBegin, size, fail);

  const bytesOf = async (
    name: string,
    supported: readonly string[],
  ): Promise<[TensorInfo, Uint8Array<ArrayBuffer>]> => {
    const info = tensors.get(name);
    if (!info) throw new TensorError(`${path} holds no tensor ${name}`);
    if (!supported.includes(info.dtype))
      throw new TensorError(`${name}: dtype ${info.dtype} found in ${path}, ${supported.join(", ")} wanted`);
    return [info, await source.read(path, info.begin, info.end)];
  };
  return {
    tensors,
    metadata: metadata.output,
    async read(name) {
      const [info, bytes] = await bytesOf(name, ["F32", "F16", "BF16"]);
      if (info.dtype === "F32") return new Float32Array(aligned(bytes, 4));
      const halves = new Uint16Array(aligned(bytes, 2));
      return info.dtype === "F16" ? fromF16(halves) : fromBf16(halves);
    },
    async readInts(name) {
      const [info, bytes] = await bytesOf(name, ["I32", "I64"]);
      const words = new Int32Array(aligned(bytes, 4));
      if (info.dtype === "I32") return words;
      const ints = new Int32Array(words.length / 2);
      for (let i = 0; i < ints.length; i++) {
        ints[i] = words[2 * i]!;
        // The high word must be the low one's sign.
        if (words[2 * i + 1] !== ints[i]! >> 31) {
          const found = new BigInt64Array(aligned(bytes, 8))[i];
          throw new TensorError(`${name}: element ${i} is ${found}, wanted a 32-bit integer`);
        }
      }
      return ints;
    },
  };
}

function parseHeader(bytes: Uint8Array, fail: Fail): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    fail("the header is not JSON in UTF-8", cause);
  }
  // JSON.parse forgives leading blanks, the format does not.
  if (bytes[0] !== 0x7b || typeof header !== "object" || header === null)
    fail(`the header is ${show(header)}, wanted a JSON object that starts with {`);
  return header as Record<string, unknown>;
}

/** The format allows neither overlaps nor holes: the tensors, sorted, tile the data exactly. */
function checkNoHoles(
  tensors: ReadonlyMap<string, TensorInfo>,
  dataBegin: number,
  size: number,
  fail: Fail,
): void {
  const sorted = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let reached = dataBegin;
  for (const [name, { begin, end }] of sorted) {
    if (begin < reached)
      fail(`tensor ${name} begins at byte ${begin} and overlaps another that ends at ${reached}`);
    if (begin > reached) fail(`tensor ${name} begins at byte ${begin}, wanted ${reached}: no holes`);
    reached = end;
  }
  if (reached !== size) fail(`the tensors end at byte ${reached}, the file holds ${size}`);
}

/** The bytes as a buffer of their own, which typed arrays need where they do not start on an element. */
function aligned(bytes: Uint8Array<ArrayBuffer>, each: number): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = bytes;
  if (byteOffset === 0 && byteLength === buffer.byteLength && byteLength % each === 0) return buffer;
  return buffer.slice(byteOffset, byteOffset + byteLength);
}

/** A bf16 is the upper half of an f32. */
export function fromBf16(halves: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
  return new Float32Array(bits.buffer);
}
