// The report's table of rows: the columns that say something about them, and behind a fold all fields as they are kept.

import { type Html, html } from "./html.ts";
import {
  contextOf,
  type Field,
  fields,
  measuredBytes,
  type Row,
  rateText,
  signedBits,
  theoryBytes,
} from "./row.ts";
import { formatBytes, formatNs, show } from "./units.ts";

export function everyRow(rows: readonly Row[]): Html {
  return html`<section>
<h2>Every row</h2>
<p>Bytes and rates as measured; <em>theory</em> is what the ledger predicted, <em>err</em> all bytes asked over all bytes predicted, <em>overhead</em> all bytes asked over the literature's formulas; <em>of the roof</em> is the bandwidth reached, as a share of the best that was measured on this adapter in the same run. <em>Latency</em> is the time from one result to the next: of a token, or of a chunk of a prompt; tokens that come back in one submit share its time.</p>
${table(
  rows,
  readable.filter(({ needed }) => needed?.(rows) ?? true),
)}
<details>
<summary>All ${fields.length} fields, as in results.json</summary>
${table(rows, fields.map(rawColumn))}
</details>
</section>`;
}

interface Column {
  title: string;
  kind: "text" | "number";
  cell(row: Row): string;
  /** Does it say anything about these rows? */
  needed?(rows: readonly Row[]): boolean;
}

const readable: Column[] = [
  { title: "model", kind: "text", cell: (row) => row.model },
  {
    title: "arch",
    kind: "text",
    cell: (row) => row.arch,
    needed: (rows) => rows.some(({ arch, model }) => arch !== model),
  },
  {
    title: "peer",
    kind: "text",
    cell: (row) => row.peer,
    needed: (rows) => new Set(rows.map(({ peer }) => peer)).size > 1,
  },
  { title: "test", kind: "text", cell: (row) => row.test },
  {
    title: "streams",
    kind: "number",
    cell: (row) => String(row.n_parallel),
    needed: severalStreams,
  },
  { title: "t/s", kind: "number", cell: speed },
  {
    title: "t/s a stream",
    kind: "number",
    cell: (row) => show(row.avg_ts_stream, (rate) => rate.toFixed(2)),
    needed: severalStreams,
  },
  {
    title: "latency, median",
    kind: "number",
    cell: (row) => show(row.latency_p50_ns, formatNs),
    needed: (rows) => rows.some(({ latency_p50_ns }) => latency_p50_ns !== null),
  },
  {
    title: "95%",
    kind: "number",
    cell: (row) => show(row.latency_p95_ns, formatNs),
    needed: (rows) => rows.some(({ latency_p95_ns }) => latency_p95_ns !== null),
  },
  { title: "load to first token", kind: "number", cell: (row) => show(row.ttft_ns, formatNs) },
  { title: "context", kind: "number", cell: (row) => contextOf(row).toLocaleString("en-US") },
  { title: "state + kv", kind: "number", cell: (row) => show(measuredBytes(row), formatBytes) },
  {
    title: "a stream",
    kind: "number",
    cell: (row) => show(row.bytes_per_stream, (bytes) => formatBytes(Math.round(bytes))),
    needed: severalStreams,
  },
  {
    title: "streams a GiB",
    kind: "number",
    cell: (row) => show(row.streams_per_gib, (streams) => streams.toFixed(1)),
    needed: severalStreams,
  },
  { title: "theory", kind: "number", cell: (row) => show(theoryBytes(row), formatBytes) },
  { title: "weights", kind: "number", cell: (row) => show(row.mem_weights, formatBytes) },
  { title: "asked", kind: "number", cell: (row) => show(row.mem_asked, formatBytes) },
  {
    title: "resident",
    kind: "number",
    cell: (row) => show(row.mem_resident, formatBytes),
    needed: (rows) => rows.some(({ mem_resident }) => mem_resident !== null),
  },
  { title: "err %", kind: "number", cell: (row) => show(row.theory_err_pct, (value) => value.toFixed(2)) },
  { title: "overhead %", kind: "number", cell: (row) => show(row.overhead_pct, (value) => value.toFixed(1)) },
  {
    title: "dispatches a token",
    kind: "number",
    cell: (row) => show(row.dispatches_per_token, (value) => value.toFixed(1)),
  },
  {
    title: "of the roof",
    kind: "number",
    cell: (row) => show(row.roof_fraction, (value) => value.toFixed(2)),
  },
  {
    title: "NMSE",
    kind: "number",
    cell: (row) => show(row.nmse_vs_reference, (value) => value.toExponential(1)),
  },
  {
    title: "NMSE to f32",
    kind: "number",
    cell: (row) => show(row.nmse_vs_f32, (value) => value.toExponential(1)),
    needed: narrower,
  },
  {
    title: "bits a byte to f32",
    kind: "number",
    cell: (row) => show(row.bits_vs_f32, signedBits),
    needed: narrower,
  },
  {
    title: "adapter",
    kind: "text",
    cell: (row) => `${row.adapter ?? ""}${row.software ? " (software)" : ""}`,
  },
];

function narrower(rows: readonly Row[]): boolean {
  return rows.some(({ nmse_vs_f32 }) => nmse_vs_f32 !== null);
}

function severalStreams(rows: readonly Row[]): boolean {
  return rows.some(({ n_parallel }) => n_parallel > 1);
}

const rawColumn = (field: Field): Column => ({
  title: field,
  kind: "text",
  cell: (row) =>
    row[field] === null ? "" : Array.isArray(row[field]) ? JSON.stringify(row[field]) : String(row[field]),
});

function table(rows: readonly Row[], columns: readonly Column[]): Html {
  return html`<div class="scroll tall"><table>
<thead><tr>${columns.map(({ title, kind }) => html`<th class="${kind}">${title}</th>`)}</tr></thead>
<tbody>
${rows.map((row) => html`<tr class="${row.status}">${columns.map(({ kind, cell }) => html`<td class="${kind}">${cell(row)}</td>`)}</tr>\n`)}</tbody>
</table></div>`;
}

/** Tokens a second, or why there are none. */
export function speed(row: Row): string {
  if (row.status !== "ok") return row.reason ? `${row.status}: ${row.reason}` : row.status;
  return rateText(row) ?? "–";
}
