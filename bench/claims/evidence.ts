// Evidence out of rows, and figures as text.

import { contextOf, type Row } from "../row.ts";
import { formatBytes, formatCount } from "../units.ts";
import type { Arithmetic, Cited, Evidence, Extrapolation, Measurement, Unit } from "./claim.ts";
import { type Growth, type Point, type Ratio, rate, timeExponent } from "./growth.ts";

export const cite = (row: Row, value: number): Cited => ({
  arch: row.arch,
  test: row.test,
  streams: row.n_parallel,
  value,
});

/** The tokens a second of a row. */
export const rated = (row: Row): Cited => ({ ...cite(row, rate(row)), unit: "t/s" });

/** The row's figure over the tokens in its context. */
export const pointsOf = (rows: readonly Row[], figure: (row: Row) => number): Point[] =>
  rows.map((row) => ({ tokens: contextOf(row), y: figure(row) }));

export const slopeOf = (
  what: string,
  { slope, exact }: Growth,
  rows: readonly Row[],
  figure: (row: Row) => number,
): Measurement => ({
  kind: "measurement",
  what,
  value: slope,
  unit: "B/token",
  exact,
  spread: null,
  rows: rows.map((row) => cite(row, figure(row))),
});

export const exponentOf = (
  what: string,
  { exponent, exact }: Growth,
  rows: readonly Row[],
  figure: (row: Row) => number,
): Measurement => ({
  kind: "measurement",
  what,
  value: exponent,
  unit: "exponent",
  exact,
  spread: null,
  rows: rows.map((row) => cite(row, figure(row))),
});

/** How many times as many tokens a second a row makes as another. */
export const ratioOf = (what: string, { value, spread }: Ratio, rows: readonly Row[]): Measurement => ({
  kind: "measurement",
  what,
  value,
  unit: "ratio",
  exact: false,
  spread,
  rows: rows.map(rated),
});

/** How a prompt's time grows with its length. */
export const timeOf = (arch: string, rows: readonly Row[]): Measurement & Pick<Ratio, "spread"> => {
  const { exponent, spread } = timeExponent(rows, (row) => row.n_prompt);
  return {
    kind: "measurement",
    what: `time of a prompt, ${arch}`,
    value: exponent,
    unit: "exponent",
    exact: false,
    spread,
    rows: rows.map(rated),
  };
};

/** A count of bytes, or a share of two: it has no spread. */
export const counted = (what: string, value: number, unit: Unit, rows: Cited[]): Measurement => ({
  kind: "measurement",
  what,
  value,
  unit,
  exact: true,
  spread: null,
  rows,
});

/** A figure of one row that rounds, and that no repetition repeats. */
export const rounded = (what: string, value: number, unit: Unit, row: Row): Measurement => ({
  ...counted(what, value, unit, [cite(row, value)]),
  exact: false,
});

export const arithmetic = (
  what: string,
  expression: string,
  value: number,
  unit: Unit,
  source: string,
): Arithmetic => ({ kind: "arithmetic", what, expression, value, unit, source });

export const extrapolation = (
  what: string,
  value: number,
  unit: Unit,
  tokens: number,
  rows: readonly Row[],
  figure: (row: Row) => number,
): Extrapolation => ({
  kind: "extrapolation",
  what,
  value,
  unit,
  tokens,
  fitted_on: { from: contextOf(rows[0]!), to: contextOf(rows.at(-1)!) },
  rows: rows.map((row) => cite(row, figure(row))),
});

/** Bytes of state, keys and values. */
export const held = (row: Row): number => (row.mem_state ?? 0) + (row.mem_kv ?? 0);

/** 160 GB: powers of 1,000, as the claims have them. */
export function decimalBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)));
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${units[power]}`;
}

/** A figure without more places than it deserves: 1,234, 12.3, 0.98. */
export const figure = (value: number): string =>
  Math.abs(value) >= 100 ? formatCount(value) : String(Number(value.toPrecision(3)));

export function showValue({ kind, value, unit }: Pick<Evidence, "kind" | "value" | "unit">): string {
  switch (unit) {
    case "B":
      // as the claims count, and as computers do
      return kind === "measurement" ? formatBytes(value) : `${decimalBytes(value)} (${formatBytes(value)})`;
    case "B/token":
      return `${figure(value)} B a token`;
    case "exponent":
      return `N^${value.toFixed(2)}`;
    case "ratio":
      return `${figure(value)} ×`;
    case "share":
      return `${figure(100 * value)}%`;
    case "pairs":
      return `${value < 1e9 ? formatCount(value) : value.toExponential().replace(/e\+/, " × 10^").replace(/^1 × /, "")} pairs`;
    case "streams/GiB":
      return `${formatCount(value)} a GiB`;
    case "bits/byte":
      return `${value.toFixed(4)} bits a byte`;
    default:
      return `${figure(value)} ${unit}`;
  }
}

/** What qualifies a figure: exact, its spread, its expression, the range that it was fitted on. */
export function showBasis(evidence: Evidence): string {
  switch (evidence.kind) {
    case "measurement":
      if (evidence.exact) return "measured, exact";
      return evidence.spread
        ? `measured, repetitions allow ${evidence.spread.map((end) => figure(end)).join(" to ")}`
        : "measured";
    case "arithmetic":
      return `arithmetic: ${evidence.expression} (${evidence.source})`;
    case "extrapolation": {
      const { from, to } = evidence.fitted_on;
      return `extrapolated to ${formatCount(evidence.tokens)} tokens from ${formatCount(from)} to ${formatCount(to)}`;
    }
  }
}

/** llama pp256 1 MiB, pp512 2 MiB: the rows behind a figure. */
export function showRows(evidence: Evidence): string {
  if (evidence.kind === "arithmetic") return "";
  let before = "";
  return evidence.rows
    .map(({ arch, test, streams, value, unit }) => {
      const name = arch === before ? "" : `${arch} `;
      before = arch;
      return `${name}${test}${streams > 1 ? ` ×${streams}` : ""}: ${figure(value)}${unit ? ` ${unit}` : ""}`;
    })
    .join(", ");
}

/** one, one and another, one, another and a third. */
export const list = (parts: readonly string[], word = "and"): string =>
  parts.length < 2 ? (parts[0] ?? "") : `${parts.slice(0, -1).join(", ")} ${word} ${parts.at(-1)}`;
