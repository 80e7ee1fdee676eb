import { type Field, fieldKinds, fields, type Row } from "../row.ts";
import { nothing, type Printer } from "./printer.ts";

/** Every value quoted, as llama-bench does; null is "", a list is JSON. */
export const csvPrinter = (): Printer => ({
  header: () => `${fields.map(quote).join(",")}\n`,
  row: (row) => `${fields.map((field) => quote(text(row, field))).join(",")}\n`,
  footer: nothing,
});

const quote = (value: string): string => `"${value.replaceAll('"', '""')}"`;

function text(row: Row, field: Field): string {
  const value = row[field];
  if (value === null || (typeof value === "number" && !Number.isFinite(value))) return "";
  if (Array.isArray(value)) return JSON.stringify(value);
  // A spreadsheet runs text that starts like a formula, and model names come from folders.
  return fieldKinds[field] === "text" ? String(value).replace(/^[=+\-@\t\r]/, "'$&") : String(value);
}
