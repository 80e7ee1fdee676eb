// A llama written once more, plainly and in doubles: the whole sequence at once, every score masked by hand. It shares no
// code with models/ or kernels/, and says of itself what each pattern of attention means.

import { openCheckpoint } from "../../models/checkpoint.ts";
import type { Source } from "../../models/source.ts";

/** Keys that the query at a position sees, in the order of their positions. */
export type Seen = (query: number) => readonly number[];

export interface Rule {
  seen: Seen;
  /** Positions are those among what is seen, not those in the stream. */
  inCache?: boolean;
}

const upTo = (n: number) => Array.from({ length: n + 1 }, (_, i) => i);

export const rules = {
  everything: (): Rule => ({ seen: upTo }),
  last: (window: number): Rule => ({ seen: (q) => upTo(q).filter((k) => k > q - window) }),
  strided: (stride: number): Rule => ({
    seen: (q) => upTo(q).filter((k) => k > q - stride || (q - k) % stride === 0),
  }),
  sinks: (sinks: number, window: number): Rule => ({
    seen: (q) => upTo(q).filter((k) => k < sinks || k > q - window),
    inCache: true,
  }),
};

/** Logits [T, V] that follow each of `ids`. */
export async function denseLogits(source: Source, ids: readonly number[], rule: Rule): Promise<Float64Array> {
  const { config, read } = await openCheckpoint(source);
  const size = (key: string) => config[key] as number;
  const [E, H, K, D] = ["hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"].map(
    size,
  ) as [number, number, number, number];
  const { rope_theta: theta } = config.rope_parameters as { rope_theta: number };
  const T = ids.length;

  const rmsNorm = (x: Float64Array, weight: Float32Array) => {
    const mean = x.reduce((sum, v) => sum + v * v, 0) / x.length;
    return x.map((v, i) => (v / Math.sqrt(mean + size("rms_norm_eps"))) * weight[i]!);
  };
  const times = (w: Float32Array, x: Float64Array) =>
    Float64Array.from({ length: w.length / x.length }, (_, row) =>
      x.reduce((sum, v, i) => sum + w[row * x.length + i]! * v, 0),
    );
  const turned = (x: Float64Array, head: number, position: number) =>
    Float64Array.from({ length: D }, (_, d) => {
      const angle = position * theta ** ((-2 * (d % (D / 2))) / D);
      const other = d < D / 2 ? -x[head * D + d + D / 2]! : x[head * D + d - D / 2]!;
      return x[head * D + d]! * Math.cos(angle) + other * Math.sin(angle);
    });

  const embedding = await read("model.embed_tokens.weight");
  let rows = ids.map((id) => Float64Array.from(embedding.subarray(id * E, (id + 1) * E)));
  for (let layer = 0; layer < size("num_hidden_layers"); layer++) {
    const w = (name: string) => read(`model.layers.${layer}.${name}.weight`);
    const before = await w("input_layernorm");
    const normed = rows.map((x) => rmsNorm(x, before));
    const [wq, wk, wv, wo] = [
      await w("self_attn.q_proj"),
      await w("self_attn.k_proj"),
      await w("self_attn.v_proj"),
      await w("self_attn.o_proj"),
    ];
    const [queries, keys, values] = [wq, wk, wv].map((m) => normed.map((x) => times(m, x))) as [
      Float64Array[],
      Float64Array[],
      Float64Array[],
    ];
    const attended = upTo(T - 1).map((q) => {
      const out = new Float64Array(H * D);
      const seen = rule.seen(q);
      const position = (key: number) => (rule.inCache ? seen.indexOf(key) : key);
      for (let h = 0; h < H; h++) {
        const group = Math.floor((h * K) / H);
        const query = turned(queries[q]!, h, position(q));
        const scores = seen.map((key) => {
          const turnedKey = turned(keys[key]!, group, position(key));
          return query.reduce((sum, v, d) => sum + v * turnedKey[d]!, 0) / Math.sqrt(D);
        });
        const most = Math.max(...scores);
        const shares = scores.map((s) => Math.exp(s - most));
        const total = shares.reduce((a, b) => a + b);
        seen.forEach((key, i) => {
          for (let d = 0; d < D; d++) out[h * D + d]! += (shares[i]! / total) * values[key]![group * D + d]!;
        });
      }
      return times(wo, out);
    });
    rows = rows.map((x, t) => x.map((v, i) => v + attended[t]![i]!));
    const after = await w("post_attention_layernorm");
    const [gate, up, down] = [await w("mlp.gate_proj"), await w("mlp.up_proj"), await w("mlp.down_proj")];
    rows = rows.map((x) => {
      const n = rmsNorm(x, after);
      const above = times(up, n);
      const inner = times(gate, n).map((v, i) => (v / (1 + Math.exp(-v))) * above[i]!);
      const added = times(down, inner);
      return x.map((v, i) => v + added[i]!);
    });
  }
  const norm = await read("model.norm.weight");
  const head = await read("lm_head.weight");
  const logits = rows.map((x) => times(head, rmsNorm(x, norm)));
  return Float64Array.from(logits.flatMap((row) => [...row]));
}
