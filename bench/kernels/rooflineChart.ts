import * as Plot from "@observablehq/plot";
import { type Canvas, frame } from "../charts.ts";
import { formatNs } from "../units.ts";
import type { KernelTime, Roofs } from "./kernelTime.ts";

/**
 * GF/s over FLOPs a byte, log-log, under the two roofs (Williams et al. 2009, "Roofline"): the slope that reading
 * allows, and the level that multiply-adds do.
 */
export function rooflineChart(
  kernels: readonly KernelTime[],
  roofs: Roofs | undefined,
  canvas: Canvas,
): SVGElement | null {
  const shown = kernels.filter((time) => time.gflops !== null && time.flops > 0 && time.bytes > 0);
  if (shown.length === 0 || !roofs) return null;
  const dots = shown
    .map((time) => ({
      x: time.flops / time.bytes,
      y: time.gflops!,
      won: time.won,
      title: `${time.kernel} ${time.variant}, ${time.sizes}: ${formatNs(time.min_ns!)}`,
    }))
    // winners on top
    .sort((a, b) => Number(a.won) - Number(b.won));
  const x = decades([...dots.map((dot) => dot.x), roofs.gflops / roofs.read_gbs]);
  const y = decades([...dots.map((dot) => dot.y), roofs.gflops]);
  const ridge = roofs.gflops / roofs.read_gbs;
  const roof = [
    { x: x[0], y: x[0] * roofs.read_gbs },
    { x: ridge, y: roofs.gflops },
    { x: x[1], y: roofs.gflops },
  ];
  return Plot.plot({
    ...frame(canvas),
    x: { type: "log", domain: x, label: "FLOPs a byte", ticks: powersOfTen(x), tickFormat: String },
    y: { type: "log", domain: y, label: "GF/s", ticks: powersOfTen(y), tickFormat: String, clamp: true },
    marks: [
      Plot.gridY(powersOfTen(y), { strokeOpacity: 0.12 }),
      Plot.gridX(powersOfTen(x), { strokeOpacity: 0.06 }),
      Plot.line(roof, { x: "x", y: "y", stroke: "currentColor", strokeOpacity: 0.6, strokeWidth: 1.75 }),
      Plot.text([roof[2]!], {
        x: "x",
        y: "y",
        text: ["multiply-adds"],
        dx: 8,
        textAnchor: "start",
      }),
      Plot.dot(dots, {
        x: "x",
        y: "y",
        fill: (dot) => (dot.won ? "var(--series-1)" : "transparent"),
        stroke: (dot) => (dot.won ? "var(--surface)" : "var(--series-14)"),
        r: 4,
        title: "title",
      }),
    ],
  }) as SVGElement;
}

const powersOfTen = ([low, high]: [number, number]): number[] =>
  Array.from({ length: Math.round(Math.log10(high / low)) + 1 }, (_, i) =>
    Number((low * 10 ** i).toPrecision(1)),
  );

/** A domain of whole powers of ten around the values. */
function decades(values: readonly number[]): [number, number] {
  return [
    10 ** Math.floor(Math.log10(Math.min(...values))),
    10 ** Math.ceil(Math.log10(Math.max(...values))),
  ];
}
