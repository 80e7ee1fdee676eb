import type { Tune } from "../engine/tune.ts";
import type { Crossover } from "./crossover.ts";
import type { Drift } from "./drift.ts";
import type { Fit } from "./fits.ts";
import type { KernelTime, Roofs, Target } from "./kernels/kernelTime.ts";
import type { Trace } from "./race/traces.ts";

/**
 * One row of results: what every printer, the report and results.json are made of. The order of the fields
 * is the order of the columns everywhere. Names follow llama-bench where it has the field; a field that does
 * not apply is null. Bytes are plain bytes, times nanoseconds, rates tokens a second.
 */
export interface Row {
  /** Short commit of the tree that was built, with "-dirty" when it had changes. */
  build_commit: string | null;
  /** When the test started, RFC 3339, UTC. */
  test_time: string | null;
  /** The runtime that did the work: longtape, ort-webgpu, ort-wasm or tfjs-webgpu. */
  peer: string;
  peer_version: string | null;
  /** Architecture name of DESIGN section 5: elman, llama, mistral-window, hybrid:mamba*3+attn. */
  arch: string;
  /** The model's own name: the checkpoint's folder, or the shape of seeded weights. */
  model: string;
  /** Parameters, a tied tensor counted once. */
  model_n_params: number | null;
  /** Element type of the weights. */
  dtype: string | null;
  /** Element types of cached keys and values. */
  type_k: string | null;
  type_v: string | null;
  /** The API that ran it: webgpu, wasm. */
  backend: string | null;
  adapter: string | null;
  /** True on an adapter that computes on the CPU (SwiftShader, llvmpipe, WARP). */
  software: boolean | null;
  status: Status;
  /** One sentence, for every status but ok. */
  reason: string | null;
  /** pp512, tg128, tg128 @ d4096, pp512+tg128. */
  test: string;
  /** Tokens fed in, generated, and already in the context before the clock starts, each for one stream. */
  n_prompt: number;
  n_gen: number;
  n_depth: number;
  /** Streams in lock-step. */
  n_parallel: number;
  /** Most tokens in one prefill chunk. */
  n_ubatch: number | null;
  /**
   * What prompt and depth were filled with: "text" (the shipped text), "random" (seeded ids), or "random cache": the depth's
   * keys and values are random numbers that were never computed from tokens.
   */
  fill: string | null;
  /** Nanoseconds a repetition: mean, sample standard deviation, every repetition. */
  avg_ns: number | null;
  stddev_ns: number | null;
  samples_ns: number[] | null;
  /** Tokens a second, all streams together: mean of the repetitions' rates, sample standard deviation, all. */
  avg_ts: number | null;
  stddev_ts: number | null;
  samples_ts: number[] | null;
  /**
   * Nanoseconds from the opening of the checkpoint to the first generated id in JavaScript, of a prompt in an empty context:
   * load_ns, then this test's session opened, then its prompt and one token, compiled before, mean. Null for other tests.
   */
  ttft_ns: number | null;
  /** Nanoseconds that the GPU was busy in a repetition, by timestamp queries, mean. */
  gpu_ns: number | null;
  /** Nanoseconds that a repetition would take: bytes moved over roof_gbs, and dispatches at what an empty one takes. */
  predicted_ns: number | null;
  dispatches_per_token: number | null;
  submits_per_token: number | null;
  /** Best read bandwidth measured on this adapter in the same run, 1e9 bytes a second. */
  roof_gbs: number | null;
  /** Bytes moved over avg_ns, as a share of roof_gbs: 1 reads at the roof; more is read from caches. */
  roof_fraction: number | null;
  /** Bytes by our own count, live when the test ends, by category; mem_live is their sum. */
  mem_weights: number | null;
  mem_state: number | null;
  mem_kv: number | null;
  mem_scratch: number | null;
  /** Uniforms and staging. */
  mem_other: number | null;
  mem_live: number | null;
  /** Most bytes live at once. */
  mem_peak: number | null;
  /** Bytes of live GPUBuffers counted from outside, on GPUDevice. */
  mem_asked: number | null;
  /** Bytes that the GPU process holds above what it held before the model, and how that was read. */
  mem_resident: number | null;
  mem_resident_method: string | null;
  /** Bytes that the ledger says this engine will allocate. */
  theory_weights: number | null;
  theory_state: number | null;
  theory_kv: number | null;
  theory_scratch: number | null;
  theory_other: number | null;
  /** 100 * (mem_asked / sum of theory_* - 1); must be 0. */
  theory_err_pct: number | null;
  /** Bytes by the literature's formulas (closed.ts). */
  closed_weights: number | null;
  closed_state: number | null;
  closed_kv: number | null;
  /** The score matrix of one layer: held where it is materialised, and counted there; never held by who tiles. */
  closed_scores: number | null;
  /** 100 * (mem_asked / (closed_weights + closed_state + closed_kv, and closed_scores where they are held) - 1). */
  overhead_pct: number | null;
  /** (mem_state + mem_kv) / tokens held, all streams together: what remembering a token costs here. */
  bytes_per_token: number | null;
  /**
   * Normalised mean squared error of the logits, in this run, before timing: longtape's against the CPU machine, a peer's
   * against the golden beside the checkpoint (where there is none, against longtape's).
   */
  nmse_vs_reference: number | null;
  /** Tokens a second of one stream: avg_ts / n_parallel. */
  avg_ts_stream: number | null;
  /**
   * Nanoseconds from one result to the next, median and 95th percentile: of a token generated, or of a chunk of a prompt.
   * Results that come together (ids come back a submit at a time) share the time since those before.
   */
  latency_p50_ns: number | null;
  latency_p95_ns: number | null;
  /** (mem_state + mem_kv) / n_parallel, and how many such streams a GiB holds, weights and scratch not in it. */
  bytes_per_stream: number | null;
  streams_per_gib: number | null;
  /** Pairs of query and key that the timed part scores, all layers, heads and streams: what the pattern asks for. */
  theory_pairs: number | null;
  /** Bits that the model needs for a byte of text it has not seen; null where that was not asked for. */
  bits_per_byte: number | null;
  /**
   * What storing weights or cache as f16 or int8 changes: normalised mean squared error of the logits against the same model
   * as f32, on up to 1,024 tokens of text that shipped models have not seen, and the change in bits a byte there. Null for f32;
   * bits also where tokens spell no text.
   */
  nmse_vs_f32: number | null;
  bits_vs_f32: number | null;
  /**
   * Nanoseconds from the opening of the checkpoint to weights on the device and pipelines compiled for the first test's prompt
   * and token: measured once a model, on a device where nothing was compiled. Races come before it: see `tuned`. A peer's is
   * its second load of the model, weights in memory.
   */
  load_ns: number | null;
  /**
   * Bytes by a peer's own count, and those that its device still held after it gave back all it could; of longtape the latter,
   * where peers are compared.
   */
  mem_own: number | null;
  mem_left: number | null;
  /** What stands beside the figures: nodes that a peer ran on the CPU, tokens that were left out, ids that came together. */
  remark: string | null;
}

/** refused: preflight said no. Only failed makes the exit code 1. */
export type Status = "ok" | "unsupported" | "refused" | "failed";

export type Field = keyof Row;

/** How a field is stored where types must be stated (SQL). Its key order is the order of every printer. */
export const fieldKinds: { readonly [F in Field]: "text" | "integer" | "real" | "boolean" | "samples" } = {
  build_commit: "text",
  test_time: "text",
  peer: "text",
  peer_version: "text",
  arch: "text",
  model: "text",
  model_n_params: "integer",
  dtype: "text",
  type_k: "text",
  type_v: "text",
  backend: "text",
  adapter: "text",
  software: "boolean",
  status: "text",
  reason: "text",
  test: "text",
  n_prompt: "integer",
  n_gen: "integer",
  n_depth: "integer",
  n_parallel: "integer",
  n_ubatch: "integer",
  fill: "text",
  avg_ns: "real",
  stddev_ns: "real",
  samples_ns: "samples",
  avg_ts: "real",
  stddev_ts: "real",
  samples_ts: "samples",
  ttft_ns: "real",
  gpu_ns: "real",
  predicted_ns: "real",
  dispatches_per_token: "real",
  submits_per_token: "real",
  roof_gbs: "real",
  roof_fraction: "real",
  mem_weights: "integer",
  mem_state: "integer",
  mem_kv: "integer",
  mem_scratch: "integer",
  mem_other: "integer",
  mem_live: "integer",
  mem_peak: "integer",
  mem_asked: "integer",
  mem_resident: "integer",
  mem_resident_method: "text",
  theory_weights: "integer",
  theory_state: "integer",
  theory_kv: "integer",
  theory_scratch: "integer",
  theory_other: "integer",
  theory_err_pct: "real",
  closed_weights: "integer",
  closed_state: "integer",
  closed_kv: "integer",
  closed_scores: "integer",
  overhead_pct: "real",
  bytes_per_token: "real",
  nmse_vs_reference: "real",
  avg_ts_stream: "real",
  latency_p50_ns: "real",
  latency_p95_ns: "real",
  bytes_per_stream: "real",
  streams_per_gib: "real",
  theory_pairs: "integer",
  bits_per_byte: "real",
  nmse_vs_f32: "real",
  bits_vs_f32: "real",
  load_ns: "real",
  mem_own: "integer",
  mem_left: "integer",
  remark: "text",
};

export const fields = Object.keys(fieldKinds) as Field[];

/** A row in which nothing has been measured: fields that identify it have a value, all others are null. */
export function emptyRow(known: Partial<Row> = {}): Row {
  const blank = Object.fromEntries(fields.map((field) => [field, null])) as unknown as Row;
  return {
    ...blank,
    peer: "longtape",
    arch: "",
    model: "",
    status: "ok",
    test: "",
    n_prompt: 0,
    n_gen: 0,
    n_depth: 0,
    n_parallel: 1,
    ...known,
  };
}

/** Of a model of which nothing is known yet. */
export const emptyQuality = (known: Pick<Quality, "arch" | "model">): Quality => ({
  ...known,
  status: "ok",
  reason: null,
  bits_per_byte: null,
  theory_bytes_at_4096: null,
  points: [],
});

/** Where and how the rows were made. */
export interface Environment {
  /** The command line, or the page's address. */
  command: string;
  started: string;
  build_commit: string | null;
  /** Name to version: longtape, and every peer and runtime that took part. */
  versions: Record<string, string>;
  runtime: "chrome" | "node";
  /** "Chrome 147.0.7727.0", null under Node. */
  browser: string | null;
  /** Flags that the browser was started with. */
  browser_flags: string[];
  os: string;
  cpu: string;
  cpu_cores: number;
  node: string | null;
  adapter: Adapter | null;
  limits: Record<string, number>;
  features: string[];
  /** Which variant of a kernel won, on which sizes. */
  verdicts: Verdict[];
  /** How the variants were chosen, model by model. */
  tuned: Tuned[];
  /** Smallest step of the clock that was seen, nanoseconds. */
  clock_quantum_ns: number | null;
  /** True if the tab was hidden at any time during the run: its timers may have been throttled. */
  tab_hidden: boolean;
  seed: number | null;
  /** Theory between the measured points, for the charts. */
  curves?: Curve[];
  /** Runtimes that were compared: version and settings of each. */
  peers?: PeerFacts[];
  /** What a browser held that ran one of them alone. */
  residents?: PeerResident[];
}

/** Of a run that has not begun: its own place is known, nothing of the adapter. */
export function emptyEnvironment(
  known: Omit<Environment, "adapter" | "limits" | "features" | "verdicts" | "tuned" | "clock_quantum_ns">,
): Environment {
  return {
    ...known,
    adapter: null,
    limits: {},
    features: [],
    verdicts: [],
    tuned: [],
    clock_quantum_ns: null,
  };
}

/** Notes a runtime that took part, once: every model tells. */
export function addPeer(environment: Environment, facts: PeerFacts): void {
  const { peers = [], versions } = environment;
  if (peers.some(({ peer }) => peer === facts.peer)) return;
  environment.peers = [...peers, facts];
  environment.versions = { ...versions, [facts.peer]: facts.version };
}

/** A runtime as a reader would set it up again. */
export interface PeerFacts {
  peer: string;
  version: string;
  settings: string;
}

/** Bytes that all processes of a browser hold, above those of an empty page; null: nobody can say, and `method` why. */
export interface PeerResident {
  peer: string;
  model: string;
  bytes: number | null;
  method: string;
}

export interface Adapter {
  /** GPUAdapterInfo. */
  vendor: string;
  architecture: string;
  device: string;
  description: string;
  software: boolean;
}

export interface Verdict {
  kernel: string;
  /** Sizes as text: "O=384 I=128 T=1". */
  sizes: string;
  variant: string;
  /** Variant to its fastest time in the race, nanoseconds. */
  times_ns: Record<string, number>;
  /** Raced in a run before this one, and kept. */
  kept: boolean;
}

/** What choosing variants took before a model was loaded. Verdicts that the run had by then are not counted again. */
export interface Tuned {
  model: string;
  /** off: defaults; cached: kept verdicts, and a race for the rest; full: races. */
  tune: Tune;
  /** Verdicts kept from a run before. */
  kept: number;
  raced: number;
  /** Nanoseconds in all. */
  race_ns: number;
}

/** Bytes of state and kv of one architecture over the tokens in its context, by the ledger. */
export interface Curve {
  arch: string;
  model: string;
  points: { context: number; bytes: number }[];
}

/** How well one model predicts text that it has not seen. */
export interface Quality {
  arch: string;
  model: string;
  status: Status;
  reason: string | null;
  /** Mean over 64 windows of 256 tokens, each from an empty state: how the shipped models were judged when trained. */
  bits_per_byte: number | null;
  /** Bytes of state and kv of one stream at 4,096 tokens, by the ledger. */
  theory_bytes_at_4096: number | null;
  /** Of one long stream: the mean over the tokens after the point before, up to `context`. */
  points: { context: number; bits_per_byte: number }[];
}

/** Speed of generation after a long stream, against its speed at the stream's beginning, by turns. */
export interface Alternation {
  arch: string;
  model: string;
  status: Status;
  n_parallel: number;
  n_ubatch: number;
  n_gen: number;
  /** Tokens in the context. */
  from: number;
  to: number;
  /** Tokens a second at `to` over those at `from`: of every round. */
  ratios: number[];
  /** Median of the rounds, and the interval that holds the true one with 95% (sign test); null where there is none. */
  ratio: number | null;
  low: number | null;
  high: number | null;
  /** How it was brought about; or why there is none. */
  method: string;
}

/** How far a linear attention's sums have drifted from doubles in a long stream (drift.ts). */
export interface DriftPoint extends Drift {
  model: string;
  n_parallel: number;
  n_ubatch: number;
}

export interface Results {
  schema: "longtape/1";
  environment: Environment;
  rows: Row[];
  /** How far each model goes on this adapter, where that was asked for. */
  fits?: Fit[];
  /** Where two models change places; absent where nothing could be compared. */
  crossovers?: Crossover[];
  quality?: Quality[];
  alternations?: Alternation[];
  drifts?: DriftPoint[];
  /** Where racers were on their way: the page's race. */
  traces?: Trace[];
  /** Kernels timed by themselves, and what the adapter can do at best. */
  kernels?: KernelTime[];
  roofs?: Roofs;
  targets?: Target[];
}

/** Tokens that the context holds when the test ends. */
export const contextOf = (row: Row): number => row.n_depth + row.n_prompt + row.n_gen;

/** Bytes of state and kv: measured, and by the ledger. */
export const measuredBytes = (row: Row): number | null => sum(row.mem_state, row.mem_kv);
export const theoryBytes = (row: Row): number | null => sum(row.theory_state, row.theory_kv);

/** Tokens a second and their spread, which one repetition has none of; null where nothing was timed. */
export function rateText({ avg_ts, stddev_ts, samples_ts }: Row): string | null {
  if (avg_ts === null) return null;
  const spread = samples_ts?.length === 1 ? "" : ` ± ${(stddev_ts ?? 0).toFixed(2)}`;
  return `${avg_ts.toFixed(2)}${spread}`;
}

/** A change in bits a byte. */
export const signedBits = (bits: number): string => `${bits < 0 ? "-" : "+"}${Math.abs(bits).toFixed(4)}`;

/** The adapter in a few words that a person can check: its description, or vendor and architecture. */
export function adapterName(adapter: Adapter | null): string {
  if (!adapter) return "no adapter";
  const { vendor, architecture, device, description } = adapter;
  return description || [vendor, architecture, device].filter(Boolean).join(" ") || "unnamed adapter";
}

function sum(state: number | null, kv: number | null): number | null {
  return state === null && kv === null ? null : (state ?? 0) + (kv ?? 0);
}
