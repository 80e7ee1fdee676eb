// What the page shows of the rows: the table and the charts.

import { bytesChart, type Canvas, colours, speedChart, toneOf } from "../../charts.ts";
import { type Curve, measuredBytes, type Row, rateText, theoryBytes } from "../../row.ts";
import { benchArchs } from "../../shipped.ts";
import { formatBytes, show } from "../../units.ts";
import { drawChart } from "../chart.ts";
import { byId, element } from "../dom.ts";

/** A row in a few words. */
export function describeRow(row: Row): string {
  const name = `${row.model} ${testOf(row)}`;
  if (row.status !== "ok") return `${name}: ${row.status}`;
  return `${name}: ${rateText(row) ?? "–"} tokens a second, ${show(measuredBytes(row), formatBytes)}`;
}

export class View {
  #rows: Row[] = [];
  #curves: Curve[] = [];
  readonly #table = byId("rows", HTMLElement);
  readonly #empty = this.#table.firstElementChild!;

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(byId("rows-title", HTMLElement));
  }

  clear(): void {
    this.#rows = [];
    this.#curves = [];
    this.#table.replaceChildren(this.#empty);
    this.#draw();
  }

  addRow(row: Row): void {
    this.#rows.push(row);
    this.#empty.remove();
    this.#table.append(tableRow(row));
    this.#draw();
  }

  addCurve(curve: Curve): void {
    this.#curves.push(curve);
    this.#draw();
  }

  #draw(): void {
    const generated = this.#rows.filter((row) => row.n_gen > 0 && row.n_prompt === 0);
    put("bytes", (canvas) => bytesChart(this.#rows, this.#curves, { ...canvas, height: 400 }));
    put("speed", (canvas) => speedChart(generated, { ...canvas, height: 360 }));
  }
}

function put(name: string, chart: (canvas: Canvas) => SVGElement | null): void {
  const section = byId(`${name}-section`, HTMLElement);
  // shown first: what is hidden has no width
  section.hidden = false;
  section.hidden = !drawChart(`${name}-chart`, byId(`${name}-title`, HTMLElement).textContent, chart);
}

function tableRow(row: Row): HTMLTableRowElement {
  const shipped = benchArchs.includes(row.arch) ? benchArchs : [row.arch];
  const colour = colours(shipped).get(row.arch) ?? "currentColor";
  const swatch = element("i", { class: `swatch ${toneOf(colour)}` });
  const number = (text: string) => element("td", { class: "number" }, text);
  const cells = [element("th", { scope: "row" }, swatch, row.model), element("td", {}, testOf(row))];
  if (row.status !== "ok") {
    const text = row.reason ? `${row.status}: ${row.reason}` : row.status;
    return element(
      "tr",
      { class: row.status },
      ...cells,
      element("td", { class: "reason", colspan: "4" }, text),
    );
  }
  return element(
    "tr",
    {},
    ...cells,
    number(show(measuredBytes(row), formatBytes)),
    number(show(theoryBytes(row), formatBytes)),
    number(show(row.theory_err_pct, (value) => value.toFixed(2))),
    number(rateText(row) ?? "–"),
  );
}

const testOf = (row: Row): string => `${row.test}${row.n_parallel > 1 ? ` ×${row.n_parallel}` : ""}`;
