// The files of a run.

import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Judged } from "./claims/claim.ts";
import { claimsJson, claimsMarkdown } from "./claims/documents.ts";
import { formatResults } from "./printers/index.ts";
import { reportHtml } from "./report.ts";
import type { Field, Results } from "./row.ts";

/**
 * Writes results.json, .csv, .md and report.html, and claims.json and .md where claims were judged: each whole or not at
 * all. Returns their folder's report.
 */
export async function writeResults(
  folder: string,
  results: Results,
  extra: readonly Field[],
  claims: readonly Judged[] = [],
): Promise<{ report: string }> {
  await mkdir(folder, { recursive: true });
  const files = {
    "results.json": formatResults("json", results),
    "results.csv": formatResults("csv", results),
    "results.md": formatResults("md", results, extra),
    ...(claims.length > 0 && {
      "claims.json": claimsJson(claims, results.environment),
      "claims.md": claimsMarkdown(claims, results.environment),
    }),
    "report.html": reportHtml(results, claims),
  };
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    await writeFile(`${path}.part`, text);
    await rename(`${path}.part`, path);
  }
  return { report: join(folder, "report.html") };
}
