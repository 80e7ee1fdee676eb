// Tables of text in the page.

import { html, type TemplateResult } from "lit-html";
import type { Answer } from "../answers.ts";

export function answerTable({ title, note, columns, rows }: Answer): TemplateResult {
  const id = `answer-${title.replace(/\W+/g, "-")}`;
  const kind = (i: number) => (columns[i]!.kind === "prose" ? "reason" : columns[i]!.kind);
  return html`<section aria-labelledby=${id}><h2 id=${id}>${title}</h2>
<div class="scroll" tabindex="0" role="group" aria-labelledby=${id}><table>
<thead><tr>${columns.map(({ title }, i) => html`<th scope="col" class=${kind(i)}>${title}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((cell, i) => (i === 0 ? html`<th scope="row">${cell}</th>` : html`<td class=${kind(i)}>${cell}</td>`))}</tr>`)}</tbody>
</table></div>
<p class="hint">${note}</p></section>`;
}
