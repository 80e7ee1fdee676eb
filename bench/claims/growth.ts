// How figures grow with the context, and how far repetitions let one tell two of them apart.

import type { Row } from "../row.ts";
import { median, quantile } from "../stats.ts";

/** y: bytes, or nanoseconds. */
export interface Point {
  tokens: number;
  y: number;
}

export interface Growth {
  /** More of y for a token more, over the whole range. */
  slope: number;
  /** Of (y - base) against the tokens, fitted to the logarithms; 0 where y never changes. */
  exponent: number;
  /** y at 0 tokens. */
  base: number;
  /** Does every point lie on the fit, to rounding? */
  exact: boolean;
}

/** Doubles lose less than this in a fit of a few points. */
const ROUNDING = 1e-9;
/** Nothing that one measures here grows faster. */
const STEEPEST = 8;

/**
 * Fits y = base + factor * tokens^exponent by least squares of the logarithms. `base` is y at 0 tokens; null: it is
 * solved from the first, a middle and the last point, which takes three and a y that grows.
 */
export function growth(points: readonly Point[], base: number | null): Growth {
  const [first, last] = [points[0]!, points.at(-1)!];
  if (points.every(({ y }) => y === first.y)) return { slope: 0, exponent: 0, base: first.y, exact: true };
  const slope = (last.y - first.y) / (last.tokens - first.tokens);
  if (base === null) {
    const start = first.y - slope * first.tokens;
    const straight = points.every(({ tokens, y }) => near(y, start + slope * tokens));
    if (straight) return { slope, exponent: 1, base: start, exact: true };
    const exponent = solve(first, points[points.length >> 1]!, last);
    const factor = (last.y - first.y) / (last.tokens ** exponent - first.tokens ** exponent);
    return { slope, exponent, base: last.y - factor * last.tokens ** exponent, exact: false };
  }
  const exponent = fitLine(points.map(({ tokens, y }) => [Math.log(tokens), Math.log(y - base)])).slope;
  const factor = (last.y - base) / last.tokens ** exponent;
  const exact = points.every(({ tokens, y }) => near(y, base + factor * tokens ** exponent));
  return { slope, exponent, base, exact };
}

/**
 * The points from which on y is a straight line, three at least; all where there is no such line. Scratch is the most that
 * one dispatch asks, so at short contexts a part of fixed size hides what grows.
 */
export function settled(points: readonly Point[]): readonly Point[] {
  for (let i = 0; i + 3 <= points.length; i++) {
    const rest = points.slice(i);
    if (growth(rest, null).exact) return rest;
  }
  return points;
}

/** Exponent of time against tokens, from the fastest repetitions; its spread is what the two ends allow. */
export function timeExponent(rows: readonly Row[], tokensOf: (row: Row) => number) {
  const points = rows.map((row) => [Math.log(tokensOf(row)), Math.log(fastest(row))] as const);
  const [first, last] = [rows[0]!, rows.at(-1)!];
  const span = Math.log(tokensOf(last) / tokensOf(first));
  const spread: [number, number] = [
    Math.log(fastest(last) / slowest(first)) / span,
    Math.log(slowest(last) / fastest(first)) / span,
  ];
  return { exponent: fitLine(points).slope, spread };
}

/** y = intercept + slope * x. */
export function fitLine(points: readonly (readonly [number, number])[]): {
  slope: number;
  intercept: number;
} {
  const mean = (of: (p: readonly [number, number]) => number) =>
    points.reduce((sum, p) => sum + of(p), 0) / points.length;
  const [x, y] = [mean((p) => p[0]), mean((p) => p[1])];
  const slope = mean((p) => (p[0] - x) * (p[1] - y)) / mean((p) => (p[0] - x) ** 2);
  return { slope, intercept: y - slope * x };
}

/** The nearest whole power that a fitted exponent stands for; null where it stands for none. */
export function powerOf(exponent: number): number | null {
  const nearest = Math.round(exponent);
  return Math.abs(exponent - nearest) <= POWER_TOLERANCE ? nearest : null;
}
/** Padding and what a kernel keeps besides bend an exponent by a few hundredths; half way to the next power is 0.5. */
const POWER_TOLERANCE = 0.15;

/**
 * A ratio of the fastest repetitions, and the least and the most that pairs from their faster halves give: what disturbs a
 * run only adds time.
 */
export interface Ratio {
  value: number;
  spread: [number, number];
}

/** Tokens a second of one row over another's. */
export const rateRatio = (a: Row, b: Row): Ratio => ({
  value: rate(a) / rate(b),
  spread: [slowRate(a) / rate(b), rate(a) / slowRate(b)],
});

/** Tokens a second of the fastest repetition, all streams together, and of the slowest in the faster half. */
export const rate = (row: Row): number => quantile(rates(row), 1);
const slowRate = (row: Row): number => median(rates(row));
const rates = (row: Row): readonly number[] => row.samples_ts ?? [row.avg_ts!];

/** Every pair of repetitions on one side of `of`: 1 above, -1 below; 0 where they are on both. */
export const side = ({ spread }: Ratio, of = 1): -1 | 0 | 1 => (spread[0] > of ? 1 : spread[1] < of ? -1 : 0);

/** Nanoseconds of the fastest repetition, and of the slowest in the faster half. */
export const fastest = (row: Row): number => quantile(times(row), 0);
export const slowest = (row: Row): number => median(times(row));
const times = (row: Row): readonly number[] => row.samples_ns ?? [row.avg_ns!];

const near = (a: number, b: number): boolean =>
  Math.abs(a - b) <= ROUNDING * Math.max(Math.abs(a), Math.abs(b));

/** The exponent p of base + factor * n^p through three points: their two differences alone decide it. */
function solve(a: Point, b: Point, c: Point): number {
  const wanted = (c.y - b.y) / (b.y - a.y);
  const found = (p: number) => (c.tokens ** p - b.tokens ** p) / (b.tokens ** p - a.tokens ** p);
  let [low, high] = [1e-6, STEEPEST];
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2;
    if (found(middle) < wanted) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
