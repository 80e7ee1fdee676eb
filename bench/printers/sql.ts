import { fieldKinds, fields, type Row } from "../row.ts";
import { nothing, type Printer } from "./printer.ts";

const types = { text: "TEXT", integer: "INTEGER", real: "REAL", boolean: "INTEGER", samples: "TEXT" };

/** Standard SQL, as SQLite reads it: booleans are 0 and 1, lists are JSON in text. */
export const sqlPrinter = (): Printer => ({
  header: () =>
    `CREATE TABLE IF NOT EXISTS longtape (\n${fields
      .map((field) => `  ${field} ${types[fieldKinds[field]]}`)
      .join(",\n")}\n);\n\n`,
  row: (row) =>
    `INSERT INTO longtape (${fields.join(", ")}) VALUES (${fields.map((field) => literal(row[field])).join(", ")});\n`,
  footer: nothing,
});

function literal(value: Row[keyof Row]): string {
  if (value === null) return "NULL";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "NULL";
  if (typeof value === "boolean") return value ? "1" : "0";
  const text = Array.isArray(value) ? JSON.stringify(value) : value;
  // A NUL would end the statement in SQLite's C interface.
  return `'${text.replaceAll("'", "''").replaceAll("\0", "")}'`;
}
