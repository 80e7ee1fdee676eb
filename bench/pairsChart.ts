import * as Plot from "@observablehq/plot";
import { type Canvas, frame, labelled, powers, seriesOf } from "./charts.ts";
import { contextOf, type Row } from "./row.ts";
import { formatCount } from "./units.ts";

/** Pairs of query and key that one generated token scores against the context, log-log; null where nothing grows. */
export function pairsChart(generated: readonly Row[], canvas: Canvas): SVGElement | null {
  const lines = seriesOf(generated.filter(({ theory_pairs }) => theory_pairs)).map(
    ({ label, colour, rows }) => ({ label, colour, points: pointsOf(rows, label, colour) }),
  );
  const all = lines.flatMap(({ points }) => points);
  if (new Set(all.map(({ x }) => x)).size < 2) return null;
  const x = powers(
    all.map((point) => point.x),
    0,
  );
  const y = powers(
    all.map((point) => point.y),
    0.7,
  );
  const log = { type: "log", base: 2, tickFormat: formatCount } as const;
  const chart = Plot.plot({
    ...frame(canvas),
    x: { ...log, ...x, label: "tokens in the context" },
    y: { ...log, ...y, label: "pairs a token" },
    marks: [
      Plot.gridY(y.ticks, { strokeOpacity: 0.12 }),
      ...lines.map(({ points, colour }) =>
        Plot.line(points, { x: "x", y: "y", stroke: colour, strokeWidth: 1.75 }),
      ),
      Plot.dot(all, { x: "x", y: "y", fill: "colour", stroke: "var(--surface)", r: 4.5, title: "title" }),
    ],
  }) as SVGElement & Plot.Plot;
  return labelled(
    chart,
    lines.map(({ points, ...line }) => ({ ...line, end: points.at(-1) })),
    canvas,
  );
}

function pointsOf(rows: readonly Row[], label: string, colour: string) {
  return rows
    .map((row) => {
      const pairs = (row.theory_pairs as number) / (row.n_gen * row.n_parallel);
      return {
        x: contextOf(row),
        y: pairs,
        colour,
        title: `${label}, ${row.test}: ${formatCount(pairs)} pairs a token`,
      };
    })
    .sort((a, b) => a.x - b.x);
}
