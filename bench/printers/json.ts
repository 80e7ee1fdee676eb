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
    footer: (results) =>
      `\n],\n${answers(results)}"environment": ${JSON.stringify(results.environment, null, 2)}\n}\n`,
  };
}

/** results.json as a file: the same, environment first, one row a line. */
export function resultsJson(results: Results): string {
  const { schema, environment, rows } = results;
  const lines = rows.map((row) => `  ${JSON.stringify(row)}`).join(",\n");
  return `{
"schema": ${JSON.stringify(schema)},
"environment": ${JSON.stringify(environment, null, 2)},
${answers(results)}"rows": [
${lines}
]
}
`;
}

/** What was found beyond the rows, one a line. */
function answers(results: Results): string {
  const { fits, crossovers, quality, alternations, drifts, traces, targets, kernels, roofs } = results;
  const lists = Object.entries({ fits, crossovers, quality, alternations, drifts, traces, targets, kernels })
    .filter(([, found]) => found !== undefined)
    .map(
      ([name, found]) => `"${name}": [\n${found!.map((one) => `  ${JSON.stringify(one)}`).join(",\n")}\n],\n`,
    );
  return `${roofs ? `"roofs": ${JSON.stringify(roofs)},\n` : ""}${lists.join("")}`;
}

export const jsonlPrinter = (): Printer => ({
  header: nothing,
  row: (row) => `${JSON.stringify(row)}\n`,
  footer: nothing,
});
