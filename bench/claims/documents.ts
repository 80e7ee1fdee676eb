// Verdicts as files, and as the table that a run ends with.

import { escapeMarkdown } from "../printers/markdown.ts";
import { adapterName, type Environment } from "../row.ts";
import type { Evidence, Judged } from "./claim.ts";
import { showBasis, showRows, showValue } from "./evidence.ts";

export const CLAIMS_SCHEMA = "longtape-claims/1";

export function claimsJson(claims: readonly Judged[], environment: Environment): string {
  const { command, started, build_commit, versions, runtime, browser, os, cpu, cpu_cores, adapter, seed } =
    environment;
  const about = {
    command,
    started,
    build_commit,
    versions,
    runtime,
    browser,
    os,
    cpu,
    cpu_cores,
    adapter,
    seed,
  };
  return `${JSON.stringify({ schema: CLAIMS_SCHEMA, ...about, claims }, null, 2)}\n`;
}

/** A document to read: each quotation, the verdict, why, and what it rests on. */
export function claimsMarkdown(claims: readonly Judged[], environment: Environment): string {
  const { command, started, build_commit, adapter, cpu, cpu_cores } = environment;
  const software = adapter?.software
    ? " It is a software adapter, which computes on the CPU: its speeds say nothing of a GPU that was not measured; bytes do not depend on it."
    : "";
  return `# Eleven claims about long contexts, judged by what was measured

From \`${command.replaceAll("`", "'")}\`, ${started}, build ${build_commit ?? "unknown"}, on ${escapeMarkdown(adapterName(adapter))} (${escapeMarkdown(cpu)}, ${cpu_cores} cores).${software}

A verdict is computed from the rows of the run and from arithmetic. *Exact* figures are deterministic and met to the last byte.
Times are those of the fastest repetition; what repetitions allow is the range over their faster half, since what disturbs a run
only adds time. An extrapolation names the contexts that it was fitted on.

${verdictTable(claims)}
${claims.map(chapter).join("\n")}`;
}

/** One line a claim. */
export function verdictTable(claims: readonly Judged[]): string {
  const width = Math.max(...claims.map(({ title }) => title.length));
  const verdictWidth = "holds with a condition".length;
  const lines = claims.map(
    ({ id, title, verdict }) =>
      `| ${String(id).padStart(2)} | ${title.padEnd(width)} | ${verdict.padEnd(verdictWidth)} |\n`,
  );
  return `| no | ${"claim".padEnd(width)} | ${"verdict".padEnd(verdictWidth)} |
| -: | ${"-".repeat(width)} | ${"-".repeat(verdictWidth)} |
${lines.join("")}`;
}

/** What is missing and was not said in the reason. */
export const unsaid = ({ because, missing }: Pick<Judged, "because" | "missing">): string[] =>
  missing.filter((what) => !because.includes(what));

function chapter({ id, title, quote, verdict, because, evidence, ...judged }: Judged): string {
  const missing = unsaid({ because, ...judged });
  return `## ${id}. ${title}: ${verdict}

> ${quote}

${escapeMarkdown(because)}
${missing.length > 0 ? `\nMissing:\n\n${missing.map((what) => `- ${escapeMarkdown(what)}\n`).join("")}` : ""}${
  evidence.length > 0
    ? `
| evidence | value | basis | rows |
| --- | ---: | --- | --- |
${evidence.map(line).join("")}`
    : ""
}`;
}

const line = (evidence: Evidence): string =>
  `| ${[evidence.what, showValue(evidence), showBasis(evidence), showRows(evidence)].map(escapeMarkdown).join(" | ")} |\n`;
