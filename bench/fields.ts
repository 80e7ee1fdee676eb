// From what was found to the fields of a row.

import type { AdapterDescription } from "../engine/gpuDevice.ts";
import { total } from "../engine/memory.ts";
import { type Bytes, storedBytes, tiles, withType } from "../engine/tensor.ts";
import type { StoredType } from "../engine/tiles.ts";
import { closedFields, closedPairs, holdsScores, type Layers } from "./closed.ts";
import type { Held, TimeFigures } from "./measure.ts";
import type { Resident } from "./meters/resident.ts";
import type { Roof } from "./meters/roof.ts";
import { filled, held, type Theory } from "./meters/theory.ts";
import { emptyRow, type Row } from "./row.ts";
import { quantile, timing } from "./stats.ts";
import type { Subject } from "./subject.ts";
import { type Test, testName } from "./tests.ts";
import { formatBytes, GIB } from "./units.ts";

/** Bytes of an element, with its share of what stands beside the elements of a whole tile row. */
const elementBytes = (type: StoredType): number => storedBytes(withType(tiles(4, 64), type)) / (4 * 64);
const F32 = { dtype: "f32", cacheType: "f32" } as const;
/** A process holds and returns memory in steps; a model smaller than this is lost in them. */
const RESIDENT_NOISE = 64 * 2 ** 20;

/** A row that says what was to be run, where, and by whom; nothing is measured yet. */
export function identity(
  { arch, model, types = F32 }: Subject,
  test: Test,
  build: { build_commit: string | null; version: string | null },
  adapter: Pick<AdapterDescription, "name" | "software"> | null,
): Row {
  return emptyRow({
    build_commit: build.build_commit,
    test_time: new Date().toISOString(),
    peer_version: build.version,
    arch,
    model,
    dtype: types.dtype,
    backend: "webgpu",
    adapter: adapter?.name ?? null,
    software: adapter?.software ?? null,
    test: testName(test),
    ...test,
  });
}

type Prefixed<P extends "mem" | "theory"> = Record<
  `${P}_${"weights" | "state" | "kv" | "scratch" | "other"}`,
  number
>;

const byCategory = <P extends "mem" | "theory">(prefix: P, bytes: Bytes): Prefixed<P> =>
  ({
    [`${prefix}_weights`]: bytes.weights,
    [`${prefix}_state`]: bytes.state,
    [`${prefix}_kv`]: bytes.kv,
    [`${prefix}_scratch`]: bytes.scratch,
    [`${prefix}_other`]: bytes.uniform + bytes.staging,
  }) as Prefixed<P>;

export function theoryFields(
  { bytes, dispatches }: Theory,
  { types = F32 }: Subject,
  test: Test,
): Partial<Row> {
  const cached = bytes.kv > 0 ? types.cacheType : null;
  return {
    ...byCategory("theory", bytes),
    type_k: cached,
    type_v: cached,
    dispatches_per_token: dispatches / (test.n_prompt + test.n_gen),
  };
}

/** The literature's bytes for the tokens that the streams hold at the end, and the pairs that the timed part scores. */
export function closedOf(
  parameters: number,
  layers: Layers[],
  { types = F32 }: Pick<Subject, "types">,
  test: Test,
) {
  const architecture = { parameters, layers };
  const { n_prompt, n_gen, n_parallel: streams } = test;
  return {
    ...closedFields(architecture, {
      tokens: held(test),
      cacheBytes: elementBytes(types.cacheType),
      elementBytes: elementBytes("f32"),
      streams,
      queries: Math.max(1, n_prompt),
      weightBytes: elementBytes(types.dtype),
    }),
    theory_pairs: closedPairs(architecture, { depth: filled(test), tokens: n_prompt + n_gen, streams }),
  };
}

/** Bytes that the literature's formulas say are held. Scores are in them only where they are materialised. */
export function closedHeld(closed: ReturnType<typeof closedOf>, layers: Layers[]): number {
  const { closed_weights, closed_state, closed_kv, closed_scores } = closed;
  return closed_weights + closed_state + closed_kv + (holdsScores(layers) ? closed_scores : 0);
}

export function memoryFields(
  { live, peak, asked, resident }: Held,
  before: Resident | null,
  theory: Theory,
  literature: number | null,
  test: Test,
): Partial<Row> {
  const carried = live.state + live.kv;
  return {
    ...byCategory("mem", live),
    mem_live: total(live),
    mem_peak: peak,
    mem_asked: asked,
    ...residentFields(asked, resident, before),
    theory_err_pct: 100 * (asked / total(theory.bytes) - 1),
    overhead_pct: literature && 100 * (asked / literature - 1),
    bytes_per_token: carried / (test.n_parallel * held(test)),
    ...streamFields(carried, test.n_parallel),
  };
}

/** Streams share the weights, so a GiB beside them and beside scratch is a GiB of streams. */
export const streamFields = (
  carried: number,
  streams: number,
): Pick<Row, "bytes_per_stream" | "streams_per_gib"> => ({
  bytes_per_stream: carried / streams,
  streams_per_gib: carried > 0 ? (GIB * streams) / carried : null,
});

function residentFields(
  asked: number,
  resident: Resident | null,
  before: Resident | null,
): Pick<Row, "mem_resident" | "mem_resident_method"> {
  if (!resident || !before) return { mem_resident: null, mem_resident_method: null };
  if (asked < RESIDENT_NOISE) {
    return {
      mem_resident: null,
      mem_resident_method: `< noise: ${formatBytes(asked)} asked, below ${formatBytes(RESIDENT_NOISE)}`,
    };
  }
  return {
    mem_resident: Math.max(0, resident.bytes - before.bytes),
    mem_resident_method: `${resident.method}, above what was there before the model`,
  };
}

export function timeFields(
  { samplesNs, latenciesNs, openNs, firstNs, gpuNs, submitsPerToken }: TimeFigures,
  theory: Theory,
  roof: Roof,
  test: Test,
  loadNs: number,
): Partial<Row> {
  const fromNothing = filled(test) === 0;
  return {
    ...speedFields({ samplesNs, latenciesNs }, theory, roof, test),
    ttft_ns: fromNothing ? loadNs + openNs + firstNs : null,
    gpu_ns: gpuNs,
    submits_per_token: submitsPerToken,
  };
}

/** What follows from times alone. */
export function speedFields(
  { samplesNs, latenciesNs }: Pick<TimeFigures, "samplesNs" | "latenciesNs">,
  { bytesMoved, workNs, dispatches }: Theory,
  { readGbs, dispatchNs }: Roof,
  test: Test,
): Partial<Row> {
  const figures = timing(samplesNs, test.n_parallel * (test.n_prompt + test.n_gen));
  const latency = (q: number) => (latenciesNs.length > 0 ? quantile(latenciesNs, q) : null);
  // 1e9 bytes a second are a byte a nanosecond
  return {
    ...figures,
    avg_ts_stream: figures.avg_ts / test.n_parallel,
    latency_p50_ns: latency(0.5),
    latency_p95_ns: latency(0.95),
    predicted_ns: workNs + dispatches * dispatchNs,
    roof_gbs: readGbs,
    roof_fraction: bytesMoved / figures.avg_ns / readGbs,
  };
}
