import * as Plot from "@observablehq/plot";
import { type Curve, contextOf, measuredBytes, type Row, theoryBytes } from "./row.ts";
import { formatBytes, formatCount, shortBytes } from "./units.ts";

/** Rows that belong on one line: they differ in size and depth only. */
export interface Series {
  label: string;
  arch: string;
  colour: string;
  rows: Row[];
}

/** Charts are drawn into this document: the page's own, or linkedom's in Node. */
export interface Canvas {
  document: Document;
  width: number;
  height: number;
  /** Room for the lines' names, and pixels of a letter; the report's, where nothing is said. */
  right?: number;
  font?: number;
}

const RIGHT = 132;
const FONT = 12;

/** Hues are kept by family as far as they reach: recurrent cells, attention, linear attention, state space. */
const slots = new Map(
  Object.entries({
    elman: 3,
    gru: 2,
    lstm: 4,
    llama: 6,
    "mistral-window": 8,
    "linear-attention": 5,
    gla: 7,
    mamba: 1,
    sinks: 9,
    local: 10,
    strided: 11,
    materialised: 12,
    jamba: 13,
  }),
);
/** The first hybrid's; others take free ones. */
const HYBRID_SLOT = 14;

/** On light and on dark, by slot. From the ninth on each is 0.12 or more from all others in OKLab, at a contrast of 3 or more. */
const hues = [
  ["#2a78d6", "#3987e5"],
  ["#1baf7a", "#199e70"],
  ["#eda100", "#c98500"],
  ["#008300", "#3fa53f"],
  ["#4a3aa7", "#9085e9"],
  ["#e34948", "#e66767"],
  ["#e87ba4", "#d55181"],
  ["#eb6834", "#d95926"],
  ["#9c6c34", "#916951"],
  ["#d048bd", "#f684d0"],
  ["#404600", "#9eae80"],
  ["#793e3b", "#eaa295"],
  ["#3b6c81", "#31c2e4"],
  ["#928bad", "#c5c6e5"],
] as const;

/** The colours behind the slots, by colour scheme; the report and the page put them in their style sheet. */
export const palette = { light: hues.map(([light]) => light), dark: hues.map(([, dark]) => dark) };

/** An architecture keeps its colour in every run; one without a place of its own takes a free one, or ink. */
export function colours(archs: readonly string[]): Map<string, string> {
  const first = archs.find((arch) => arch.startsWith("hybrid:"));
  const slotOf = (arch: string) => (arch === first ? HYBRID_SLOT : slots.get(arch));
  const taken = new Set(archs.map(slotOf));
  const free = palette.light.map((_, i) => i + 1).filter((slot) => !taken.has(slot));
  const others = archs.filter((arch) => slotOf(arch) === undefined);
  return new Map(
    archs.map((arch) => {
      const slot = slotOf(arch) ?? free[others.indexOf(arch)];
      return [arch, slot === undefined ? "currentColor" : `var(--series-${slot})`];
    }),
  );
}

/** The class that gives an element this colour as `--tone`, where a style sheet may not stand in the element. */
export const toneOf = (colour: string): string => /--(series-\d+)/.exec(colour)?.[1] ?? "series-none";

/** Groups rows by what they measured; a label says only what tells the groups apart. */
export function seriesOf(rows: readonly Row[], extra: (row: Row) => string = () => ""): Series[] {
  const archs = [...new Set(rows.map((row) => row.arch))];
  const colourOf = colours(archs);
  const several = (of: (row: Row) => unknown) => new Set(rows.map(of)).size > 1;
  const modelsDiffer = archs.some(
    (arch) => new Set(rows.filter((row) => row.arch === arch).map((row) => row.model)).size > 1,
  );
  const peers = several((row) => row.peer);
  const streams = several((row) => row.n_parallel);
  const extras = several(extra);
  const groups = new Map<string, Row[]>();
  for (const row of rows) groups.set(label(row), [...(groups.get(label(row)) ?? []), row]);
  return [...groups].map(([name, members]) => {
    const arch = (members[0] as Row).arch;
    return { label: name, arch, colour: colourOf.get(arch) as string, rows: members };
  });

  function label(row: Row): string {
    const parts = [modelsDiffer ? row.model : row.arch, extras && extra(row), peers && row.peer];
    return [...parts, streams && `×${row.n_parallel}`].filter(Boolean).join(" ");
  }
}

/** Bytes of state and kv against the context, log-log: measured points over the ledger's line. */
export function bytesChart(
  rows: readonly Row[],
  curves: readonly Curve[],
  canvas: Canvas,
): SVGElement | null {
  return overContext("state + keys and values", rows, measuredBytes, theoryBytes, curves, canvas);
}

/** Bytes of scratch against the context, log-log: what a forward works in and forgets. */
export function scratchChart(rows: readonly Row[], canvas: Canvas): SVGElement | null {
  return overContext(
    "scratch",
    rows,
    (row) => row.mem_scratch,
    (row) => row.theory_scratch,
    [],
    canvas,
  );
}

type BytesOf = (row: Row) => number | null;

function overContext(
  what: string,
  rows: readonly Row[],
  measured: BytesOf,
  predicted: BytesOf,
  curves: readonly Curve[],
  canvas: Canvas,
): SVGElement | null {
  const series = seriesOf(rows.filter((row) => (measured(row) ?? predicted(row) ?? 0) > 0));
  const lines = series.map(({ rows, label, colour }) => ({
    label,
    colour,
    points: theory(rows, predicted, curves),
  }));
  const dots = series.flatMap(({ rows, label, colour }) =>
    rows.flatMap((row) => {
      const bytes = measured(row);
      if (!bytes) return [];
      return {
        x: contextOf(row),
        y: bytes,
        colour,
        title: `${label}, ${row.test}: ${formatBytes(bytes)} measured`,
      };
    }),
  );
  const all = [...lines.flatMap(({ points }) => points), ...dots];
  if (all.length === 0) return null;
  const x = powers(
    all.map((point) => point.x),
    0,
  );
  const y = powers(
    all.map((point) => point.y),
    0.7,
  );
  const chart = Plot.plot({
    ...frame(canvas),
    x: {
      type: "log",
      base: 2,
      domain: x.domain,
      ticks: x.ticks,
      tickFormat: formatCount,
      label: "tokens in the context",
    },
    y: {
      type: "log",
      base: 2,
      domain: y.domain,
      ticks: y.ticks,
      tickFormat: shortBytes,
      label: what,
    },
    marks: [
      Plot.gridY(y.ticks, { strokeOpacity: 0.12 }),
      Plot.gridX(x.ticks, { strokeOpacity: 0.06 }),
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

/** Tokens a second against depth, or of prompts against their length; where every row has the same, bars. */
export function speedChart(rows: readonly Row[], canvas: Canvas): SVGElement | null {
  const timed = rows.filter((row) => row.status === "ok" && row.avg_ts !== null);
  if (timed.length === 0) return null;
  const lengths = new Set(timed.map((row) => row.n_prompt));
  if (lengths.size > 1 && timed.every((row) => row.n_depth === 0 && row.n_gen === 0))
    return speedLines(
      seriesOf(timed),
      (row) => row.n_prompt,
      "tokens of the prompt",
      Math.min(...lengths),
      canvas,
    );
  const series = seriesOf(
    timed,
    ({ n_prompt, n_gen }) => `${n_prompt || ""}${n_prompt && n_gen ? "+" : ""}${n_gen || ""}`,
  );
  const depths = [...new Set(timed.map((row) => row.n_depth))].sort((a, b) => a - b);
  if (depths.length === 1) return speedBars(series, canvas);
  return speedLines(series, (row) => row.n_depth, "depth: tokens already in the context", 0, canvas);
}

function speedLines(
  series: Series[],
  tokensOf: (row: Row) => number,
  axis: string,
  from: number,
  canvas: Canvas,
): SVGElement {
  const lines = series.map(({ rows, label, colour }) => ({
    label,
    colour,
    points: rows
      .map((row) => ({ ...speedPoint(row, label, colour), x: tokensOf(row) }))
      .sort((a, b) => a.x - b.x),
  }));
  const points = lines.flatMap(({ points }) => points);
  const highest = Math.max(...points.map(({ high }) => high));
  const lowest = Math.min(...points.map(({ y }) => y));
  // Zero is the honest floor; only rates too far apart to share it are put on a log scale.
  const log = highest > 30 * lowest;
  const depths = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b);
  const smallest = depths.find((depth) => depth > 0) ?? 1;
  const last = depths.at(-1) as number;
  const chart = Plot.plot({
    ...frame(canvas),
    // Stretches of one stream are equally long. Depths of tests double: a symmetric log shows them evenly and has a place for 0.
    x: {
      ...(equallySpaced(depths) ? { type: "linear" } : { type: "symlog", constant: smallest / 2 }),
      domain: [from, last],
      ticks: thin(depths),
      tickFormat: formatCount,
      label: axis,
    },
    y: log
      ? {
          type: "log",
          domain: [lowest / 1.3, highest * 1.1],
          ticks: 6,
          tickFormat: formatCount,
          label: "tokens a second",
        }
      : { domain: [0, highest * 1.05], ticks: 6, tickFormat: formatCount, label: "tokens a second" },
    marks: [
      Plot.gridY({ ticks: 6, strokeOpacity: 0.12 }),
      ...lines.map(({ points, colour }) =>
        Plot.line(points, { x: "x", y: "y", stroke: colour, strokeWidth: 1.75 }),
      ),
      Plot.ruleX(points, { x: "x", y1: "low", y2: "high", stroke: "colour" }),
      Plot.dot(points, { x: "x", y: "y", fill: "colour", stroke: "var(--surface)", r: 4.5, title: "title" }),
    ],
  }) as SVGElement & Plot.Plot;
  return labelled(
    chart,
    lines.map(({ points, ...line }) => ({ ...line, end: points.at(-1) })),
    canvas,
  );
}

function speedBars(series: Series[], canvas: Canvas): SVGElement {
  const bars = series.flatMap(({ rows, label, colour }) =>
    rows.map((row) => ({ ...speedPoint(row, label, colour), label })),
  );
  const left = 14 + 7 * Math.max(...bars.map(({ label }) => label.length));
  return Plot.plot({
    ...frame({ ...canvas, height: 56 + 30 * bars.length }),
    marginLeft: left,
    marginRight: 64,
    x: {
      domain: [0, Math.max(...bars.map(({ high }) => high)) * 1.02],
      ticks: 5,
      tickFormat: formatCount,
      label: "tokens a second",
    },
    y: { domain: [...new Set(bars.map(({ label }) => label))], label: null, tickSize: 0, padding: 0.3 },
    marks: [
      Plot.gridX({ ticks: 5, strokeOpacity: 0.12 }),
      Plot.barX(bars, { x: "y", y: "label", fill: "colour", rx2: 3, title: "title" }),
      Plot.ruleY(bars, { x1: "low", x2: "high", y: "label", stroke: "currentColor" }),
      Plot.text(bars, { x: "high", y: "label", text: ({ y }) => rate(y), dx: 6, textAnchor: "start" }),
    ],
  }) as SVGElement;
}

function speedPoint(row: Row, label: string, colour: string) {
  const y = row.avg_ts as number;
  const sd = row.stddev_ts ?? 0;
  const title = `${label}, ${row.test}: ${y.toFixed(2)} ± ${sd.toFixed(2)} tokens a second`;
  return { y, low: Math.max(0, y - sd), high: y + sd, colour, title };
}

/** The ledger's bytes over the context: its curve if the run kept one, and always the rows' own sizes. */
function theory(
  rows: readonly Row[],
  predicted: BytesOf,
  curves: readonly Curve[],
): { x: number; y: number }[] {
  const [first] = rows;
  // A curve is of one stream of longtape.
  const curve = curves.find(({ arch, model }) => arch === first?.arch && model === first.model);
  const fits = curve && first?.peer === "longtape" && first.n_parallel === 1;
  const points = new Map(fits ? curve.points.map(({ context, bytes }) => [context, bytes]) : []);
  for (const row of rows) {
    const bytes = predicted(row);
    if (bytes) points.set(contextOf(row), bytes);
  }
  return [...points]
    .filter(([context, bytes]) => context > 0 && bytes > 0)
    .map(([x, y]) => ({ x, y }))
    .sort((a, b) => a.x - b.x);
}

export const frame = ({ document, width, height, right = RIGHT, font = FONT }: Canvas) => ({
  document,
  width,
  height,
  marginLeft: (64 * font) / FONT,
  marginRight: right,
  marginTop: (28 * font) / FONT,
  marginBottom: (40 * font) / FONT,
  style: { fontSize: `${font}px` },
});

export interface Ended {
  label: string;
  colour: string;
  end: { x: number; y: number } | undefined;
}

/** Names each line at its right end; names that would overlap are moved apart and tied to their line. */
export function labelled(
  chart: SVGElement & Plot.Plot,
  lines: Ended[],
  { document, width, height, right = RIGHT, font = FONT }: Canvas,
): SVGElement {
  const x = chart.scale("x");
  const y = chart.scale("y");
  const left = width - right + 18;
  const gap = font + 3;
  const ends = lines
    .flatMap(({ label, colour, end }) =>
      end ? { label, colour, x: x?.apply(end.x), y: y?.apply(end.y), at: 0 } : [],
    )
    .sort((a, b) => a.y - b.y);
  let floor = 20;
  for (const end of ends) {
    end.at = Math.max(end.y, floor);
    floor = end.at + gap;
  }
  let ceiling = height - (46 * font) / FONT;
  for (const end of ends.toReversed()) {
    end.at = Math.min(end.at, ceiling);
    ceiling = end.at - gap;
  }
  const draw = (name: string, attributes: Record<string, string | number>, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    element.textContent = text;
    chart.append(element);
  };
  for (const end of ends) {
    const path = `M${end.x + 7},${end.y}L${left - 4},${end.at}`;
    // a line that ends early must not look as if it went on to its name
    const early = end.x + 40 < left ? { "stroke-dasharray": "1 5" } : {};
    draw("path", { d: path, stroke: end.colour, "stroke-opacity": 0.7, fill: "none", ...early });
    draw("text", { x: left, y: end.at, dy: "0.32em", "text-anchor": "start" }, end.label);
  }
  return chart;
}

/** A log-2 domain around the values, `room` powers wider at both ends, and at most nine powers as ticks. */
export function powers(
  values: readonly number[],
  room: number,
): { domain: [number, number]; ticks: number[] } {
  const low = Math.log2(Math.min(...values)) - room;
  // One value alone still needs a domain with a width.
  const high = Math.max(low + 1, Math.log2(Math.max(...values)) + room);
  const step = Math.ceil((high - low) / 8);
  const ticks: number[] = [];
  for (let power = Math.ceil(low / step) * step; power <= high; power += step) ticks.push(2 ** power);
  return { domain: [2 ** low, 2 ** high], ticks };
}

function equallySpaced(depths: readonly number[]): boolean {
  const steps = new Set(depths.slice(1).map((depth, i) => depth - depths[i]!));
  return depths.length > 3 && steps.size === 1;
}

/** At most eight of the depths, the first and the last among them. */
function thin(depths: readonly number[]): number[] {
  const step = Math.ceil(depths.length / 8);
  return depths.filter((_, i) => (depths.length - 1 - i) % step === 0 || i === 0);
}

const rate = (value: number): string => (value < 100 ? value.toFixed(1) : formatCount(Math.round(value)));
