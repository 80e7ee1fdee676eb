// How far linear attention's sums drift. Its state S = sum f(k) v^T and normaliser z = sum f(k) only ever grow, in f32: what
// is added late loses the bits that lie below the sum. In the first layer keys and values depend on the token alone, so
// that the sums over any stream follow in doubles from how often each token came: no second run is needed. It is a hard
// case: equal addends are rounded alike while a sum stays between two powers of two, so that errors add up in proportion
// to the stream's length; those of ever different addends grow with its root.

import { record } from "../engine/plan.ts";
import type { Snapshot } from "../engine/snapshot.ts";
import { type Data, integers, rows, type Spec, storedBytes, type Tensor } from "../engine/tensor.ts";
import { Workspace } from "../engine/workspace.ts";
import { embedding } from "../kernels/embedding.ts";
import { featureMaps } from "../kernels/featureMap.ts";
import { linear } from "../kernels/linear.ts";
import type { LinearAttentionConfig } from "../models/configs.ts";
import type { Model } from "../models/engine.ts";

/** Root mean square errors of the first layer as shares of the exact values' root mean square. */
export interface Drift {
  /** Tokens that the stream holds. */
  tokens: number;
  state: number;
  /** Null where the model has no normaliser. */
  keySum: number | null;
  /** What each token of the stream would read next: S^T f(q), over z . f(q) where there is a normaliser. */
  outputs: number;
}

/** A table of all tokens' queries, keys and values is kept: for vocabularies of bytes. */
const MOST_TOKENS = 1024;

export class DriftMeter {
  readonly #c: LinearAttentionConfig;
  /** [V, W]: columns [q: Hq Dk | k: Hk Dk | v: Hk Dv]. */
  readonly #table: Float32Array;
  readonly #counts: Float64Array;

  /**
   * For one stream of this model; null where it is no linear attention or has a large vocabulary. Throws OutOfMemoryError
   * or DeviceLostError with nothing left allocated.
   */
  static async open(model: Model): Promise<DriftMeter | null> {
    if (model.name !== "linear-attention" || model.vocabulary > MOST_TOKENS) return null;
    const c = model.loaded.config as LinearAttentionConfig;
    return new DriftMeter(c, await tableOf(model, c));
  }

  private constructor(c: LinearAttentionConfig, table: Float32Array) {
    this.#c = c;
    this.#table = table;
    this.#counts = new Float64Array(c.vocab);
  }

  /** The stream has consumed these tokens. */
  add(ids: Iterable<number>): void {
    for (const id of ids) this.#counts[id]! += 1;
  }

  /** The drift of a session's first stream, after the tokens that were added. */
  of({ tensors }: Snapshot): Drift {
    return this.ofSums(tensors.get("layers.0.linear.state")!, tensors.get("layers.0.linear.keySum"));
  }

  /** The drift of these sums: [.., Hk, Dk, Dv] and [.., Hk, Dk], of which the first stream's are taken. */
  ofSums(state: Data, keySum?: Data): Drift {
    const exact = this.#exact();
    const found = Float64Array.from(state.subarray(0, exact.state.length));
    const foundKeys = keySum && Float64Array.from(keySum.subarray(0, exact.keySum.length));
    return {
      tokens: this.#counts.reduce((sum, n) => sum + n, 0),
      state: relative(found, exact.state),
      keySum: foundKeys ? relative(foundKeys, exact.keySum) : null,
      outputs: relative(
        this.#outputs(found, foundKeys),
        this.#outputs(exact.state, foundKeys && exact.keySum),
      ),
    };
  }

  /** Queries, keys and values of these tokens in the first layer: [T, W]. */
  inputs(ids: readonly number[]): Float32Array {
    const W = this.#table.length / this.#c.vocab;
    const out = new Float32Array(ids.length * W);
    for (const [t, id] of ids.entries()) out.set(this.#table.subarray(id * W, (id + 1) * W), t * W);
    return out;
  }

  /** The sums in doubles: [Hk, Dk, Dv] and [Hk, Dk]. */
  #exact(): { state: Float64Array; keySum: Float64Array } {
    const { heads, kvHeads, keyDim, valueDim, featureMap } = this.#c;
    const state = new Float64Array(kvHeads * keyDim * valueDim);
    const keySum = new Float64Array(kvHeads * keyDim);
    this.#each((row, count) => {
      for (let i = 0; i < keySum.length; i++) {
        const key = count * featureMaps[featureMap](row[heads * keyDim + i]!);
        const values = (heads + kvHeads) * keyDim + Math.floor(i / keyDim) * valueDim;
        keySum[i]! += key;
        for (let j = 0; j < valueDim; j++) state[i * valueDim + j]! += key * row[values + j]!;
      }
    });
    return { state, keySum };
  }

  /** [token of the stream, Hq, Dv]. */
  #outputs(state: Float64Array, keySum: Float64Array | undefined): Float64Array {
    const { heads, kvHeads, keyDim, valueDim, featureMap } = this.#c;
    const out: number[] = [];
    this.#each((row) => {
      for (let h = 0; h < heads; h++) {
        const first = Math.floor(h / (heads / kvHeads)) * keyDim;
        const query = Float64Array.from(row.subarray(h * keyDim, (h + 1) * keyDim), featureMaps[featureMap]);
        const sum = (at: (d: number) => number) =>
          query.reduce((total, q, d) => total + q * at(first + d), 0);
        // 1e-10 as the model's head norm has it
        const by = keySum ? sum((d) => keySum[d]!) + 1e-10 : 1;
        for (let j = 0; j < valueDim; j++) out.push(sum((d) => state[d * valueDim + j]!) / by);
      }
    });
    return Float64Array.from(out);
  }

  /** The row of the table and the count of every token that came. */
  #each(visit: (row: Float32Array, count: number) => void): void {
    const W = this.#table.length / this.#c.vocab;
    this.#counts.forEach((count, id) => {
      if (count > 0) visit(this.#table.subarray(id * W, (id + 1) * W), count);
    });
  }
}

/** Queries, keys and values of the first layer for every token of the vocabulary: as the model's forward makes them. */
async function tableOf({ loaded }: Model, c: LinearAttentionConfig): Promise<Float32Array> {
  const { machine, weights } = loaded;
  const { vocab: V, hidden: D } = c;
  const W = (c.heads + c.kvHeads) * c.keyDim + c.kvHeads * c.valueDim;
  const tokens = tensorOf("tokens", integers(V));
  const x = tensorOf("x", rows(V, D));
  const qkv = tensorOf("qkv", rows(V, W));
  const storages = [tokens, x, qkv].flatMap((tensor) => tensor.storages);
  const plan = record("drift", (m) => {
    m.run(embedding, { table: weights.embeddings, tokens, y: x }, { V, D, M: V });
    m.run(
      linear({ norm: true }),
      { w: weights.layers[0].linear.in, x, y: qkv },
      { M: V, I: D, O: W, eps: c.eps },
    );
  });
  const workspace = new Workspace(machine, [plan]);
  try {
    await machine.allocate(storages);
    await workspace.open();
    machine.write(
      tokens,
      Uint32Array.from({ length: V }, (_, id) => id),
    );
    const run = workspace.run(plan, { first: 0, last: 0 });
    await machine.prepare(run.dispatches);
    machine.submit([run]);
    return (await machine.read(qkv)) as Float32Array;
  } finally {
    workspace.destroy();
    machine.free(storages);
  }
}

/** A tensor in a storage of its own. */
export const tensorOf = (label: string, spec: Spec): Tensor => ({
  label: `drift ${label}`,
  spec,
  offset: 0,
  storages: [{ category: "scratch", label: `drift ${label}`, bytes: storedBytes(spec) }],
});

function relative(found: Float64Array, exact: Float64Array): number {
  let error = 0;
  let power = 0;
  exact.forEach((x, i) => {
    error += (found[i]! - x) ** 2;
    power += x * x;
  });
  return Math.sqrt(error / power);
}
