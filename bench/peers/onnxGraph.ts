// Our models as ONNX graphs, in ORT's own operators where it has them. Values are [1, T, columns].

import type { AttentionSizes } from "../../models/configs.ts";
import type { CellSizes, CellWeights, Ops, ScanSizes, Stored } from "./forward.ts";
import { type Attribute, encodeModel, type Initializer, type Node, type Value } from "./onnx.ts";
import { type PeerModel, Unsupported } from "./peer.ts";

/** What is carried from run to run, as graphs bind it: `past.NAME` in, `present.NAME` out. */
export interface StateSpec {
  name: string;
  /** Of an empty stream; a cache's axis of slots is `slots`, whatever stands here. */
  dims: readonly number[];
  /** Axis of a cache that grows with the tokens, or is as long as the context from the start; null: of a fixed size. */
  slots: number | null;
}

export interface OnnxGraph {
  bytes: Uint8Array;
  states: readonly StateSpec[];
  /** Whether it takes the positions that attention needs. */
  positions: boolean;
}

export interface GraphOptions {
  /** Tokens of a run; null: as many as it is given. */
  tokens: number | null;
  /** Operators that the place where it runs lacks. */
  lacks: ReadonlySet<string>;
  /** Recurrences in elementwise operators run in `Scan`, over as many tokens as there are, not unrolled. */
  scans: boolean;
}

/** Thrown where an operation has no form for a number of tokens that is not known: the graph is then cut into steps. */
export class TokensWanted extends Error {
  override name = "TokensWanted";
}

/** Inputs `ids` i32 [1, T]; outputs `logits` f32 [1, 1, V], `id` i64 [1, 1]. Throws TokensWanted, Unsupported. */
export function exportGraph(model: PeerModel, options: GraphOptions): OnnxGraph {
  const graph = new GraphOps(model, options);
  const logits = model.forward<string>(graph);
  return graph.finish(logits);
}

class GraphOps implements Ops<string> {
  readonly #model: PeerModel;
  readonly #tokens: number | null;
  readonly #lacks: ReadonlySet<string>;
  readonly #scans: boolean;
  readonly #nodes: Node[] = [];
  readonly #initializers = new Map<string, Initializer>();
  readonly #states: StateSpec[] = [];
  readonly #inputs: Value[] = [];
  readonly #outputs: Value[] = [];
  #positions = false;
  #count = 0;

  constructor(model: PeerModel, { tokens, lacks, scans }: GraphOptions) {
    this.#model = model;
    this.#tokens = tokens;
    this.#lacks = lacks;
    this.#scans = scans && tokens === null;
    this.#inputs.push({ name: "ids", type: "i32", dims: [1, tokens ?? "T"] });
  }

  finish(logits: string): OnnxGraph {
    this.#node("Identity", [logits], {}, ["logits"]);
    this.#node("ArgMax", [logits], { axis: -1, keepdims: 0 }, ["id"]);
    const { vocabulary: V } = this.#model;
    const bytes = encodeModel({
      nodes: this.#nodes,
      initializers: [...this.#initializers.values()],
      inputs: this.#inputs,
      outputs: [
        { name: "logits", type: "f32", dims: [1, 1, V] },
        { name: "id", type: "i64", dims: [1, 1] },
        ...this.#outputs,
      ],
    });
    return { bytes, states: this.#states, positions: this.#positions };
  }

  embedding(table: Stored) {
    return this.#node("Gather", [this.#weight(table), "ids"]);
  }

  linear(x: string, w: Stored, bias?: Stored) {
    // [in, out]
    const product = this.#node("MatMul", [x, this.#weight(w, transposed)]);
    return bias ? this.#node("Add", [product, this.#weight(bias)]) : product;
  }

  rmsNorm(x: string, columns: number, eps: number, weight?: Stored, groups = 1) {
    const scale = weight
      ? this.#weight(weight)
      : this.#constant(`ones.${columns}`, [columns], () => ones(columns));
    const norm = (of: string) =>
      this.#node("SimplifiedLayerNormalization", [of, scale], { axis: -1, epsilon: { f: eps } });
    if (groups > 1) {
      const parts = this.#reshape(x, [0, 0, groups, columns]);
      return this.#reshape(norm(parts), [0, 0, groups * columns]);
    }
    return this.#skipNorm(x, scale, eps) ?? norm(x);
  }

  add = (a: string, b: string) => this.#node("Add", [a, b]);
  multiply = (a: string, b: string) => this.#node("Mul", [a, b]);
  silu = (x: string) => this.#microsoft("QuickGelu", [x], { alpha: { f: 1 } })[0]!;

  softplus(x: string): string {
    if (!this.#lacks.has("Softplus")) return this.#node("Softplus", [x]);
    const small = this.#node("Exp", [this.#node("Neg", [this.#node("Abs", [x])])]);
    const log = this.#node("Log", [this.#node("Add", [small, this.#number(1)])]);
    return this.#node("Add", [this.#node("Relu", [x]), log]);
  }

  logDecay(x: string, tau: number) {
    return this.#node("Mul", [this.softplus(this.#node("Neg", [x])), this.#number(-1 / tau)]);
  }

  split(x: string, columns: readonly number[]) {
    return this.#split(x, columns, -1);
  }

  last(x: string) {
    if (this.#tokens === 1) return x;
    const [from, to, axis] = [-1, LAST, 1].map((n) => this.#integers([n]));
    return this.#node("Slice", [x, from!, to!, axis!]);
  }

  attention(at: string, q: string, k: string, v: string, c: AttentionSizes) {
    const { heads: H, kvHeads: K, headDim: D, pattern, ropeTheta } = c;
    if (D % 16 !== 0)
      throw new Unsupported(`GroupQueryAttention wants heads of a multiple of 16, found ${D}`);
    if (!this.#positions) {
      this.#positions = true;
      this.#inputs.push(
        { name: "seqlens_k", type: "i32", dims: [1] },
        { name: "total_sequence_length", type: "i32", dims: [1] },
      );
    }
    const cache = (name: string) => this.#state(`${at}.${name}`, [1, K, 0, D], 2);
    const [key, value] = [cache("key"), cache("value")];
    const turned = ropeTheta !== null;
    const table = (name: string, of: (angle: number) => number) =>
      turned ? this.#rotation(name, D, ropeTheta, of) : "";
    const [o] = this.#microsoft(
      "GroupQueryAttention",
      [
        ...[q, k, v, key.past, value.past, "seqlens_k", "total_sequence_length"],
        ...(turned ? [table("cos", Math.cos), table("sin", Math.sin)] : []),
      ],
      {
        num_heads: H,
        kv_num_heads: K,
        scale: { f: D ** -0.5 },
        do_rotary: turned ? 1 : 0,
        local_window_size: pattern.kind === "window" ? pattern.window : -1,
      },
      [this.#name("GroupQueryAttention"), key.present, value.present],
    );
    return o!;
  }

  recurrent(at: string, x: string, w: CellWeights, { cell, hidden: H, inputs: I }: CellSizes) {
    const op = { rnn: "RNN", gru: "GRU", lstm: "LSTM" }[cell];
    const h = this.#state(`${at}.h`, [1, 1, H]);
    if (this.#lacks.has(op)) {
      if (cell !== "rnn") throw new Error(`${op} is written with ORT's operator only`);
      return this.#elman(x, w, h);
    }
    // ONNX's order of PyTorch's gates
    const order = { rnn: [0], gru: [1, 0, 2], lstm: [0, 3, 1, 2] }[cell];
    const gates = (data: Float32Array) => {
      const size = data.length / order.length;
      const out = new Float32Array(data.length);
      order.forEach((from, to) => {
        out.set(data.subarray(from * size, (from + 1) * size), to * size);
      });
      return out;
    };
    const G = order.length;
    const matrix = (stored: Stored, columns: number) =>
      this.#constant(`${stored.name} for ${op}`, [1, G * H, columns], () => gates(this.#data(stored)));
    const bias = this.#constant(`${at}.bias for ${op}`, [1, 2 * G * H], () =>
      Float32Array.from([...gates(this.#data(w.inputBias)), ...gates(this.#data(w.hiddenBias))]),
    );
    const c = cell === "lstm" ? this.#state(`${at}.c`, [1, 1, H]) : null;
    const attributes = { hidden_size: H, ...(cell === "gru" ? { linear_before_reset: 1 } : {}) };
    // [T, 1, I]
    const rows = this.#reshape(x, [-1, 1, I]);
    const y = this.#name(op);
    this.#nodes.push({
      op,
      domain: "",
      inputs: [rows, matrix(w.input, I), matrix(w.hidden, H), bias, "", h.past, ...(c ? [c.past] : [])],
      outputs: [y, h.present, ...(c ? [c.present] : [])],
      attributes,
    });
    return this.#reshape(y, [1, -1, H]);
  }

  /** Token by token, the input product of all at once. */
  #elman(x: string, w: CellWeights, h: { past: string; present: string }): string {
    const inputs = this.linear(x, w.input, w.inputBias);
    let state = h.past;
    const states = this.#each(inputs).map((input) => {
      const carried = this.linear(state, w.hidden, w.hiddenBias);
      state = this.#node("Tanh", [this.#node("Add", [input, carried])]);
      return state;
    });
    this.#node("Identity", [state], {}, [h.present]);
    return this.#joined(states);
  }

  linearAttention(
    at: string,
    q: string,
    k: string,
    v: string,
    logDecay: string | null,
    c: Parameters<Ops<string>["linearAttention"]>[5],
  ) {
    const { heads: H, kvHeads: K, keyDim: Dk, valueDim: Dv } = c;
    const feature = (x: string) =>
      c.featureMap === "elu"
        ? this.#node("Add", [this.#node("Elu", [x]), this.#number(1)])
        : c.featureMap === "relu"
          ? this.#node("Relu", [x])
          : x;
    const [queries, keys] = [feature(q), feature(k)];
    const attend = (values: string, name: string, columns: number) => {
      const state = this.#state(`${at}.${name}`, [1, K, Dk, columns]);
      const [o] = this.#microsoft(
        "LinearAttention",
        [queries, keys, values, state.past, ...(logDecay ? [logDecay] : [])],
        {
          q_num_heads: H,
          kv_num_heads: K,
          update_rule: logDecay ? "gated" : "linear",
          scale: { f: Dk ** -0.5 },
        },
        [this.#name("LinearAttention"), state.present],
      );
      return o!;
    };
    const o = attend(v, "S", Dv);
    if (!c.normalized) return o;
    // the sum of keys is the state of values that are all 1
    const sums = this.#reshape(attend(this.#ones(K, keys, K * Dk), "z", 1), [0, 0, H, 1]);
    const denominator = this.#node("Add", [sums, this.#number(1e-10)]);
    return this.#reshape(this.#node("Div", [this.#reshape(o, [0, 0, H, Dv]), denominator]), [0, 0, H * Dv]);
  }

  causalConv(at: string, x: string, weight: Stored, bias: Stored | null, channels: number, columns: number) {
    const past = this.#state(`${at}.past`, [1, columns - 1, channels]);
    const [y] = this.#microsoft(
      "CausalConvWithState",
      [x, this.#weight(weight), bias ? this.#weight(bias) : "", past.past],
      { activation: "silu", channels_last: 1 },
      [this.#name("CausalConvWithState"), past.present],
    );
    return y!;
  }

  selectiveScan(
    at: string,
    { u, dt, b, c }: Record<"u" | "dt" | "b" | "c", string>,
    aLog: Stored,
    d: Stored,
    { inner: E, state: N }: ScanSizes,
  ) {
    const a = this.#weight(aLog, (data) => ({ data: data.map((x) => -Math.exp(x)), dims: [E, N] }));
    const [column, row] = [
      [0, 0, E, 1],
      [0, 0, 1, N],
    ];
    // of all tokens at once: [1, T, E, N]
    const decays = this.#node("Exp", [this.#node("Mul", [this.#reshape(dt, column!), a])]);
    const step = this.#reshape(this.#node("Mul", [dt, u]), column!);
    const inputs = this.#node("Mul", [step, this.#reshape(b, row!)]);
    const h = this.#state(`${at}.h`, [1, 1, E, N]);
    const states = this.#scans
      ? this.#scanned(decays, inputs, h, [1, E, N])
      : this.#decayed(decays, inputs, h);
    const product = this.#node("MatMul", [states, this.#reshape(c, [0, 0, N, 1])]);
    const skipped = this.#node("Mul", [u, this.#weight(d)]);
    return this.#node("Add", [this.#reshape(product, [0, 0, E]), skipped]);
  }

  /** The states after each token, token by token. */
  #decayed(decays: string, inputs: string, h: { past: string; present: string }): string {
    const decay = this.#each(decays);
    let state = h.past;
    const states = this.#each(inputs).map((input, t) => {
      state = this.#node("Add", [this.#node("Mul", [decay[t]!, state]), input]);
      return state;
    });
    this.#node("Identity", [state], {}, [h.present]);
    return this.#joined(states);
  }

  /** The same by ONNX's operator for loops over an axis. */
  #scanned(
    decays: string,
    inputs: string,
    h: { past: string; present: string },
    dims: readonly number[],
  ): string {
    const value = (name: string): Value => ({ name, type: "f32", dims });
    const node = (op: string, inputs: string[], output: string): Node => ({
      op,
      domain: "",
      inputs,
      outputs: [output],
      attributes: {},
    });
    const body = {
      nodes: [
        node("Mul", ["decay", "before"], "kept"),
        node("Add", ["kept", "input"], "after"),
        node("Identity", ["after"], "state"),
      ],
      initializers: [],
      inputs: ["before", "decay", "input"].map(value),
      outputs: ["after", "state"].map(value),
    };
    const [last, states] = [this.#name("Scan"), this.#name("Scan")];
    this.#nodes.push({
      op: "Scan",
      domain: "",
      inputs: [this.#reshape(h.past, dims), decays, inputs],
      outputs: [last, states],
      attributes: {
        body: { graph: body },
        num_scan_inputs: 2,
        scan_input_axes: { ints: [1, 1] },
        scan_output_axes: { ints: [1] },
      },
    });
    this.#nodes.push(node("Reshape", [last, this.#integers([1, ...dims])], h.present));
    return states;
  }

  /** Tokens one by one. */
  #each(x: string): string[] {
    if (this.#tokens === null) throw new TokensWanted("a recurrence in elementwise operators");
    return this.#tokens === 1 ? [x] : this.#split(x, new Array<number>(this.#tokens).fill(1), 1);
  }

  #joined(parts: readonly string[]): string {
    return parts.length === 1 ? parts[0]! : this.#node("Concat", parts, { axis: 1 });
  }

  #split(x: string, sizes: readonly number[], axis: number): string[] {
    const outputs = sizes.map(() => this.#name("Split"));
    this.#nodes.push({
      op: "Split",
      domain: "",
      inputs: [x, this.#integers(sizes)],
      outputs,
      attributes: { axis },
    });
    return outputs;
  }

  #reshape(x: string, dims: readonly number[]): string {
    return this.#node("Reshape", [x, this.#integers(dims)]);
  }

  /** f32 [1, T, columns], as many rows as x has: of its own columns, since shapes are computed on the CPU. */
  #ones(columns: number, x: string, all: number): string {
    if (this.#tokens !== null) {
      const tokens = this.#tokens;
      return this.#constant(`ones.${tokens}.${columns}`, [1, tokens, columns], () => ones(tokens * columns));
    }
    const some = all > columns ? this.#split(x, [columns, all - columns], -1)[0]! : x;
    return this.#node("Add", [this.#node("Mul", [some, this.#number(0)]), this.#number(1)]);
  }

  /** A norm of a sum takes the sum in. */
  #skipNorm(x: string, scale: string, eps: number): string | null {
    const at = this.#nodes.findLastIndex(({ op, outputs }) => op === "Add" && outputs[0] === x);
    if (at < 0) return null;
    const normed = this.#name("SkipSimplifiedLayerNormalization");
    this.#nodes[at] = {
      op: "SkipSimplifiedLayerNormalization",
      domain: "com.microsoft",
      inputs: [...this.#nodes[at]!.inputs, scale],
      outputs: [normed, "", "", x],
      attributes: { epsilon: { f: eps } },
    };
    return normed;
  }

  /** f32 [context, D / 2], as transformers turns halves. */
  #rotation(name: string, D: number, theta: number, of: (angle: number) => number): string {
    const half = D / 2;
    const { context } = this.#model;
    return this.#constant(`rotary.${name}.${D}.${theta}`, [context, half], () =>
      Float32Array.from({ length: context * half }, (_, i) =>
        of(Math.floor(i / half) * theta ** ((-2 * (i % half)) / D)),
      ),
    );
  }

  #state(name: string, dims: readonly number[], slots: number | null = null) {
    const bound = (side: string) => dims.map((d, axis) => (axis === slots ? `${side}_slots` : d));
    this.#states.push({ name, dims, slots });
    const [past, present] = [`past.${name}`, `present.${name}`];
    this.#inputs.push({ name: past, type: "f32", dims: bound("past") });
    this.#outputs.push({ name: present, type: "f32", dims: bound("present") });
    return { past, present };
  }

  #data({ name }: Stored): Float32Array {
    return this.#model.weights.get(name)!;
  }

  #weight(
    stored: Stored,
    made: (data: Float32Array, dims: readonly number[]) => Pick<Initializer, "data" | "dims"> = (
      data,
      dims,
    ) => ({
      data,
      dims,
    }),
  ): string {
    // the embedding may be the head, in another order
    const name = made === transposed ? `${stored.name} transposed` : stored.name;
    if (!this.#initializers.has(name))
      this.#initializers.set(name, { name, ...made(this.#data(stored), stored.shape) });
    return name;
  }

  #constant(name: string, dims: readonly number[], data: () => Float32Array): string {
    if (!this.#initializers.has(name)) this.#initializers.set(name, { name, dims, data: data() });
    return name;
  }

  #number(x: number): string {
    return this.#constant(`number.${x}`, [1], () => Float32Array.of(x));
  }

  #integers(list: readonly number[]): string {
    const name = `integers.${list.join(".")}`;
    if (!this.#initializers.has(name))
      this.#initializers.set(name, {
        name,
        dims: [list.length],
        data: BigInt64Array.from(list, BigInt),
      });
    return name;
  }

  #name(op: string): string {
    return `${op}.${this.#count++}`;
  }

  #node(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    outputs: readonly string[] = [this.#name(op)],
  ): string {
    this.#nodes.push({ op, domain: "", inputs, outputs, attributes });
    return outputs[0]!;
  }

  #microsoft(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>>,
    outputs: readonly string[] = [this.#name(op)],
  ): readonly string[] {
    this.#nodes.push({ op, domain: "com.microsoft", inputs, outputs, attributes });
    return outputs;
  }
}

/** As far as a slice goes. */
const LAST = 2 ** 31 - 1;

const ones = (length: number) => new Float32Array(length).fill(1);

/** [out, in] to [in, out]. */
function transposed(data: Float32Array, [rows, columns]: readonly number[]) {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows!; r++)
    for (let c = 0; c < columns!; c++) out[c * rows! + r] = data[r * columns! + c]!;
  return { data: out, dims: [columns!, rows!] };
}
