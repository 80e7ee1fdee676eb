// The comparison's tab: two results files side by side.

import { html, nothing, render } from "lit-html";
import { adapterName, measuredBytes, type Results, rateText } from "../../row.ts";
import { formatBytes, show } from "../../units.ts";
import { Keeper } from "../keep.ts";
import { compare, parseResults } from "./compare.ts";

interface Given {
  name: string;
  results: Results;
}

export class CompareTab {
  readonly #panel: HTMLElement;
  readonly #given: Given[] = [];
  #before = 0;
  #after = 1;
  #fault = "";

  constructor(panel: HTMLElement) {
    this.#panel = panel;
    this.#draw();
    this.#open();
  }

  /** The last race is at hand. */
  async #open(): Promise<void> {
    const keeper = new Keeper("race");
    await keeper.open();
    if (keeper.found) this.#given.push({ name: "the last race in this browser", results: keeper.found });
    this.#draw();
  }

  async #take(input: HTMLInputElement): Promise<void> {
    this.#fault = "";
    for (const file of input.files ?? []) {
      try {
        this.#given.push({ name: file.name, results: parseResults(file.name, await file.text()) });
      } catch (error) {
        this.#fault = (error as Error).message;
      }
    }
    input.value = "";
    this.#after = Math.max(1, this.#given.length - 1);
    this.#before = this.#after - 1;
    this.#draw();
  }

  #draw(): void {
    const [before, after] = [this.#given[this.#before], this.#given[this.#after]];
    const choose = (label: string, at: number, set: (at: number) => void) =>
      html`<label>${label} <select @change=${(event: Event) => {
        set(Number((event.target as HTMLSelectElement).value));
        this.#draw();
      }}>${this.#given.map(({ name, results }, i) => html`<option value=${i} ?selected=${i === at}>${name}, ${results.environment.started.slice(0, 16).replace("T", " ")}</option>`)}</select></label>`;
    render(
      html`<section aria-labelledby="compare-title"><h2 id="compare-title">Two runs side by side</h2>
<p>Takes what the command line writes as <code>results.json</code>, and what this page saves.</p>
<p class="message" role="alert">${this.#fault}</p>
<label class="file">Results files <input type="file" id="compare-files" accept=".json,application/json" multiple @change=${(event: Event) => this.#take(event.target as HTMLInputElement)}></label>
${
  this.#given.length > 0
    ? html`<div class="fields">${choose("Before", this.#before, (at) => {
        this.#before = at;
      })}${choose("After", this.#after, (at) => {
        this.#after = at;
      })}</div>`
    : nothing
}</section>
${before && after ? table(before, after) : this.#given.length > 0 ? html`<p class="hint">One more file is wanted to compare with.</p>` : nothing}`,
      this.#panel,
    );
  }
}

function table(before: Given, after: Given) {
  const pairs = compare(before.results, after.results);
  const where = ({ results: { environment } }: Given) =>
    `${adapterName(environment.adapter)}, ${environment.build_commit ?? "unknown build"}`;
  const different = where(before) !== where(after);
  return html`<section aria-labelledby="pairs-title"><h2 id="pairs-title">Row by row</h2>
${different ? html`<p class="notice">Before: ${where(before)}. After: ${where(after)}.</p>` : html`<p class="hint">Both: ${where(before)}.</p>`}
<div class="scroll" tabindex="0" role="group" aria-labelledby="pairs-title"><table id="pairs">
<thead><tr><th scope="col">model</th><th scope="col">test</th><th scope="col">runtime</th><th scope="col" class="number">state + kv before</th><th scope="col" class="number">after</th><th scope="col" class="number">t/s before</th><th scope="col" class="number">after</th><th scope="col" class="number">times</th></tr></thead>
<tbody>${pairs.map(
    ({ model, test, peer, before, after, speed, overlap, bytes }) =>
      html`<tr><th scope="row">${model}</th><td>${test}</td><td>${peer}</td><td class="number">${show(before && measuredBytes(before), formatBytes)}</td><td class="number">${show(after && measuredBytes(after), formatBytes)}${bytes ? html` <strong>(${bytes > 0 ? "+" : "-"}${formatBytes(Math.abs(bytes))})</strong>` : nothing}</td><td class="number">${(before && rateText(before)) ?? "–"}</td><td class="number">${(after && rateText(after)) ?? "–"}</td><td class="number">${speed === null ? "–" : html`${speed.toFixed(2)}${overlap ? html` <span class="hint">within noise</span>` : nothing}`}</td></tr>`,
  )}</tbody></table></div>
<p class="hint">Times: tokens a second after, over before. Within noise: the repetitions of the two share a range.</p></section>`;
}
