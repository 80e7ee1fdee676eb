// TensorFlow.js on its WebGPU backend: our models as its eager operations. States are tensors that are never changed, so a
// mark is a reference.

import * as tf from "@tensorflow/tfjs";
import { memo } from "../../engine/memo.ts";
import type { AttentionSizes } from "../../models/configs.ts";
import type { CellSizes, CellWeights, Ops, ScanSizes, Stored } from "./forward.ts";
import type { Opened } from "./index.ts";
import type { Peer, PeerModel, Saved } from "./peer.ts";

type States = ReadonlyMap<string, tf.Tensor>;

/** `cpu`: its reference, for tests without a browser. Throws where there is no such backend. */
export async function openTfjs(backend: "webgpu" | "cpu"): Promise<Opened> {
  if (backend === "webgpu") {
    await import("@tensorflow/tfjs-backend-webgpu");
    // small tensors would be computed on the CPU, unseen
    tf.env().set("WEBGPU_CPU_FORWARD", false);
  }
  if (!(await tf.setBackend(backend))) throw new Error(`TensorFlow.js has no backend ${backend} here`);
  await tf.ready();
  return { peer: new Tfjs(backend), version: tf.version.tfjs };
}

class Tfjs implements Peer {
  readonly settings: string;
  readonly device: GPUDevice | null;
  #model: PeerModel | null = null;
  #weights = new Map<string, tf.Tensor>();
  #states: States = new Map();
  #marked: { states: States; id: tf.Tensor | null; logits: tf.Tensor | null; position: number } | null = null;
  /** After the last token. */
  #logits: tf.Tensor | null = null;
  #id: tf.Tensor | null = null;
  #position = 0;

  constructor(backend: "webgpu" | "cpu") {
    const gpu = backend === "webgpu";
    this.device = gpu ? (tf.backend() as unknown as { device: GPUDevice }).device : null;
    const batch = gpu && tf.env().getNumber("WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE");
    this.settings = gpu
      ? `backend webgpu, WEBGPU_CPU_FORWARD off, ${batch} operations a submit`
      : `backend ${backend}`;
  }

  async load(model: PeerModel): Promise<void> {
    // refused before anything is allocated
    this.#model = model;
    this.#run([0]);
    await this.#id!.data();
    await this.reset();
  }

  async reset(): Promise<void> {
    this.#replace(new Map(), null, null);
    this.#unmark();
    this.#position = 0;
  }

  mark(): void {
    this.#unmark();
    this.#marked = {
      states: this.#states,
      id: this.#id,
      logits: this.#logits,
      position: this.#position,
    };
  }

  rollback(): void {
    const { states, id, logits, position } = this.#marked ?? EMPTY;
    this.#replace(states, id, logits);
    this.#position = position;
  }

  async save(): Promise<Saved | null> {
    if (!this.#id) return null;
    const states: [string, { data: Float32Array; dims: number[] }][] = [];
    for (const [name, tensor] of this.#states)
      states.push([name, { data: Float32Array.from(await tensor.data()), dims: tensor.shape }]);
    const [id] = await this.#id.data();
    return { states: new Map(states), id: id!, position: this.#position };
  }

  async restore({ states, id, position }: Saved): Promise<void> {
    await this.reset();
    const made = [...states].map(
      ([name, { data, dims }]) => [name, tf.keep(tf.tensor(data, [...dims]))] as const,
    );
    // the logits of then are nobody's question
    this.#replace(new Map(made), tf.keep(tf.tensor1d([id], "int32")), null);
    this.#position = position;
  }

  async prefill(ids: readonly number[]): Promise<void> {
    this.#run(ids);
    await this.#id!.data();
  }

  async step(): Promise<number> {
    const id = tf.keep(this.#id!.clone());
    // the next is under way while the id comes back
    this.#run(id);
    const [found] = await id.data();
    id.dispose();
    return found!;
  }

  async logits(): Promise<Float32Array> {
    return (await this.#logits!.data()) as Float32Array;
  }

  memory(): number {
    return tf.memory().numBytes;
  }

  fallbacks(): string[] {
    return [];
  }

  remarks(): string[] {
    return [];
  }

  async dispose(): Promise<void> {
    await this.reset();
    for (const weight of this.#weights.values()) weight.dispose();
    this.#weights = new Map();
  }

  #run(ids: readonly number[] | tf.Tensor): void {
    const { forward, weights } = this.#model!;
    const weight: Weight = ({ name, shape }, made = (stored) => stored) => {
      let found = this.#weights.get(name);
      if (!found) {
        found = tf.keep(made(tf.tensor(weights.get(name)!, [...shape])));
        this.#weights.set(name, found);
      }
      return found;
    };
    const { logits, id, states } = tf.tidy(() => {
      const tokens = ids instanceof tf.Tensor ? (ids as tf.Tensor1D) : tf.tensor1d([...ids], "int32");
      const calls = new Calls(weight, this.#states, tokens, this.#position);
      const logits = forward<tf.Tensor>(calls);
      return { logits, id: tf.argMax(logits, -1), states: Object.fromEntries(calls.after) };
    });
    this.#position += ids instanceof tf.Tensor ? 1 : ids.length;
    for (const tensor of [logits, id, ...Object.values(states)]) tf.keep(tensor);
    this.#replace(new Map(Object.entries(states)), id, logits);
  }

  #replace(states: States, id: tf.Tensor | null, logits: tf.Tensor | null): void {
    const stay = new Set<tf.Tensor | null>([...states.values(), id, logits]);
    if (this.#marked)
      for (const kept of [...this.#marked.states.values(), this.#marked.id, this.#marked.logits])
        stay.add(kept);
    for (const old of [...this.#states.values(), this.#id, this.#logits]) if (!stay.has(old)) old?.dispose();
    this.#states = states;
    this.#id = id;
    this.#logits = logits;
  }

  #unmark(): void {
    const marked = this.#marked;
    this.#marked = null;
    if (!marked) return;
    const used = new Set<tf.Tensor | null>([...this.#states.values(), this.#id, this.#logits]);
    for (const old of [...marked.states.values(), marked.id, marked.logits])
      if (!used.has(old)) old?.dispose();
  }
}

/** A weight on the device; as `made` makes it, where it is always used in another form. */
type Weight = (stored: Stored, made?: (stored: tf.Tensor) => tf.Tensor) => tf.Tensor;

const EMPTY = { states: new Map<string, tf.Tensor>(), id: null, logits: null, position: 0 };

/** One run: from the states before to those after. */
class Calls implements Ops<tf.Tensor> {
  readonly after = new Map<string, tf.Tensor>();
  readonly #weight: Weight;
  readonly #before: States;
  readonly #tokens: tf.Tensor1D;
  readonly #T: number;
  readonly #rotations = new Map<string, Record<"cos" | "sin", tf.Tensor>>();
  /** Of the first token. */
  readonly #position: number;

  constructor(weight: (stored: Stored) => tf.Tensor, before: States, tokens: tf.Tensor1D, position: number) {
    this.#weight = weight;
    this.#before = before;
    this.#tokens = tokens;
    this.#T = tokens.shape[0];
    this.#position = position;
  }

  embedding(table: Stored) {
    return tf.gather(this.#weight(table), this.#tokens);
  }

  linear(x: tf.Tensor, w: Stored, bias?: Stored) {
    const b = this.#weight(w) as tf.Tensor2D;
    const a = x as tf.Tensor2D;
    if (!bias) return tf.matMul(a, b, false, true);
    return tf.fused.matMul({ a, b, transposeB: true, bias: this.#weight(bias) });
  }

  rmsNorm(x: tf.Tensor, columns: number, eps: number, weight?: Stored, groups = 1) {
    const parts = groups === 1 ? x : x.reshape([this.#rows(x), groups, columns]);
    const scaled = parts.mul(parts.square().mean(-1, true).add(eps).rsqrt());
    const normed = weight ? scaled.mul(this.#weight(weight)) : scaled;
    return groups === 1 ? normed : normed.reshape(x.shape);
  }

  add = (a: tf.Tensor, b: tf.Tensor) => a.add(b);
  multiply = (a: tf.Tensor, b: tf.Tensor) => a.mul(b);
  silu = (x: tf.Tensor) => x.mul(x.sigmoid());
  softplus = (x: tf.Tensor) => x.softplus();
  logDecay = (x: tf.Tensor, tau: number) => x.logSigmoid().div(tau);

  split(x: tf.Tensor, columns: readonly number[]) {
    return tf.split(x, [...columns], -1);
  }

  last(x: tf.Tensor) {
    const rows = this.#rows(x);
    return rows === 1 ? x : x.slice([rows - 1, 0], [1, -1]);
  }

  attention(at: string, q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, c: AttentionSizes) {
    const { heads: H, kvHeads: K, headDim: D } = c;
    const [T, G] = [this.#T, H / K];
    const window = c.pattern.kind === "window" ? c.pattern.window : Number.POSITIVE_INFINITY;
    // [heads, T, D]
    const byHead = (x: tf.Tensor, heads: number) => x.reshape([T, heads, D]).transpose([1, 0, 2]);
    const turned = (x: tf.Tensor) => (c.ropeTheta === null ? x : this.#turn(x, D, c.ropeTheta));
    const keys = this.#grown(`${at}.k`, turned(byHead(k, K)), window);
    const values = this.#grown(`${at}.v`, byHead(v, K), window);
    const N = keys.shape[1]!;
    const queries = turned(byHead(q, H)).reshape([K, G * T, D]);
    let scores = tf.matMul(queries, keys, false, true).mul(D ** -0.5);
    if (T > 1)
      scores = scores
        .reshape([H, T, N])
        .add(this.#mask(N, window))
        .reshape([K, G * T, N]);
    const o = tf.matMul(tf.softmax(scores), values).reshape([H, T, D]);
    return o.transpose([1, 0, 2]).reshape([T, H * D]);
  }

  recurrent(at: string, x: tf.Tensor, w: CellWeights, { cell, hidden: H }: CellSizes) {
    // of all tokens at once
    const inputs = this.linear(x, w.input, w.inputBias);
    let h = this.#state(`${at}.h`, [1, H]);
    let c = cell === "lstm" ? this.#state(`${at}.c`, [1, H]) : null;
    const out: tf.Tensor[] = [];
    for (let t = 0; t < this.#T; t++) {
      const input = this.#T === 1 ? inputs : inputs.slice([t, 0], [1, -1]);
      const carried = this.linear(h, w.hidden, w.hiddenBias);
      if (cell === "rnn") h = input.add(carried).tanh();
      else if (cell === "gru") {
        const [rz, n] = tf.split(input, [2 * H, H], 1) as [tf.Tensor, tf.Tensor];
        const [rzCarried, nCarried] = tf.split(carried, [2 * H, H], 1) as [tf.Tensor, tf.Tensor];
        const [r, z] = tf.split(rz.add(rzCarried).sigmoid(), 2, 1) as [tf.Tensor, tf.Tensor];
        const candidate = n.add(r.mul(nCarried)).tanh();
        h = candidate.add(z.mul(h.sub(candidate)));
      } else {
        const [i, f, g, o] = tf.split(input.add(carried), 4, 1) as tf.Tensor[];
        c = f!.sigmoid().mul(c!).add(i!.sigmoid().mul(g!.tanh()));
        h = o!.sigmoid().mul(c.tanh());
      }
      out.push(h);
    }
    this.after.set(`${at}.h`, h);
    if (c) this.after.set(`${at}.c`, c);
    return out.length === 1 ? h.clone() : tf.concat(out, 0);
  }

  linearAttention(
    at: string,
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    logDecay: tf.Tensor | null,
    c: Parameters<Ops<tf.Tensor>["linearAttention"]>[5],
  ) {
    const { heads: H, kvHeads: K, keyDim: Dk, valueDim: Dv } = c;
    const [T, G] = [this.#T, H / K];
    const feature = (x: tf.Tensor) =>
      c.featureMap === "elu" ? x.elu().add(1) : c.featureMap === "relu" ? x.relu() : x;
    const byHead = (x: tf.Tensor, heads: number, D: number) => x.reshape([T, heads, D]).transpose([1, 0, 2]);
    const queries = feature(byHead(q, H, Dk))
      .mul(Dk ** -0.5)
      .reshape([K, G * T, Dk]);
    const keys = feature(byHead(k, K, Dk));
    const values = byHead(v, K, Dv);
    const decays = logDecay && byHead(logDecay, K, Dk).exp();
    const state = this.#state(`${at}.S`, [K, Dk, Dv]);
    const o = decays
      ? this.#decayed(at, state, { queries: queries.reshape([K, G, T, Dk]), keys, values, decays })
      : this.#summed(at, state, { queries, keys, values }, c);
    return o
      .reshape([H, T, Dv])
      .transpose([1, 0, 2])
      .reshape([T, H * Dv]);
  }

  /** All tokens at once: what came before by the state, each other by masked products. */
  #summed(
    at: string,
    state: tf.Tensor,
    { queries, keys, values }: Record<"queries" | "keys" | "values", tf.Tensor>,
    { heads: H, kvHeads: K, keyDim: Dk, normalized }: Parameters<Ops<tf.Tensor>["linearAttention"]>[5],
  ) {
    const [T, G] = [this.#T, H / K];
    const sum = normalized ? this.#state(`${at}.z`, [K, Dk, 1]) : null;
    this.after.set(`${at}.S`, state.add(tf.matMul(keys, values, true, false)));
    if (sum) this.after.set(`${at}.z`, sum.add(keys.sum(1, false).expandDims(-1)));
    const scores = this.#causal(tf.matMul(queries, keys, false, true).reshape([H, T, T])).reshape([
      K,
      G * T,
      T,
    ]);
    const o = tf.matMul(queries, state).add(tf.matMul(scores, values));
    if (!sum) return o;
    return o.div(tf.matMul(queries, sum).add(scores.sum(-1, true)).add(1e-10));
  }

  /** Token by token. */
  #decayed(
    at: string,
    before: tf.Tensor,
    { queries, keys, values, decays }: Record<"queries" | "keys" | "values" | "decays", tf.Tensor>,
  ) {
    let state = before;
    const out: tf.Tensor[] = [];
    for (let t = 0; t < this.#T; t++) {
      const token = (x: tf.Tensor) => (this.#T === 1 ? x : x.slice([0, t, 0], [-1, 1, -1]));
      const added = tf.matMul(token(keys), token(values), true, false);
      state = token(decays).transpose([0, 2, 1]).mul(state).add(added);
      const query =
        this.#T === 1 ? queries.squeeze([2]) : queries.slice([0, 0, t, 0], [-1, -1, 1, -1]).squeeze([2]);
      out.push(tf.matMul(query, state));
    }
    this.after.set(`${at}.S`, state);
    // [K, G, T, Dv]
    return tf.stack(out, 2);
  }

  causalConv(
    at: string,
    x: tf.Tensor,
    weight: Stored,
    bias: Stored | null,
    channels: number,
    columns: number,
  ) {
    const past = this.#state(`${at}.past`, [columns - 1, channels]);
    const all = tf.concat([past, x], 0);
    this.after.set(`${at}.past`, all.slice([this.#T, 0], [columns - 1, -1]));
    const taps = this.#weight(weight, (stored) => stored.reshape([channels, columns]).transpose());
    let y: tf.Tensor | null = bias && this.#weight(bias);
    for (let j = 0; j < columns; j++) {
      const product = all.slice([j, 0], [this.#T, -1]).mul(taps.slice([j, 0], [1, -1]));
      y = y ? y.add(product) : product;
    }
    return this.silu(y!);
  }

  selectiveScan(
    at: string,
    { u, dt, b, c }: Record<"u" | "dt" | "b" | "c", tf.Tensor>,
    aLog: Stored,
    d: Stored,
    { inner: E, state: N }: ScanSizes,
  ) {
    const T = this.#T;
    // of all tokens at once: [T, E, N]
    const decays = dt
      .expandDims(-1)
      .mul(this.#weight(aLog, (stored) => stored.exp().neg()))
      .exp();
    const inputs = dt.mul(u).expandDims(-1).mul(b.expandDims(1));
    let h = this.#state(`${at}.h`, [E, N]);
    const states: tf.Tensor[] = [];
    for (let t = 0; t < T; t++) {
      const token = (x: tf.Tensor) => (T === 1 ? x : x.slice([t, 0, 0], [1, -1, -1])).reshape([E, N]);
      h = token(decays).mul(h).add(token(inputs));
      states.push(h);
    }
    this.after.set(`${at}.h`, h);
    const all = T === 1 ? h.expandDims(0) : tf.stack(states, 0);
    const y = tf.matMul(all, c.expandDims(-1)).reshape([T, E]);
    return y.add(u.mul(this.#weight(d)));
  }

  #rows(x: tf.Tensor): number {
    return x.shape[0]!;
  }

  #state(name: string, shape: number[]): tf.Tensor {
    return this.#before.get(name) ?? tf.zeros(shape);
  }

  /** Keys or values [heads, N, D] with those of these tokens; of a window no more than its queries see. */
  #grown(name: string, fresh: tf.Tensor, window: number): tf.Tensor {
    const past = this.#before.get(name);
    const all = past ? tf.concat([past, fresh], 1) : fresh;
    const N = all.shape[1]!;
    const kept = N > window ? all.slice([0, N - window, 0], [-1, window, -1]) : all.clone();
    this.after.set(name, kept);
    const seen = Math.min(N, window + this.#T - 1);
    return seen < N ? all.slice([0, N - seen, 0], [-1, seen, -1]) : all;
  }

  /** Products [H, T, T] of queries with keys that come later are 0. */
  #causal(products: tf.Tensor): tf.Tensor {
    const T = this.#T;
    if (T === 1) return products;
    const mask = Float32Array.from({ length: T * T }, (_, i) => (i % T <= Math.floor(i / T) ? 1 : 0));
    return products.mul(tf.tensor(mask, [T, T]));
  }

  /** [T, N]: 0 where a query sees a key, of which the last is its own token's; else as good as -infinity. */
  #mask(N: number, window: number): tf.Tensor {
    const T = this.#T;
    const mask = new Float32Array(T * N);
    for (let t = 0; t < T; t++)
      for (let n = 0; n < N; n++) {
        const behind = N - T + t - n;
        if (behind < 0 || behind >= window) mask[t * N + n] = -1e30;
      }
    return tf.tensor(mask, [T, N]);
  }

  /** x [heads, T, D] turned by its positions, halves as pairs: Su et al. 2021, arXiv 2104.09864, as transformers has it. */
  #turn(x: tf.Tensor, D: number, theta: number): tf.Tensor {
    const { cos, sin } = this.#rotation(D, theta);
    const [first, second] = tf.split(x, 2, -1) as [tf.Tensor, tf.Tensor];
    const across = tf.concat([second.neg(), first], -1);
    return x.mul(cos).add(across.mul(sin));
  }

  /** [T, D], once a run. */
  #rotation(D: number, theta: number): Record<"cos" | "sin", tf.Tensor> {
    return memo(this.#rotations, `${D} ${theta}`, () => {
      const angle = (i: number) => (this.#position + Math.floor(i / D)) * theta ** ((-2 * (i % (D / 2))) / D);
      const table = (of: (angle: number) => number) =>
        tf.tensor(
          Float32Array.from({ length: this.#T * D }, (_, i) => of(angle(i))),
          [this.#T, D],
        );
      return { cos: table(Math.cos), sin: table(Math.sin) };
    });
  }
}
