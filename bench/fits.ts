// What --fit finds: how far an adapter goes with a model, and what ended it.

import type { Status } from "./row.ts";

/** One search over one model. */
export interface Fit {
  arch: string;
  model: string;
  /** The longest context of one stream, or the most streams at a context. */
  searched: (typeof searches)[number];
  /** What was found: tokens that each stream holds, and streams; null: not even the least that was tried. */
  n_context: number | null;
  n_parallel: number | null;
  ended_by: FitEnd;
  /** What ended it, in a sentence. */
  reason: string;
  /** Bytes that may be held, weights included, and who says so. */
  budget_bytes: number | null;
  budget_from: string | null;
  /** Held there, by our own count: all, and state and kv. */
  mem_live: number | null;
  mem_state: number | null;
  mem_kv: number | null;
  /** Tokens a second there, all streams together, and the fastest seen of as many streams at a small context. */
  avg_ts: number | null;
  small_context: number | null;
  small_ts: number | null;
  probes: number;
  seconds: number;
}

/**
 * budget: the bytes that may be held. adapter: it refused. speed: less than half of that at a small context. reach: the
 * model's own end. end: of the search, nothing was in the way. time, probes: used up. unsupported,
 * failed: the model could not be run.
 */
export type FitEnd =
  | "budget"
  | "adapter"
  | "speed"
  | "reach"
  | "end"
  | "time"
  | "probes"
  | "unsupported"
  | "failed";

/** Least tokens that each of the many streams holds: more than are timed. */
export const LEAST_CONTEXT = 128;

/** What --fit asks for. */
export interface FitSettings {
  /** Tokens that each of the many streams holds, at least LEAST_CONTEXT. */
  context: number;
  /** Of one search. */
  mostSeconds: number;
  /** Bytes of memory that the machine has to spare. */
  freeBytes: number;
}

export const searches = ["context", "streams"] as const;

export const nothingFound = {
  n_context: null,
  n_parallel: null,
  mem_live: null,
  mem_state: null,
  mem_kv: null,
  avg_ts: null,
  small_context: null,
  small_ts: null,
  probes: 0,
};

/** A search that could not be made. */
export const failedFit = (
  { arch, model }: Pick<Fit, "arch" | "model">,
  searched: Fit["searched"],
  { status, reason }: { status: Status; reason: string },
): Fit => ({
  ...nothingFound,
  arch,
  model,
  searched,
  ended_by: status === "unsupported" ? status : status === "refused" ? "adapter" : "failed",
  reason,
  budget_bytes: null,
  budget_from: null,
  seconds: 0,
});

/** Bytes that a fit may hold, and who says so. */
export interface Budget {
  bytes: number;
  from: string;
}

/**
 * In this order: --max-bytes; half of the largest heap on the device, where the adapter tells of heaps; half of the memory
 * that the machine has to spare. A software adapter's heap is the machine's own memory: there the smaller of the two
 * counts, since past it the system would kill the process before any error.
 */
export function budgetOf(
  maxBytes: number | null,
  { heapBytes, software, freeBytes }: { heapBytes: number | null; software: boolean; freeBytes: number },
): Budget {
  if (maxBytes !== null) return { bytes: maxBytes, from: "--max-bytes" };
  const heap = { bytes: Math.floor((heapBytes ?? 0) / 2), from: "half of the adapter's largest heap" };
  const free = { bytes: Math.floor(freeBytes / 2), from: "half of the machine's free memory" };
  return heapBytes === null || (software && free.bytes < heap.bytes) ? free : heap;
}

const count = (n: number): string => n.toLocaleString("en-US");

/** In a sentence. */
export function fitLine(fit: Fit): string {
  const { model, searched, reason } = fit;
  const streams = fit.n_parallel === 1 ? "stream" : "streams";
  const [what, unit] = searched === "context" ? ["longest context", "tokens"] : ["most streams", streams];
  const number = foundNumber(fit);
  return `${model}: ${what}: ${number === null ? "none" : `${number} ${unit}`} (${reason})`;
}

/** What was searched, as text; marked where nothing says that there is not more. */
export function foundNumber({ searched, n_context, n_parallel, ended_by }: Fit): string | null {
  const n = searched === "context" ? n_context : n_parallel;
  const open = ended_by === "end" || ended_by === "time" || ended_by === "probes";
  return n === null ? null : `${open ? "≥ " : ""}${count(n)}`;
}
