import type { Environment, Results, Row } from "../row.ts";

/**
 * Turns rows into text as they finish. `header` is asked for once, before the first row; `footer` once, after
 * the last, with what is known only then. A printer may keep count of its rows: make one for each output.
 */
export interface Printer {
  header(environment: Environment): string;
  row(row: Row): string;
  footer(results: Results): string;
}

export const nothing = (): string => "";
