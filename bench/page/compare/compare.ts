// Two results files, row by row.

import * as v from "valibot";
import { measuredBytes, type Results, type Row } from "../../row.ts";

/** The same test of the same model in the same runtime, in two runs. */
export interface Pair {
  key: string;
  model: string;
  test: string;
  peer: string;
  before: Row | null;
  after: Row | null;
  /** Tokens a second after over before, and whether the repetitions of the two overlap. */
  speed: number | null;
  overlap: boolean;
  /** Bytes carried, after less before. */
  bytes: number | null;
}

const Shape = v.looseObject({
  schema: v.literal("longtape/1"),
  environment: v.looseObject({ started: v.string() }),
  rows: v.array(v.looseObject({ model: v.string(), test: v.string(), peer: v.string() })),
});

/** Throws an error that says what a file lacks. */
export function parseResults(name: string, text: string): Results {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new Error(`${name} is no JSON (${(cause as Error).message})`, { cause });
  }
  const parsed = v.safeParse(Shape, json);
  if (parsed.success) return parsed.output as unknown as Results;
  const [issue] = parsed.issues;
  const where = v.getDotPath(issue) ?? "the file";
  throw new Error(`${name} is no results.json of longtape: ${where}: ${issue.message}`);
}

export function compare(before: Results, after: Results): Pair[] {
  const keys = new Map<string, { before: Row | null; after: Row | null }>();
  const keyOf = ({ peer, model, test, n_parallel, n_ubatch }: Row) =>
    [model, test, peer, n_parallel, n_ubatch].join(" ");
  for (const row of before.rows) keys.set(keyOf(row), { before: row, after: null });
  for (const row of after.rows) {
    const found = keys.get(keyOf(row));
    keys.set(keyOf(row), { before: found?.before ?? null, after: row });
  }
  return [...keys].map(([key, { before, after }]) => {
    const { model, test, peer } = (before ?? after)!;
    const speed = before?.avg_ts && after?.avg_ts ? after.avg_ts / before.avg_ts : null;
    const carried = [before, after].map((row) => row && measuredBytes(row));
    const bytes = carried[0] != null && carried[1] != null ? carried[1] - carried[0] : null;
    return { key, model, test, peer, before, after, speed, overlap: overlaps(before, after), bytes };
  });
}

/** Do the repetitions of the two runs share a range? Then what differs may be noise. */
function overlaps(before: Row | null, after: Row | null): boolean {
  const [a, b] = [before?.samples_ts ?? [], after?.samples_ts ?? []];
  if (a.length === 0 || b.length === 0) return false;
  return Math.min(...a) <= Math.max(...b) && Math.min(...b) <= Math.max(...a);
}
