// The files of a run.

import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatResults } from "./printers/index.ts";
import { reportHtml } from "./report.ts";
import type { Field, Results } from "./row.ts";

/** Writes results.json, .csv, .md and report.html: each whole or not at all. Returns their folder's report. */
export async function writeResults(
  folder: string,
  results: Results,
  extra: readonly Field[],
): Promise<{ report: string }> {
  await mkdir(folder, { recursive: true });
  const files = {
    "results.json": formatResults("json", results),
    "results.csv": formatResults("csv", results),
    "results.md": formatResults("md", results, extra),
    "report.html": reportHtml(results),
  };
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    await writeFile(`${path}.part`, text);
    await rename(`${path}.part`, path);
  }
  return { report: join(folder, "report.html") };
}
