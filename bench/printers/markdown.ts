import {
  adapterName,
  alternationSentence,
  byBits,
  type Field,
  measuredBytes,
  type Quality,
  type Row,
  theoryBytes,
} from "../row.ts";
import { formatBytes, formatNs, formatParameters } from "../units.ts";
import type { Printer } from "./printer.ts";

interface Column<T = Row> {
  title: string;
  width: number;
  align: "left" | "right";
  cell(row: T): string;
}

/**
 * llama-bench's table with three columns more: the bytes of state and kv measured, by the ledger, and the error
 * of everything asked against everything predicted. `extra` adds fields that differ between the rows to come.
 */
export function markdownPrinter(extra: readonly Field[] = []): Printer {
  const columns: Column[] = [
    left("model", 24, (row) => escapeMarkdown(row.model)),
    left("arch", 16, (row) => escapeMarkdown(row.arch)),
    right("size", 10, (row) => optional(row.closed_weights ?? row.mem_weights, formatBytes)),
    right("params", 10, (row) => optional(row.model_n_params, formatParameters)),
    left("backend", 17, backend),
    ...extra.map((field) =>
      right(field, Math.max(10, field.length), (row) =>
        optional(row[field], (value) => readable[field]?.(value as number) ?? escapeMarkdown(String(value))),
      ),
    ),
    right("test", 15, (row) => escapeMarkdown(row.test)),
    right("state+kv", 10, (row) => optional(measuredBytes(row), formatBytes)),
    right("theory", 10, (row) => optional(theoryBytes(row), formatBytes)),
    right("err %", 6, (row) => optional(row.theory_err_pct, (value) => value.toFixed(2))),
    right("t/s", 20, speed),
  ];
  return {
    header: () => head(columns),
    row: (row) => line(columns.map((column) => pad(column.cell(row), column))),
    footer: ({ environment: { build_commit, versions, adapter }, quality = [], alternations = [] }) =>
      `${qualityTable(quality)}${alternations.map((found) => `\n${escapeMarkdown(alternationSentence(found))}\n`).join("")}` +
      `\nbuild: ${build_commit ?? "unknown"} (longtape ${versions.longtape ?? "unknown"}), ` +
      `adapter: ${escapeMarkdown(adapterName(adapter))}${adapter?.software ? " (software)" : ""}\n`,
  };
}

/** Bits a byte beside what is carried from token to token; the best first. */
function qualityTable(quality: readonly Quality[]): string {
  if (quality.length === 0) return "";
  const title = "state+kv at 4,096 tokens";
  const columns: [Column<Quality>, ...Column<Quality>[]] = [
    left("model", 24, ({ model }) => escapeMarkdown(model)),
    right("bits a byte", 11, (found) => optional(found.bits_per_byte, (bits) => bits.toFixed(4))),
    right(title, title.length, (found) => optional(found.theory_bytes_at_4096, formatBytes)),
    right("over one stream", 30, streamed),
  ];
  return `\n${head(columns)}${byBits(quality)
    .map((found) => line(columns.map((column) => pad(column.cell(found), column))))
    .join("")}`;
}

/** The end of the stream, or why there is none. */
function streamed({ points, status, reason }: Quality): string {
  const end = points.at(-1);
  const figures = end && `${end.bits_per_byte.toFixed(4)} up to ${end.context.toLocaleString("en-US")}`;
  return [figures, status !== "ok" && escapeMarkdown(`${status}: ${reason}`)].filter(Boolean).join("; ");
}

/** Figures that do not read well as they are stored. */
const readable: { readonly [F in Field]?: (value: number) => string } = {
  avg_ts_stream: (rate) => rate.toFixed(2),
  latency_p50_ns: formatNs,
  latency_p95_ns: formatNs,
  bytes_per_stream: (bytes) => formatBytes(Math.round(bytes)),
  streams_per_gib: (streams) => streams.toFixed(1),
  bits_per_byte: (bits) => bits.toFixed(4),
};

/** Names come from folders and adapters: none may end a cell, start emphasis, a link or HTML. */
export function escapeMarkdown(text: string): string {
  return text
    .replace(/\s+/g, " ")
    .replace(/[\\`*<|]/g, "\\$&")
    .replaceAll("](", "]\\(");
}

const left = <T = Row>(title: string, width: number, cell: (row: T) => string): Column<T> => ({
  title,
  width,
  align: "left",
  cell,
});
const right = <T = Row>(title: string, width: number, cell: (row: T) => string): Column<T> => ({
  title,
  width,
  align: "right",
  cell,
});

type Shape = Pick<Column, "title" | "width" | "align">;

const pad = (text: string, { width, align }: Shape): string =>
  align === "left" ? text.padEnd(width) : text.padStart(width);

const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;

const head = (columns: readonly Shape[]): string =>
  line(columns.map((column) => pad(column.title, column))) +
  line(
    columns.map(({ width, align }) => (align === "left" ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)),
  );

function backend(row: Row): string {
  const name = row.backend ?? "";
  return row.software ? `${name} (software)` : name;
}

function speed(row: Row): string {
  if (row.status !== "ok") return escapeMarkdown(row.reason ? `${row.status}: ${row.reason}` : row.status);
  if (row.avg_ts === null) return "";
  return `${row.avg_ts.toFixed(2)} ± ${(row.stddev_ts ?? 0).toFixed(2)}`;
}

function optional<T>(value: T | null, format: (value: T) => string): string {
  return value === null ? "" : format(value);
}
