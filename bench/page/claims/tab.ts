// The claims' tab: the verdicts of a full run that is shipped with the page, and those of this machine.

import { html, nothing, render, type TemplateResult } from "lit-html";
import { bytesChart, scratchChart, speedChart } from "../../charts.ts";
import type { Judged } from "../../claims/claim.ts";
import { unsaid } from "../../claims/documents.ts";
import { showBasis, showRows, showValue } from "../../claims/evidence.ts";
import { judgeAll } from "../../claims/index.ts";
import { planOf, quickSizes } from "../../claims/plan.ts";
import { outcomes } from "../../claims/section.ts";
import { adapterName, type Results } from "../../row.ts";
import { shipped } from "../../shipped.ts";
import { drawChart } from "../chart.ts";
import { checkpointsUrl } from "../dom.ts";
import type { Machine } from "../page.ts";
import type { PagePlan } from "../pageRun.ts";
import { RunTab } from "../runTab.ts";
import { shippedLayers } from "../shippedConfigs.ts";

export class ClaimsTab extends RunTab {
  #models: Parameters<typeof judgeAll>[0]["models"] = {};
  #kept: Results | null = null;

  constructor(panel: HTMLElement, machine: Machine) {
    super(panel, machine);
    this.draw();
    this.#open();
  }

  async #open(): Promise<void> {
    const layers = await shippedLayers();
    this.#models = Object.fromEntries(
      Object.entries(shipped).map(([arch, { folder }]) => [
        arch,
        { layers: layers.get(arch) ?? [], weights: folder },
      ]),
    );
    this.#kept = (await import("./measured.json")).default as unknown as Results;
    this.draw();
  }

  protected override plan(): PagePlan {
    const settings = { repetitions: quickSizes.repetitions, warmup: false, tune: null };
    return { plan: planOf(quickSizes, checkpointsUrl), settings };
  }

  protected override draw(): void {
    const { results } = this;
    const shown = results && (results.rows.length > 0 || this.running) ? results : this.#kept;
    const judged = shown
      ? judgeAll({ rows: shown.rows, races: shown.environment.verdicts, models: this.#models })
      : [];
    render(
      html`<section aria-labelledby="claims-title"><h2 id="claims-title">Eleven claims about long contexts, judged</h2>
<p>${shown === this.#kept && shown ? html`Computed from ${shown.rows.length} rows that were measured on ${shown.environment.started.slice(0, 10)}: ${adapterName(shown.environment.adapter)}${shown.environment.adapter?.software ? ", a software adapter" : ""}. Run them on this machine:` : html`Computed from what this machine measures: verdicts come as their rows do.`}</p>
${this.bar()}</section>
${judged.map(article)}
<section aria-labelledby="claims-charts" ?hidden=${!shown?.rows.length}><h2 id="claims-charts">Behind them</h2>
<div class="charts pairs">
<figure><h3>State, keys and values against context</h3><div class="canvas" id="claims-bytes"></div><figcaption>Points were measured, lines are theory.</figcaption></figure>
<figure><h3>Scratch of a prompt against context</h3><div class="canvas" id="claims-scratch"></div><figcaption>A power of the context is a straight line, as steep as its exponent.</figcaption></figure>
<figure><h3>Generation: tokens a second against depth</h3><div class="canvas" id="claims-speed"></div><figcaption>Mean of the repetitions, ± their sample standard deviation.</figcaption></figure>
<figure><h3>Prompts: tokens a second against length</h3><div class="canvas" id="claims-prompts"></div><figcaption>Mean of the repetitions, ± their sample standard deviation.</figcaption></figure>
</div></section>`,
      this.panel,
    );
    if (!shown) return;
    const rows = shown.rows.filter((row) => row.n_parallel === 1);
    const prompts = rows.filter((row) => row.n_prompt > 0 && row.n_gen === 0);
    const generated = rows.filter((row) => row.n_gen > 0 && row.n_prompt === 0);
    const draw = (id: string, chart: Parameters<typeof drawChart>[2]) => drawChart(`claims-${id}`, id, chart);
    draw("bytes", (canvas) => bytesChart(rows, shown.environment.curves ?? [], canvas));
    draw("scratch", (canvas) => scratchChart(prompts, canvas));
    draw("speed", (canvas) => speedChart(generated, canvas));
    draw("prompts", (canvas) => speedChart(prompts, canvas));
  }
}

const article = ({ id, title, quote, verdict, because, evidence, missing }: Judged): TemplateResult =>
  html`<article class="claim ${outcomes[verdict]}" id="claim-${id}">
<h3><span class="id">${id}</span>${title} <span class="badge ${outcomes[verdict]}">${verdict}</span></h3>
<blockquote>${quote}</blockquote>
<p>${because}</p>
${unsaid({ because, missing }).map((what) => html`<p class="missing">Missing: ${what}.</p>`)}
${
  evidence.length > 0
    ? html`<details><summary>Evidence: ${evidence.length} ${evidence.length === 1 ? "figure" : "figures"}</summary>
<div class="scroll" tabindex="0" role="group" aria-label="Evidence of claim ${id}"><table>
<thead><tr><th scope="col">what</th><th scope="col" class="number">value</th><th scope="col">basis</th><th scope="col">rows</th></tr></thead>
<tbody>${evidence.map((one) => html`<tr><td>${one.what}</td><td class="number">${showValue(one)}</td><td>${showBasis(one)}</td><td>${showRows(one)}</td></tr>`)}</tbody>
</table></div></details>`
    : nothing
}
</article>`;
