// Where one architecture's decode becomes faster, or smaller, than another's: speed by lines through the times that a run
// measured, bytes from the ledger's curves. Nothing is said of a depth that was not measured, or is marked where it is.

import { uniform } from "../models/random.ts";
import type { Curve, Row } from "./row.ts";
import { mean } from "./stats.ts";

/** Two models of one run. */
export interface Crossover {
  models: [string, string];
  /** Do the bytes that each holds grow with its context? null where no curve says. */
  grows: [boolean | null, boolean | null];
  /** One for each number of tokens generated and of streams that both were measured at, at two depths or more. */
  speed: SpeedCrossing[];
  /** Of one stream; null where a curve is missing. */
  bytes: BytesCrossing | null;
}

export interface SpeedCrossing {
  n_gen: number;
  n_parallel: number;
  /** Depths that both were measured at: all that is said holds between them. */
  from_depth: number;
  to_depth: number;
  /** The faster at either end, by the lines. */
  faster_first: string;
  faster_last: string;
  /** Depth at which `faster_last` becomes the faster; null: one is the faster at every depth between the two. */
  depth: number | null;
  /** The crossing's 95 % interval; null: an end that lies outside the depths measured. */
  depth_low: number | null;
  depth_high: number | null;
  /** An extrapolation: where the lines would meet past `to_depth`; null: nowhere there. */
  extrapolated_depth: number | null;
  /** Share of the resampled runs in which the same ones are the faster at both ends. */
  agreement: number;
  /** The fewest repetitions that a depth had: of few, resampling knows little. */
  repetitions: number;
}

export interface BytesCrossing {
  /** The one that holds fewer bytes of state and kv at one token, and at `to_context`; null: neither. */
  smaller_first: string | null;
  smaller_last: string | null;
  /** First context from which `smaller_last` stays the smaller; null: it is from one token on, or there is none. */
  context: number | null;
  /** Where the curves end. */
  to_context: number;
}

/** Nanoseconds of a token as a line over the depth. */
interface Line {
  base: number;
  slope: number;
}

const RESAMPLES = 2000;
const SEED = 1337;

/** Every pair of models that were generated from in this run, those whose bytes do not grow first in a pair. */
export function crossoversOf(rows: readonly Row[], curves: readonly Curve[]): Crossover[] {
  const generated = rows.filter(
    (row) => row.n_gen > 0 && row.n_prompt === 0 && row.status === "ok" && row.samples_ns !== null,
  );
  const random = uniform(SEED);
  const models = [...new Set(generated.map(({ model }) => model))].map((model) => {
    const points = curves.find((curve) => curve.model === model)?.points ?? [];
    const grows = points.length > 0 ? points.at(-1)!.bytes > points[0]!.bytes : null;
    return { model, points, grows };
  });
  // a state of fixed size and a window do the same work for every token: what slope there is, is noise
  const level = new Set(models.filter(({ grows }) => grows === false).map(({ model }) => model));
  const settings = groups(generated, ({ n_gen, n_parallel }) => `${n_gen} ${n_parallel}`).map((members) => ({
    n_gen: members[0]!.n_gen,
    n_parallel: members[0]!.n_parallel,
    lines: new Map(
      groups(members, ({ model }) => model).map((own) => {
        const { model } = own[0]!;
        return [model, fitted(own, random, level.has(model))];
      }),
    ),
  }));
  const pairs = models.flatMap((one, i) =>
    models
      .slice(i + 1)
      .map((other) => (one.grows === true && other.grows === false ? [other, one] : [one, other])),
  );
  return pairs.flatMap((pair) => {
    const [a, b] = pair as [(typeof models)[number], (typeof models)[number]];
    const speed = settings.flatMap(({ n_gen, n_parallel, lines }) => {
      const [p, q] = [lines.get(a.model), lines.get(b.model)];
      const crossing = p && q && speedCrossing(p, q);
      return crossing ? [{ n_gen, n_parallel, ...crossing }] : [];
    });
    if (speed.length === 0) return [];
    return [{ models: [a.model, b.model], grows: [a.grows, b.grows], speed, bytes: bytesCrossing(a, b) }];
  });
}

function groups(rows: readonly Row[], key: (row: Row) => string): Row[][] {
  const lists = new Map<string, Row[]>();
  for (const row of rows) lists.set(key(row), [...(lists.get(key(row)) ?? []), row]);
  return [...lists.values()];
}

/** One model's times of a token, and the line through them. */
interface Fitted {
  model: string;
  /** By depth, one a repetition. */
  samples: ReadonlyMap<number, readonly number[]>;
  line: Line;
  /** The line again, through repetitions drawn with replacement at each depth. */
  resampled: Line[];
}

function fitted(rows: readonly Row[], random: () => number, flat: boolean): Fitted {
  const samples = new Map<number, number[]>();
  for (const row of rows) {
    const times = row.samples_ns!.map((ns) => ns / row.n_gen);
    samples.set(row.n_depth, [...(samples.get(row.n_depth) ?? []), ...times]);
  }
  const draw = (list: readonly number[]) => list.map(() => list[Math.floor(random() * list.length)]!);
  const resampled = Array.from({ length: RESAMPLES }, () =>
    lineThrough(new Map([...samples].map(([depth, list]) => [depth, draw(list)])), flat),
  );
  return { model: rows[0]!.model, samples, line: lineThrough(samples, flat), resampled };
}

/** Least squares over all repetitions, slope at least 0: no token costs less for coming later. */
function lineThrough(samples: ReadonlyMap<number, readonly number[]>, flat: boolean): Line {
  const points = [...samples].flatMap(([x, list]) => list.map((y) => ({ x, y })));
  const x = mean(points.map((point) => point.x));
  const y = mean(points.map((point) => point.y));
  const spread = points.reduce((sum, point) => sum + (point.x - x) ** 2, 0);
  const rise = points.reduce((sum, point) => sum + (point.x - x) * (point.y - y), 0);
  const slope = flat || spread === 0 ? 0 : Math.max(0, rise / spread);
  return { base: y - slope * x, slope };
}

const at = ({ base, slope }: Line, depth: number): number => base + slope * depth;

function speedCrossing(p: Fitted, q: Fitted): Omit<SpeedCrossing, "n_gen" | "n_parallel"> | null {
  const depths = [p, q].map(({ samples }) => [...samples.keys()]);
  const from = Math.max(...depths.map((list) => Math.min(...list)));
  const to = Math.min(...depths.map((list) => Math.max(...list)));
  if (!(from < to)) return null;
  const faster = (a: Line, b: Line, depth: number) => (at(a, depth) <= at(b, depth) ? p : q);
  const first = faster(p.line, q.line, from);
  const last = faster(p.line, q.line, to);
  const ends = p.resampled.map((line, i) => {
    const other = q.resampled[i]!;
    return { line, other, first: faster(line, other, from), last: faster(line, other, to) };
  });
  const same = ends.filter((end) => end.first === first && end.last === last);
  const meets = meeting(p.line, q.line);
  // a resampled run in which it is the faster all along has crossed before, one in which it never is crosses later
  const crossings = ends.map((end) => {
    if (end.last !== last) return Number.POSITIVE_INFINITY;
    return end.first === last ? Number.NEGATIVE_INFINITY : meeting(end.line, end.other);
  });
  const sorted = crossings.sort((a, b) => a - b);
  const end = (share: number) => {
    const depth = sorted[Math.round(share * (sorted.length - 1))]!;
    return Number.isFinite(depth) ? depth : null;
  };
  const crosses = first !== last;
  return {
    from_depth: from,
    to_depth: to,
    faster_first: first.model,
    faster_last: last.model,
    depth: crosses ? meets : null,
    depth_low: crosses ? end(0.025) : null,
    depth_high: crosses ? end(0.975) : null,
    extrapolated_depth: !crosses && Number.isFinite(meets) && meets > to ? meets : null,
    agreement: same.length / ends.length,
    repetitions: Math.min(
      ...[p, q].flatMap(({ samples }) => [...samples.values()].map((list) => list.length)),
    ),
  };
}

/** Depth at which two lines meet; Infinity where they are parallel. */
const meeting = (p: Line, q: Line): number =>
  p.slope === q.slope ? Number.POSITIVE_INFINITY : (q.base - p.base) / (p.slope - q.slope);

/** Between their points the curves are level, since both sides of every page are among them. */
function bytesCrossing(
  a: Pick<Curve, "model" | "points">,
  b: Pick<Curve, "model" | "points">,
): BytesCrossing | null {
  const from = Math.max(...[a, b].map(({ points }) => points[0]?.context ?? 1));
  const to = Math.min(...[a, b].map(({ points }) => points.at(-1)?.context ?? 0));
  const contexts = [...new Set([...a.points, ...b.points].map(({ context }) => context))]
    .filter((context) => context >= from && context <= to)
    .sort((x, y) => x - y);
  if (contexts.length === 0) return null;
  const bytesAt = ({ points }: Pick<Curve, "points">, context: number) =>
    points.findLast((point) => point.context <= context)!.bytes;
  const smaller = contexts.map((context) => {
    const difference = bytesAt(a, context) - bytesAt(b, context);
    return difference === 0 ? null : difference < 0 ? a.model : b.model;
  });
  const last = smaller.at(-1)!;
  const before = smaller.findLastIndex((model) => model !== last);
  return {
    smaller_first: smaller[0]!,
    smaller_last: last,
    context: before < 0 ? null : contexts[before + 1]!,
    to_context: to,
  };
}
