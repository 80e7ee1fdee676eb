// A racer's way as points, few enough to draw and to keep however long it is.

import { total } from "../../engine/memory.ts";
import type { Bytes } from "../../engine/tensor.ts";
import type { Sample } from "./racer.ts";

export interface TracePoint {
  /** Tokens in each stream's context, and those of them that were generated. */
  context: number;
  generated: number;
  /** Nanoseconds of the racer's own turns up to here. */
  ns: number;
  /** By category, our own count. */
  bytes: Bytes;
  /** State, keys and values by the ledger. */
  theory: number;
}

/** Where one racer was, from its prompt's end on. */
export interface Trace {
  arch: string;
  model: string;
  streams: number;
  points: TracePoint[];
}

/** More points than this are thinned: every second goes, of all but the first and the last. */
const MOST_POINTS = 400;

/** Adds what was seen. Turns of hundreds of thousands of tokens leave points that are evenly spread over them. */
export function addPoint(trace: Trace, { context, generated, turn, bytes, theory }: Sample): void {
  const { points } = trace;
  const before = points.at(-1);
  if (before && before.context === context) return;
  points.push({
    context,
    generated,
    ns: (before?.ns ?? 0) + turn.ns,
    bytes,
    theory: theory.state + theory.kv,
  });
  if (points.length > MOST_POINTS)
    trace.points = points.filter((_, i) => i % 2 === 0 || i === points.length - 1);
}

/** Bytes of state, keys and values: what is carried from token to token; or of everything. */
export const bytesAt = ({ bytes }: TracePoint, all: boolean): number =>
  all ? total(bytes) : bytes.state + bytes.kv;

/** Tokens a second, all streams together, between points: each over at least this share of the trace's tokens, so that noise stays small. */
export function speedsOf({ points, streams }: Trace, share = 0.02): { context: number; rate: number }[] {
  const last = points.at(-1)?.generated ?? 0;
  const speeds: { context: number; rate: number }[] = [];
  let from = points[0];
  for (const point of points.slice(1)) {
    if (point.generated - from!.generated < share * last || point.ns === from!.ns) continue;
    const rate = (streams * (point.generated - from!.generated) * 1e9) / (point.ns - from!.ns);
    speeds.push({ context: point.context, rate });
    from = point;
  }
  return speeds;
}
