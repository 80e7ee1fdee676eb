// Buttons, bar and line of a run in the page.

import { html, nothing, type TemplateResult } from "lit-html";
import { resultsJson } from "../printers/json.ts";
import type { Results } from "../row.ts";
import { save } from "./dom.ts";
import { fileName } from "./environment.ts";

export interface RunBarState {
  running: boolean;
  /** Whether anything can be run here. */
  possible: boolean;
  rows: number;
  of: number;
  /** A line of text. */
  doing: string;
  fault: string | null;
  results: Results | null;
}

export function runBar(
  { running, possible, rows, of, doing, fault, results }: RunBarState,
  on: { run(): void; stop(): void },
): TemplateResult {
  return html`<div class="actions">
<button type="button" class="primary" ?disabled=${running || !possible} @click=${on.run}>Run</button>
<button type="button" ?disabled=${!running} @click=${on.stop}>Stop</button>
<button type="button" ?disabled=${running || !results?.rows.length} @click=${() => saveResults(results!)}>Save JSON</button>
</div>
${fault ? html`<p class="message" role="alert">${fault}</p>` : nothing}
${of > 0 ? html`<progress max=${of} .value=${rows} aria-label="Rows that are there"></progress>` : nothing}
<p class="doing">${doing}</p>`;
}

export function saveResults(results: Results): void {
  save(fileName(results.environment, "", "json"), resultsJson(results), "application/json");
}
