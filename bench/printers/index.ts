import type { Field, Results } from "../row.ts";
import { csvPrinter } from "./csv.ts";
import { jsonlPrinter, jsonPrinter, resultsJson } from "./json.ts";
import { markdownPrinter } from "./markdown.ts";
import { nothing, type Printer } from "./printer.ts";
import { sqlPrinter } from "./sql.ts";

export type { Printer } from "./printer.ts";

const printers: Record<
  "md" | "csv" | "json" | "jsonl" | "sql" | "none",
  (extra: readonly Field[]) => Printer
> = {
  md: markdownPrinter,
  csv: csvPrinter,
  json: jsonPrinter,
  jsonl: jsonlPrinter,
  sql: sqlPrinter,
  none: () => ({ header: nothing, row: nothing, footer: nothing }),
};

export type Format = keyof typeof printers;
export const formats = Object.keys(printers) as Format[];

/** A fresh printer. `extra` names fields to show where the format has no room for all (md). */
export const createPrinter = (format: Format, extra: readonly Field[] = []): Printer =>
  printers[format](extra);

/** Whole results as the text of one file. */
export function formatResults(format: Format, results: Results, extra: readonly Field[] = []): string {
  if (format === "json") return resultsJson(results);
  const { environment, rows } = results;
  const printer = createPrinter(format, extra);
  return [printer.header(environment), ...rows.map((row) => printer.row(row)), printer.footer(results)].join(
    "",
  );
}
