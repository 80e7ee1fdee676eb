import { type Answer, answersOf } from "../answers.ts";
import {
  adapterName,
  type Field,
  measuredBytes,
  type Row,
  rateText,
  signedBits,
  theoryBytes,
} from "../row.ts";
import { formatBytes, formatNs, formatParameters } from "../units.ts";
import { nothing, type Printer } from "./printer.ts";

interface Column {
  title: string;
  width: number;
  align: "left" | "right";
  cell(row: Row): string;
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
  const head =
    line(columns.map((column) => pad(column.title, column))) +
    line(
      columns.map(({ width, align }) => (align === "left" ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)),
    );
  let headed = false;
  return {
    header: nothing,
    // a run may have no rows
    row(row) {
      const above = headed ? "" : head;
      headed = true;
      return above + line(columns.map((column) => pad(column.cell(row), column)));
    },
    footer(results) {
      const { build_commit, versions, adapter } = results.environment;
      return (
        `\nbuild: ${build_commit ?? "unknown"} (longtape ${versions.longtape ?? "unknown"}), ` +
        `adapter: ${escapeMarkdown(adapterName(adapter))}${adapter?.software ? " (software)" : ""}\n` +
        answersOf(results).map(answerMarkdown).join("")
      );
    },
  };
}

const line = (cells: string[]): string => `| ${cells.join(" | ")} |\n`;

function answerMarkdown({ title, note, columns, rows }: Answer): string {
  return (
    `\n${title}\n\n` +
    line(columns.map((column) => column.title)) +
    line(columns.map(({ kind }) => (kind === "number" ? "---:" : "---"))) +
    rows.map((cells) => line(cells.map(escapeMarkdown))).join("") +
    `\n${note}\n`
  );
}

/** Figures that do not read well as they are stored. */
const readable: { readonly [F in Field]?: (value: number) => string } = {
  avg_ts_stream: (rate) => rate.toFixed(2),
  latency_p50_ns: formatNs,
  latency_p95_ns: formatNs,
  bytes_per_stream: (bytes) => formatBytes(Math.round(bytes)),
  streams_per_gib: (streams) => streams.toFixed(1),
  bits_per_byte: (bits) => bits.toFixed(4),
  nmse_vs_f32: (nmse) => nmse.toExponential(1),
  bits_vs_f32: signedBits,
};

/** Names come from folders and adapters: none may end a cell, start emphasis, a link or HTML. */
export function escapeMarkdown(text: string): string {
  return text
    .replace(/\s+/g, " ")
    .replace(/[\\`*<|]/g, "\\$&")
    .replaceAll("](", "]\\(");
}

const left = (title: string, width: number, cell: (row: Row) => string): Column => ({
  title,
  width,
  align: "left",
  cell,
});
const right = (title: string, width: number, cell: (row: Row) => string): Column => ({
  title,
  width,
  align: "right",
  cell,
});

const pad = (text: string, { width, align }: Column): string =>
  align === "left" ? text.padEnd(width) : text.padStart(width);

function backend(row: Row): string {
  const name = row.backend ?? "";
  return row.software ? `${name} (software)` : name;
}

function speed(row: Row): string {
  if (row.status !== "ok") return escapeMarkdown(row.reason ? `${row.status}: ${row.reason}` : row.status);
  return rateText(row) ?? "";
}

function optional<T>(value: T | null, format: (value: T) => string): string {
  return value === null ? "" : format(value);
}
