// The running table: every figure is one of the results' rows.

import { html, nothing, type TemplateResult } from "lit-html";
import { contextOf, measuredBytes, type Row, rateText, theoryBytes } from "../../row.ts";
import { formatBytes, formatCount, formatNs, show } from "../../units.ts";
import { term } from "../glossary.ts";
import type { RacerState } from "./state.ts";

const columns: readonly { head: TemplateResult | string; cell: (row: Row) => string }[] = [
  { head: "tokens", cell: (row) => formatCount(contextOf(row)) },
  { head: term("state + kv"), cell: (row) => show(measuredBytes(row), formatBytes) },
  { head: term("theory"), cell: (row) => show(theoryBytes(row), formatBytes) },
  { head: term("error", "err %"), cell: (row) => show(row.theory_err_pct, (value) => value.toFixed(2)) },
  {
    head: term("bytes a token"),
    cell: (row) => show(row.bytes_per_token, (value) => formatBytes(Math.round(value))),
  },
  { head: "tokens a second", cell: (row) => rateText(row) ?? "–" },
  {
    head: term("latency", "latency p50 / p95"),
    cell: (row) =>
      row.latency_p50_ns === null
        ? "–"
        : `${formatNs(row.latency_p50_ns)} / ${formatNs(row.latency_p95_ns!)}`,
  },
  {
    head: term("of the bandwidth"),
    cell: (row) => show(row.roof_fraction, (share) => `${(100 * share).toFixed(1)}%`),
  },
];

export function racersTable(racers: readonly RacerState[]): TemplateResult {
  const together = racers.flatMap(({ row }) => (row?.remark ? [`${row.model}'s ${row.remark}`] : []));
  return html`<div class="scroll" tabindex="0" role="group" aria-labelledby="table-title"><table id="race-table">
<thead><tr><th scope="col">racer</th>${columns.map(({ head }) => html`<th scope="col" class="number">${head}</th>`)}</tr></thead>
<tbody>${racers.map(
    ({ name, tone, row, status, reason }) =>
      html`<tr class=${status}><th scope="row" class=${tone}><i class="swatch"></i>${name}</th>${
        row
          ? columns.map(({ cell }) => html`<td class="number">${cell(row)}</td>`)
          : html`<td class="reason" colspan=${columns.length}>${reason || (status === "loading" ? "loading" : "waiting")}</td>`
      }</tr>`,
  )}</tbody>
</table></div>
<p class="hint">Latency is the time from one token to the next.${together.length > 0 ? html` Where ids come back several at a time, they share the wait: ${together.join("; ")}.` : nothing}</p>`;
}
