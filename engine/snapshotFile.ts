// A snapshot as bytes, for a file or a database: "longtape", the version and the header's length as u32, little-endian, a JSON
// header padded with blanks to whole words, then the tensors without holes, in the header's order.

import * as v from "valibot";
import { UsageError } from "./errors.ts";
import { SNAPSHOT_VERSION, type Snapshot } from "./snapshot.ts";
import type { Data } from "./tensor.ts";

const MAGIC = "longtape";
const PREFIX = 16;
/** A lying length must not make us parse gigabytes. */
const HEADER_CAP = 16 * 2 ** 20;

const WHOLE = "a whole number from 0 to 2^53 - 1";
const whole = v.pipe(v.number(WHOLE), v.safeInteger(WHOLE), v.minValue(0, WHOLE));
const Header = v.object(
  {
    architecture: v.string("a string"),
    model: v.string("a string"),
    positions: v.pipe(v.array(whole, "a list of numbers"), v.minLength(1, "at least one stream")),
    drawable: v.array(v.boolean("true or false"), "a list of true and false"),
    tensors: v.array(
      v.object(
        {
          name: v.string("a string"),
          type: v.picklist(["f32", "u32"], "f32 or u32"),
          elements: whole,
        },
        "name, type and elements",
      ),
      "a list of tensors",
    ),
  },
  "a JSON object",
);

const typeOf = (data: Data): "f32" | "u32" => (data instanceof Float32Array ? "f32" : "u32");

/** A snapshot's bytes: the tensors' and a header's. */
export function serialise(snapshot: Snapshot): Uint8Array<ArrayBuffer> {
  const { version, architecture, model, positions, drawable } = snapshot;
  const tensors = [...snapshot.tensors].map(([name, data]) => ({
    name,
    type: typeOf(data),
    elements: data.length,
  }));
  const json = new TextEncoder().encode(
    JSON.stringify({ architecture, model, positions, drawable, tensors }),
  );
  const length = Math.ceil(json.length / 4) * 4;
  const bytes = new Uint8Array(PREFIX + length + snapshot.bytes);
  bytes.set(new TextEncoder().encode(MAGIC));
  const view = new DataView(bytes.buffer);
  view.setUint32(8, version, true);
  view.setUint32(12, length, true);
  bytes.fill(0x20, PREFIX, PREFIX + length);
  bytes.set(json, PREFIX);
  let at = PREFIX + length;
  for (const data of snapshot.tensors.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}

/**
 * The snapshot that `serialise` made these bytes of. Whether it fits a session is `restore`'s to say.
 * Throws UsageError where they are no snapshot, of another version, or cut short.
 */
export function deserialise(bytes: Uint8Array): Snapshot {
  const refuse = (message: string): never => {
    throw new UsageError(`the bytes are no snapshot: ${message}`);
  };
  if (bytes.length < PREFIX) refuse(`found ${bytes.length} bytes, wanted at least ${PREFIX}`);
  const magic = String.fromCharCode(...bytes.subarray(0, MAGIC.length));
  if (magic !== MAGIC) refuse(`they start with ${JSON.stringify(magic)}, wanted "${MAGIC}"`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, PREFIX);
  const version = view.getUint32(8, true);
  if (version !== SNAPSHOT_VERSION)
    throw new UsageError(`the snapshot is of version ${version}, version ${SNAPSHOT_VERSION} is wanted`);
  const length = view.getUint32(12, true);
  if (length > HEADER_CAP) refuse(`the header claims ${length} bytes, wanted at most ${HEADER_CAP}`);
  if (PREFIX + length > bytes.length)
    refuse(`the header claims ${length} bytes, ${bytes.length - PREFIX} follow its length`);
  const { tensors: entries, ...header } = parseHeader(bytes.subarray(PREFIX, PREFIX + length), refuse);
  if (header.drawable.length !== header.positions.length)
    refuse(`drawable has ${header.drawable.length} entries, positions has ${header.positions.length}`);

  const begin = PREFIX + length;
  const claimed = entries.reduce((n, { elements }) => n + 4 * elements, 0);
  if (begin + claimed !== bytes.length)
    refuse(`the tensors claim ${claimed} bytes, ${bytes.length - begin} follow the header`);
  const tensors = new Map<string, Data>();
  let at = begin;
  for (const { name, type, elements } of entries) {
    if (tensors.has(name)) refuse(`tensor ${name} is there twice, wanted once`);
    // a copy whatever they are: a Buffer's own slice is a view
    const { buffer } = new Uint8Array(bytes.subarray(at, at + 4 * elements));
    tensors.set(name, type === "f32" ? new Float32Array(buffer) : new Uint32Array(buffer));
    at += 4 * elements;
  }
  return { version, ...header, tensors, bytes: claimed };
}

function parseHeader(bytes: Uint8Array, refuse: (message: string) => never): v.InferOutput<typeof Header> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    refuse("the header is not JSON in UTF-8");
  }
  const parsed = v.safeParse(Header, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const place = v.getDotPath(issue);
  if (issue.input === undefined) return refuse(`the header lacks ${place}`);
  const found = JSON.stringify(issue.input).slice(0, 60);
  return refuse(`the header${place ? `'s ${place}` : ""} is ${found}, wanted ${issue.message}`);
}
