import type { Results, Row } from "../row.ts";
import { nothing, type Printer } from "./printer.ts";

/**
 * results.json on a stream: rows first, since the environment (was the tab hidden, which variants won) is known
 * only at the end.
 */
export function jsonPrinter(): Printer {
  let count = 0;
  const body = (row: Row) => `${count++ === 0 ? "\n" : ",\n"}  ${JSON.stringify(row)}`;
  return {
    header: () => '{\n"schema": "longtape/1",\n"rows": [',
    row: body,
    footer: ({ environment, ...results }) =>
      `\n],\n"environment": ${JSON.stringify(environment, null, 2)}${lists(results)}\n}\n`,
  };
}

/** results.json as a file: the same, environment first, one row a line. */
export function resultsJson({ schema, environment, rows, ...more }: Results): string {
  const lines = rows.map((row) => `  ${JSON.stringify(row)}`).join(",\n");
  return `{
"schema": ${JSON.stringify(schema)},
"environment": ${JSON.stringify(environment, null, 2)},
"rows": [
${lines}
]${lists(more)}
}
`;
}

/** What only some runs have. */
const lists = ({ quality, alternations }: Partial<Results>): string =>
  Object.entries({ quality, alternations })
    .filter(([, list]) => list !== undefined)
    .map(([name, list]) => `,\n"${name}": ${JSON.stringify(list, null, 2)}`)
    .join("");

export const jsonlPrinter = (): Printer => ({
  header: nothing,
  row: (row) => `${JSON.stringify(row)}\n`,
  footer: nothing,
});
