// The claims' section of the report.

import { type Html, html } from "../html.ts";
import type { Evidence, Judged, Outcome } from "./claim.ts";
import { unsaid } from "./documents.ts";
import { showBasis, showRows, showValue } from "./evidence.ts";

/** The class of an outcome's badge. */
export const outcomes: Record<Outcome, string> = {
  holds: "holds",
  "holds with a condition": "condition",
  refuted: "refuted",
  undecided: "undecided",
};

export function claimsSection(claims: readonly Judged[]): Html {
  const counts = (Object.keys(outcomes) as Outcome[]).flatMap((outcome) => {
    const number = claims.filter(({ verdict }) => verdict === outcome).length;
    return number > 0 ? html`<li>${badge(outcome)} ${number}</li>` : [];
  });
  return html`<section class="claims">
<h2>Eleven claims, judged</h2>
<p>Each verdict is computed from the rows below and from arithmetic. <em>Exact</em> figures are deterministic and met to the last byte. Times are those of the fastest repetition; what repetitions allow is the range over their faster half, since what disturbs a run only adds time. An extrapolation names the contexts that it was fitted on.</p>
<ul class="tally">${counts}</ul>
${claims.map(article)}
</section>`;
}

const badge = (outcome: Outcome): Html => html`<span class="badge ${outcomes[outcome]}">${outcome}</span>`;

const article = ({ id, title, quote, verdict, because, evidence, missing }: Judged): Html =>
  html`<article class="claim ${outcomes[verdict]}" id="claim-${id}">
<h3><span class="id">${id}</span>${title} ${badge(verdict)}</h3>
<blockquote>${quote}</blockquote>
<p>${because}</p>
${unsaid({ because, missing }).map((what) => html`<p class="missing">Missing: ${what}.</p>`)}
${
  evidence.length > 0 &&
  html`<details><summary>Evidence: ${evidence.length} ${evidence.length === 1 ? "figure" : "figures"}</summary>
<div class="scroll"><table>
<thead><tr><th>what</th><th class="number">value</th><th>basis</th><th>rows</th></tr></thead>
<tbody>${evidence.map(line)}</tbody>
</table></div></details>`
}
</article>
`;

const line = (evidence: Evidence): Html =>
  html`<tr class="${evidence.kind}"><td>${evidence.what}</td><td class="number">${showValue(evidence)}</td><td>${showBasis(evidence)}</td><td>${showRows(evidence)}</td></tr>\n`;

export const claimsStyle = `
.tally { display: flex; flex-wrap: wrap; gap: 8px 24px; list-style: none; margin: 0 0 20px; padding: 0; font-variant-numeric: tabular-nums; }
.badge { display: inline-block; padding: 1px 10px; border-radius: 999px; border: 1px solid var(--tone); background: color-mix(in srgb, var(--tone) 16%, var(--raised)); font-size: 0.8rem; font-weight: 600; white-space: nowrap; }
.holds { --tone: var(--series-2); }
.condition { --tone: var(--notice-line); }
.refuted { --tone: var(--series-6); }
.undecided { --tone: var(--soft); }
.claim { margin: 0 0 16px; padding: 16px 20px; border: 1px solid var(--line); border-left: 4px solid var(--tone); border-radius: 6px; background: var(--raised); }
.claim h3 { margin: 0 0 8px; line-height: 1.6; }
.claim h3 .badge { margin-left: 8px; }
.claim .id { margin-right: 12px; color: var(--soft); font-variant-numeric: tabular-nums; }
.claim blockquote { margin: 0 0 10px; padding: 0; max-width: 84ch; color: var(--soft); font-style: italic; }
.claim p { margin: 0; max-width: 84ch; }
.claim details { margin: 12px 0 0; }
.claim summary { margin: 0; }
.claim .scroll { margin-top: 10px; }
.claim td { white-space: normal; vertical-align: top; min-width: 16ch; }
.claim td.number { white-space: nowrap; min-width: 0; max-width: none; }
.claim .missing { margin-top: 8px; color: var(--soft); }
@media print { .claim { break-inside: avoid; } }
`;
