import * as Plot from "@observablehq/plot";
import { type Canvas, frame } from "../charts.ts";
import { type Row, rateText } from "../row.ts";
import { formatCount } from "../units.ts";
import { PEERS } from "./peer.ts";

/** By runtime, in the report's colours for series. */
export const peerColours: Readonly<Record<string, string>> = Object.fromEntries(
  PEERS.map((peer, i) => [peer, `var(--series-${[1, 8, 3, 4][i]})`]),
);

const ROW_HEIGHT = 34;

/** Tokens a second of each runtime, a model a line, of one test: log; null where nothing but longtape was timed. */
export function peersChart(
  rows: readonly Row[],
  { document, width }: Omit<Canvas, "height">,
): SVGElement | null {
  const timed = rows.filter(({ avg_ts }) => avg_ts !== null);
  if (new Set(timed.map(({ peer }) => peer)).size < 2) return null;
  const models = [...new Set(timed.map(({ model }) => model))];
  const canvas = { document, width, height: 70 + ROW_HEIGHT * models.length };
  const points = timed.map((row) => ({
    model: row.model,
    rate: row.avg_ts!,
    colour: peerColours[row.peer] ?? "currentColor",
    symbol: SYMBOLS[row.peer] ?? "circle",
    title: `${row.model}, ${row.peer}: ${rateText(row)} tokens a second`,
  }));
  const rates = points.map(({ rate }) => rate);
  const spans = models.map((model) => {
    const own = points.filter((point) => point.model === model).map(({ rate }) => rate);
    return { model, from: Math.min(...own), to: Math.max(...own) };
  });
  return Plot.plot({
    ...frame(canvas),
    marginLeft: 130,
    marginRight: 30,
    x: {
      type: "log",
      domain: [Math.min(...rates) / 1.3, Math.max(...rates) * 1.3],
      tickFormat: formatCount,
      ticks: 6,
      grid: true,
      label: "tokens a second",
    },
    y: { type: "band", domain: models, label: null },
    color: { type: "identity" },
    marks: [
      Plot.ruleY(spans, { y: "model", x1: "from", x2: "to", strokeOpacity: 0.25 }),
      Plot.dot(points, {
        x: "rate",
        y: "model",
        symbol: (point: { symbol: Plot.SymbolType }) => point.symbol,
        fill: "colour",
        stroke: "var(--surface)",
        r: 6,
        title: "title",
      }),
    ],
    symbol: { type: "identity" },
  }) as SVGElement & Plot.Plot;
}

/** A shape too, for who does not see the colour. */
const SYMBOLS: Readonly<Record<string, Plot.SymbolType>> = {
  longtape: "circle",
  "ort-webgpu": "square",
  "ort-wasm": "triangle",
  "tfjs-webgpu": "diamond",
};

/** The runtime's mark as a word beside its name in a legend. */
export const peerMark = (peer: string): string =>
  ({ circle: "●", square: "■", triangle: "▲", diamond: "◆" })[SYMBOLS[peer] as string] ?? "●";
