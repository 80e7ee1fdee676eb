// What can be taken away from a race.

import { html, type TemplateResult } from "lit-html";
import { formatResults } from "../../printers/index.ts";
import { chartFile } from "../chart.ts";
import { save } from "../dom.ts";
import { fileName } from "../environment.ts";
import type { RaceState } from "./state.ts";

const texts = [
  { label: "JSON", format: "json", type: "application/json" },
  { label: "CSV", format: "csv", type: "text/csv" },
  { label: "Markdown", format: "md", type: "text/markdown" },
] as const;

export function downloads(
  state: RaceState,
  phase: string,
  { copyLink, copied }: { copyLink(): void; copied: string },
): TemplateResult {
  const name = (ending: string) => fileName(state.environment, "race-", ending);
  const chart = (id: string, what: string) => () => {
    const file = chartFile(id);
    if (file) save(name(`${what}.svg`), file, "image/svg+xml");
  };
  return html`<section aria-labelledby="keep-title"><h2 id="keep-title">Keep it</h2>
<p class="hint">${phase === "running" ? "As it is at this moment. " : ""}The JSON is the bench's own: the Compare tab takes it, and so does whatever reads results.json.</p>
<div class="actions">
${texts.map(
  ({ label, format, type }) =>
    html`<button type="button" @click=${() => save(name(format), formatResults(format, state.results()), type)}>${label}</button>`,
)}
<button type="button" @click=${chart("race-bytes", "bytes")}>SVG of the bytes</button>
<button type="button" @click=${chart("race-speed", "speed")}>SVG of the speed</button>
<button type="button" @click=${copyLink}>Copy a link to this race</button>
</div><p class="hint">${copied}</p></section>`;
}
