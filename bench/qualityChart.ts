import * as Plot from "@observablehq/plot";
import { type Canvas, colours, frame, labelled, powers } from "./charts.ts";
import type { Quality } from "./row.ts";
import { formatCount } from "./units.ts";

/** The length of the windows that the shipped models were trained on. */
const TRAINED_WINDOW = 256;

/** Bits a byte against the position in one long stream. */
export function qualityChart(quality: readonly Quality[], canvas: Canvas): SVGElement | null {
  const shown = quality.filter(({ points }) => points.length > 0);
  if (shown.length === 0) return null;
  const colourOf = colours([...new Set(quality.map(({ arch }) => arch))]);
  const lines = shown.map(({ arch, model, points }) => ({
    label: model,
    colour: colourOf.get(arch)!,
    points: points.map(({ context, bits_per_byte }) => ({ x: context, y: bits_per_byte })),
  }));
  const dots = lines.flatMap(({ label, colour, points }) =>
    points.map((point) => ({
      ...point,
      colour,
      title: `${label}, up to token ${formatCount(point.x)}: ${point.y.toFixed(4)} bits a byte`,
    })),
  );
  const x = powers(
    dots.map((dot) => dot.x),
    0,
  );
  const chart = Plot.plot({
    ...frame(canvas),
    x: {
      type: "log",
      base: 2,
      domain: x.domain,
      ticks: x.ticks,
      tickFormat: formatCount,
      label: "position in the stream, tokens",
    },
    y: { domain: [0, Math.max(...dots.map(({ y }) => y)) * 1.05], ticks: 6, label: "bits a byte" },
    marks: [
      Plot.gridY({ ticks: 6, strokeOpacity: 0.12 }),
      Plot.ruleX([TRAINED_WINDOW], { strokeOpacity: 0.4, strokeDasharray: "3 4" }),
      ...lines.map(({ points, colour }) =>
        Plot.line(points, { x: "x", y: "y", stroke: colour, strokeWidth: 1.75 }),
      ),
      Plot.dot(dots, { x: "x", y: "y", fill: "colour", stroke: "var(--surface)", r: 4.5, title: "title" }),
    ],
  }) as SVGElement & Plot.Plot;
  return labelled(
    chart,
    lines.map(({ points, ...line }) => ({ ...line, end: points.at(-1) })),
    canvas,
  );
}
