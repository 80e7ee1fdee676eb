// Writes ONNX models: the messages of the ONNX specification (onnx.proto3, IR version 10) that a graph of ours needs.

import protobuf from "protobufjs/light.js";

/** By number of the field. */
const field = (id: number, type: string, repeated = false) => ({
  id,
  type,
  ...(repeated ? { rule: "repeated" } : {}),
});

const messages = {
  ModelProto: {
    irVersion: field(1, "int64"),
    producerName: field(2, "string"),
    graph: field(7, "GraphProto"),
    opsetImport: field(8, "OperatorSetIdProto", true),
  },
  OperatorSetIdProto: { domain: field(1, "string"), version: field(2, "int64") },
  GraphProto: {
    node: field(1, "NodeProto", true),
    name: field(2, "string"),
    initializer: field(5, "TensorProto", true),
    input: field(11, "ValueInfoProto", true),
    output: field(12, "ValueInfoProto", true),
  },
  NodeProto: {
    input: field(1, "string", true),
    output: field(2, "string", true),
    name: field(3, "string"),
    opType: field(4, "string"),
    attribute: field(5, "AttributeProto", true),
    domain: field(7, "string"),
  },
  AttributeProto: {
    name: field(1, "string"),
    f: field(2, "float"),
    i: field(3, "int64"),
    s: field(4, "bytes"),
    g: field(6, "GraphProto"),
    ints: field(8, "int64", true),
    type: field(20, "int32"),
  },
  TensorProto: {
    dims: field(1, "int64", true),
    dataType: field(2, "int32"),
    name: field(8, "string"),
    rawData: field(9, "bytes"),
  },
  ValueInfoProto: { name: field(1, "string"), type: field(2, "TypeProto") },
  TypeProto: { tensorType: field(1, "TensorTypeProto") },
  TensorTypeProto: { elemType: field(1, "int32"), shape: field(2, "TensorShapeProto") },
  TensorShapeProto: { dim: field(1, "DimensionProto", true) },
  DimensionProto: { dimValue: field(1, "int64"), dimParam: field(2, "string") },
};

const root = protobuf.Root.fromJSON({
  nested: {
    onnx: {
      nested: Object.fromEntries(Object.entries(messages).map(([name, fields]) => [name, { fields }])),
    },
  },
});
const ModelProto = root.lookupType("onnx.ModelProto");

/** TensorProto.DataType. */
const elementTypes = { f32: 1, i32: 6, i64: 7 } as const;
export type ElementType = keyof typeof elementTypes;

export interface Initializer {
  name: string;
  dims: readonly number[];
  data: Float32Array | Int32Array | BigInt64Array;
}

/** A number that is whole is an integer attribute; { f } is a float one. */
export type Attribute = number | string | { f: number } | { ints: readonly number[] } | { graph: Graph };

export interface Node {
  op: string;
  /** "" is ONNX's own; ORT's is com.microsoft. */
  domain: string;
  /** "" leaves an optional one out. */
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Readonly<Record<string, Attribute>>;
}

export interface Value {
  name: string;
  type: ElementType;
  /** A word is a size that is known when it runs. */
  dims: readonly (number | string)[];
}

export interface Graph {
  nodes: readonly Node[];
  initializers: readonly Initializer[];
  inputs: readonly Value[];
  outputs: readonly Value[];
}

const OPSET = 21;
const IR_VERSION = 10;

/** A model's file. */
export function encodeModel(graph: Graph): Uint8Array {
  return ModelProto.encode({
    irVersion: IR_VERSION,
    producerName: "longtape",
    opsetImport: [
      { domain: "", version: OPSET },
      { domain: "com.microsoft", version: 1 },
    ],
    graph: graphProto(graph),
  }).finish();
}

function graphProto({ nodes, initializers, inputs, outputs }: Graph) {
  const value = ({ name, type, dims }: Value) => ({
    name,
    type: {
      tensorType: {
        elemType: elementTypes[type],
        shape: { dim: dims.map((d) => (typeof d === "number" ? { dimValue: d } : { dimParam: d })) },
      },
    },
  });
  return {
    name: "longtape",
    node: nodes.map(({ op, domain, inputs, outputs, attributes }, i) => ({
      input: inputs,
      output: outputs,
      name: `${op}_${i}`,
      opType: op,
      domain,
      attribute: Object.entries(attributes).map(([name, x]) => attributeProto(name, x)),
    })),
    initializer: initializers.map(({ name, dims, data }) => ({
      dims,
      dataType:
        elementTypes[data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "i64"],
      name,
      rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    })),
    input: inputs.map(value),
    output: outputs.map(value),
  };
}

/** AttributeProto.AttributeType: 1 float, 2 integer, 3 string, 5 graph, 7 integers. */
function attributeProto(name: string, x: Attribute): object {
  if (typeof x === "number") return { name, i: x, type: 2 };
  if (typeof x === "string") return { name, s: new TextEncoder().encode(x), type: 3 };
  if ("graph" in x) return { name, g: graphProto(x.graph), type: 5 };
  if ("ints" in x) return { name, ints: x.ints, type: 7 };
  return { name, f: x.f, type: 1 };
}
