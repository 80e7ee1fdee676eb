// A checkpoint against numbers that other people's code computed from it. Knows no disk, no browser, no terminal.

import type { Tune } from "../engine/tune.ts";
import type { Engine, Model } from "../models/engine.ts";
import { openSafetensors, TensorError } from "../models/safetensors.ts";
import type { Source } from "../models/source.ts";
import { adapterLine } from "./adapter.ts";

export const FILE = "golden.safetensors";

/** What a machine may differ by: normalised mean squared error over all logits. */
export const NMSE_LIMIT = 1e-9;

export interface Golden {
  B: number;
  T: number;
  V: number;
  /** B lists of T ids. */
  inputs: number[][];
  /** f32 [B, T, V]: the logits at every position. */
  logits: Float32Array;
  /** B lists: the ids that follow when the likeliest is taken each time. */
  greedy: number[][];
}

/** How near one machine came. */
export interface Agreement {
  /** Normalised mean squared error; null where a logit is not finite. */
  nmse: number | null;
  /** Largest difference of a logit; null where one is not finite. */
  largest: number | null;
  /** Was every stream continued as the golden continues it? */
  greedy: boolean;
}

export interface Verdict {
  folder: string;
  /** longtape's name for the architecture; null where the folder was not understood. */
  arch: string | null;
  ok: boolean;
  /** One sentence, for what is not ok. */
  reason: string | null;
  /** The GPU machine's adapter. */
  adapter: string | null;
  software: boolean | null;
  /** The two machines; null where one did not come to an end. */
  gpu: Agreement | null;
  cpu: Agreement | null;
}

export interface VerifyOptions {
  /** How the kernels' variants are chosen; default `cached`. */
  tune?: Tune;
  /** Told of what made a machine fail, beside the verdict's sentence. */
  onError?: (error: unknown) => void;
}

/** Reads a folder's golden.safetensors. Throws CheckpointError or TensorError. */
export async function readGolden(source: Source): Promise<Golden> {
  const file = await openSafetensors(source, FILE);
  const shapeOf = (name: string, rank: number): readonly number[] => {
    const shape = file.tensors.get(name)?.shape;
    if (!shape) throw new TensorError(`${FILE} in ${source.name} holds no tensor ${name}`);
    if (shape.length !== rank || shape.includes(0))
      throw new TensorError(`${FILE}: ${name} is [${shape.join(", ")}], wanted ${rank} sizes above 0`);
    return shape;
  };
  const [B, T] = shapeOf("input_ids", 2) as [number, number];
  const [logitsB, logitsT, V] = shapeOf("logits", 3) as [number, number, number];
  const [greedyB, G] = shapeOf("greedy", 2) as [number, number];
  if (logitsB !== B || logitsT !== T || greedyB !== B) {
    throw new TensorError(
      `${FILE}: logits are [${logitsB}, ${logitsT}, ${V}] and greedy is [${greedyB}, ${G}], input_ids [${B}, ${T}] wants [${B}, ${T}, V] and [${B}, G]`,
    );
  }
  return {
    B,
    T,
    V,
    inputs: split(await file.readInts("input_ids"), B),
    logits: await file.read("logits"),
    greedy: split(await file.readInts("greedy"), B),
  };
}

/** Runs a folder on both machines and sets each beside the folder's golden. Never throws: what goes wrong is a verdict. */
export async function verifyFolder(
  engine: Engine,
  cpu: Engine,
  source: Source,
  options: VerifyOptions = {},
): Promise<Verdict> {
  const verdict: Verdict = {
    folder: source.name,
    arch: null,
    ok: false,
    reason: null,
    adapter: engine.adapter?.name ?? null,
    software: engine.adapter?.software ?? null,
    gpu: null,
    cpu: null,
  };
  const reasons: string[] = [];
  try {
    const golden = await readGolden(source);
    for (const [machine, on] of [
      ["gpu", engine],
      ["cpu", cpu],
    ] as const) {
      const label = machine.toUpperCase();
      const model = await on.load(source, { tune: options.tune ?? "cached", ...sizesFor(golden, machine) });
      try {
        verdict.arch = model.name;
        const found = await compare(model, golden, sizesFor(golden, machine));
        verdict[machine] = found.agreement;
        reasons.push(...found.differences.map((what) => `${label} machine: ${what}`));
      } finally {
        model.destroy();
      }
    }
  } catch (error) {
    options.onError?.(error);
    reasons.push(error instanceof Error ? error.message : String(error));
  }
  verdict.ok = reasons.length === 0;
  verdict.reason = reasons.join("; ") || null;
  return verdict;
}

/** The line that a terminal shows. */
export function verdictLine(verdict: Verdict): string {
  const { folder, ok, reason, gpu, cpu, adapter, software } = verdict;
  const figure = (of: (found: Agreement) => number | null) =>
    (
      [
        ["GPU", gpu],
        ["CPU", cpu],
      ] as const
    )
      .filter(([, found]) => found)
      .map(([name, found]) => `${name} ${of(found!)?.toExponential(1) ?? "not finite"}`)
      .join(", ");
  const found = [gpu, cpu].filter((agreement) => agreement !== null);
  const parts = [
    found.length > 0 && `NMSE ${figure((a) => a.nmse)}`,
    found.length > 0 && `largest difference ${figure((a) => a.largest)}`,
    found.length > 0 && `greedy ${found.every((a) => a.greedy) ? "equal" : "not equal"}`,
    adapter && adapterLine({ name: adapter, software: software === true }),
    reason,
  ];
  return `${ok ? "ok  " : "FAIL"} ${folder}: ${parts.filter(Boolean).join("; ")}`;
}

interface Sizes {
  streams: number;
  chunk: number;
}

/** Bytes that the logits of one chunk may take: a real vocabulary makes them large. */
const LOGITS_BYTES = 64 * 2 ** 20;

/** The GPU's chunks end inside the prompt, so that what is carried over is under test; a reference pays for padding. */
function sizesFor({ B, V }: Golden, machine: "gpu" | "cpu"): Sizes {
  const largest = machine === "gpu" ? 128 : 64;
  return {
    streams: B,
    chunk: [largest, 64, 8].find((chunk) => 4 * B * chunk * V <= LOGITS_BYTES) ?? 1,
  };
}

async function compare(
  model: Model,
  { B, T, V, inputs, logits, greedy }: Golden,
  sizes: Sizes,
): Promise<{ agreement: Agreement; differences: string[] }> {
  if (V !== model.vocabulary) {
    throw new TensorError(
      `${FILE}: logits are [${B}, ${T}, ${V}], the model's vocabulary wants [${B}, ${T}, ${model.vocabulary}]`,
    );
  }
  const session = await model.session({ ...sizes, allLogits: true });
  try {
    const found = difference(await session.prefillLogits(inputs), logits);
    const continued = await Promise.all(
      session.streams.map(async (stream, b) => {
        const ids: number[] = [];
        for await (const id of stream.stream({ maxTokens: greedy[b]!.length })) ids.push(id);
        return ids;
      }),
    );
    const differences: string[] = [];
    if (found.nmse === null) differences.push("a logit is not finite");
    else if (found.nmse > NMSE_LIMIT) {
      differences.push(`NMSE ${found.nmse.toExponential(1)}, wanted at most ${NMSE_LIMIT.toExponential(0)}`);
    }
    const b = continued.findIndex((ids, i) => ids.some((id, n) => id !== greedy[i]![n]));
    if (b >= 0) {
      const n = continued[b]!.findIndex((id, i) => id !== greedy[b]![i]);
      differences.push(
        `stream ${b} is continued with token ${continued[b]![n]} at place ${n}, the golden has ${greedy[b]![n]}`,
      );
    }
    return { agreement: { ...found, greedy: b < 0 }, differences };
  } finally {
    session.destroy();
  }
}

/** Found logits, a list a stream, beside the wanted ones. */
function difference(
  found: readonly Float32Array[],
  wanted: Float32Array,
): Pick<Agreement, "nmse" | "largest"> {
  let error = 0;
  let power = 0;
  let largest = 0;
  let at = 0;
  for (const logits of found) {
    for (const x of logits) {
      const y = wanted[at++]!;
      error += (x - y) ** 2;
      power += y * y;
      largest = Math.max(largest, Math.abs(x - y));
    }
  }
  if (!Number.isFinite(error)) return { nmse: null, largest: null };
  return { nmse: error / (power || 1), largest };
}

function split(ids: Int32Array, B: number): number[][] {
  const each = ids.length / B;
  return Array.from({ length: B }, (_, b) => [...ids.subarray(b * each, (b + 1) * each)]);
}
