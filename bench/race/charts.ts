// The race's two charts: bytes against tokens, and tokens a second against tokens.

import * as Plot from "@observablehq/plot";
import { type Canvas, type Ended, frame, labelled, powers } from "../charts.ts";
import { formatCount, shortBytes } from "../units.ts";

export interface Line {
  label: string;
  colour: string;
  /** What theory says, over the whole way. */
  theory: readonly { x: number; y: number }[];
  /** What was measured. */
  points: readonly { x: number; y: number; title: string }[];
  /** A bound, not a model. */
  dashed?: boolean;
}

export type Scale = "linear" | "log";

export interface Axes {
  scale: Scale;
  /** The last token. */
  longest: number;
  /** Of the vertical axis. */
  what: string;
}

/** Measured points over the line of theory. null where there is neither. */
export function bytesChart(
  lines: readonly Line[],
  { scale, longest, what }: Axes,
  canvas: Canvas,
): SVGElement | null {
  const all = lines.flatMap(({ theory, points }) => [...theory, ...points]).filter(({ y }) => y > 0);
  if (all.length === 0) return null;
  const log = scale === "log";
  const ys = powers(
    all.map(({ y }) => y),
    0.6,
  );
  const most = Math.max(...all.map(({ y }) => y));
  const chart = Plot.plot({
    ...frame(canvas),
    x: horizontal(log, longest),
    y: log
      ? { type: "log", base: 2, domain: ys.domain, ticks: ys.ticks, tickFormat: tickBytes, label: what }
      : { domain: [0, most * 1.06], ticks: bytesTicks(most), tickFormat: tickBytes, label: what },
    marks: [
      Plot.gridY(log ? ys.ticks : bytesTicks(most), { strokeOpacity: 0.12 }),
      ...lines.map(({ theory, colour, dashed }) =>
        Plot.line(
          theory.filter(({ x, y }) => y > 0 && (!log || x > 0)),
          {
            x: "x",
            y: "y",
            stroke: colour,
            strokeWidth: 1.75,
            strokeOpacity: 0.75,
            ...(dashed ? { strokeDasharray: "4 4" } : {}),
          },
        ),
      ),
      ...dots(lines),
    ],
  }) as SVGElement & Plot.Plot;
  return labelled(
    chart,
    ends(lines, ({ theory, points }) => theory.at(-1) ?? points.at(-1)),
    canvas,
  );
}

/** Lines through what was measured. null where nothing was. */
export function speedChart(
  lines: readonly Line[],
  { scale, longest, what }: Axes,
  canvas: Canvas,
): SVGElement | null {
  const all = lines.flatMap(({ points }) => points).filter(({ y }) => y > 0);
  if (all.length === 0) return null;
  const log = scale === "log";
  const most = Math.max(...all.map(({ y }) => y));
  const least = Math.min(...all.map(({ y }) => y));
  const ticks = 5;
  const chart = Plot.plot({
    ...frame(canvas),
    x: horizontal(log, longest),
    y: log
      ? { type: "log", domain: [least / 1.4, most * 1.4], ticks, tickFormat: formatCount, label: what }
      : { domain: [0, most * 1.06], ticks, tickFormat: formatCount, label: what },
    marks: [
      Plot.gridY({ ticks, strokeOpacity: 0.12 }),
      ...lines.map(({ points, colour }) =>
        Plot.line(points, { x: "x", y: "y", stroke: colour, strokeWidth: 2 }),
      ),
      ...dots(lines),
    ],
  }) as SVGElement & Plot.Plot;
  return labelled(
    chart,
    ends(lines, ({ points }) => points.at(-1)),
    canvas,
  );
}

function horizontal(log: boolean, longest: number) {
  const label = "tokens in the context";
  if (!log) return { domain: [0, longest], ticks: 6, tickFormat: formatCount, label };
  const { domain, ticks } = powers([1, longest], 0);
  return { type: "log" as const, base: 2, domain, ticks, tickFormat: formatCount, label };
}

/** The last point of each line stands out, and the nearest one to the pointer says what it is. */
function dots(lines: readonly Line[]): Plot.Markish[] {
  const points = lines.flatMap(({ points, colour }) => points.map((point) => ({ ...point, colour })));
  const last = lines.flatMap(({ points, colour }) => {
    const end = points.at(-1);
    return end ? [{ ...end, colour }] : [];
  });
  const at = { x: "x", y: "y", fill: "colour" } as const;
  return [
    Plot.dot(points, { ...at, r: 2.5, fillOpacity: 0.8 }),
    Plot.dot(last, { ...at, r: 5, stroke: "var(--raised)", strokeWidth: 1.5 }),
    Plot.tip(
      points,
      Plot.pointer({
        x: "x",
        y: "y",
        title: "title",
        fill: "var(--raised)",
        stroke: "var(--field)",
        maxRadius: 60,
        lineHeight: 1.35,
      }),
    ),
  ];
}

function ends(lines: readonly Line[], end: (line: Line) => { x: number; y: number } | undefined): Ended[] {
  return lines.map((line) => ({ label: line.label, colour: line.colour, end: end(line) }));
}

/** At most five round numbers of bytes. */
function bytesTicks(most: number): number[] {
  const unit = 2 ** Math.floor(Math.log2(Math.max(most, 1) / 4));
  const step = most / unit > 6 ? 2 * unit : unit;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

/** Round numbers of bytes lie between powers of two, too: 1.5 MiB. */
const tickBytes = (bytes: number): string => shortBytes(bytes).replace(/(\.\d)0 /, "$1 ");
