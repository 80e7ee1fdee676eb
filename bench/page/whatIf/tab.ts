// The what-if tab: what models would hold, by formulas, while one moves the sliders.

import { html, nothing, render, type TemplateResult } from "lit-html";
import { live } from "lit-html/directives/live.js";
import type { Config } from "../../../models/config.ts";
import { palette } from "../../charts.ts";
import { type EstimateOptions, type EstimateRow, estimate, type Width, widths } from "../../estimateModel.ts";
import { presets } from "../../presets.ts";
import { bytesChart, type Line } from "../../race/charts.ts";
import { formatBytes, formatCount, formatParameters, GIB, shortBytes } from "../../units.ts";
import { drawChart } from "../chart.ts";
import { chip } from "../chip.ts";
import { term } from "../glossary.ts";
import type { Machine } from "../page.ts";
import { shippedConfigs } from "../shippedConfigs.ts";
import type { LedgerAnswer, LedgerRequest } from "./ledgerWorker.ts";

/** Of the slider, as powers of two. */
const CONTEXT = { least: 8, most: 22 };
const STREAMS = { least: 0, most: 8 };
const MEMORY = { least: 0, most: 8 };

interface What {
  models: string[];
  context: number;
  streams: number;
  memory: number;
  dtype: Width;
  cache: Width;
}

/** How many models fit into one chart. */
const MOST_MODELS = 6;

export class WhatIfTab {
  readonly #panel: HTMLElement;
  readonly #machine: Machine;
  readonly #configs = new Map<string, Config>(Object.entries(presets));
  readonly #worker = new Worker(new URL("./ledgerWorker.ts", import.meta.url), { type: "module" });
  readonly #held = new Map<string, LedgerAnswer>();
  #asked = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #what: What = {
    models: ["llama-3-8b", "mistral-7b", "jamba-v0.1", "mamba-2.8b"],
    context: 17,
    streams: 0,
    memory: 4,
    dtype: "f16",
    cache: "f16",
  };

  constructor(panel: HTMLElement, machine: Machine) {
    this.#panel = panel;
    this.#machine = machine;
    this.#recall();
    new ResizeObserver(() => this.#draw()).observe(panel);
    this.#change({});
    this.#open();
  }

  /** The shipped models too: their configurations are small files. */
  async #open(): Promise<void> {
    for (const [arch, config] of await shippedConfigs()) this.#configs.set(arch, config);
    this.#change({});
  }

  get #options(): EstimateOptions {
    const { context, streams, dtype, cache } = this.#what;
    return {
      depths: [2 ** context],
      streams: [2 ** streams],
      dtype,
      typeK: cache,
      typeV: cache,
      typeState: "f32",
      convColumns: "past",
    };
  }

  #change(change: Partial<What>): void {
    Object.assign(this.#what, change);
    this.#remember();
    this.#draw();
    clearTimeout(this.#timer);
    // the ledger follows when the slider rests
    this.#timer = setTimeout(() => this.#ask(), 250);
  }

  #ask(): void {
    this.#worker.onmessage = ({ data }: MessageEvent<LedgerAnswer>) => {
      const model = waiting.get(data.id);
      if (!model) return;
      this.#held.set(model, data);
      this.#draw();
    };
    const waiting = new Map<number, string>();
    this.#held.clear();
    for (const model of this.#shown) {
      const id = ++this.#asked;
      waiting.set(id, model);
      const config = this.#configs.get(model)!;
      this.#worker.postMessage({ id, config, options: this.#options } satisfies LedgerRequest);
    }
  }

  get #shown(): string[] {
    return this.#what.models.filter((model) => this.#configs.has(model)).slice(0, MOST_MODELS);
  }

  #row(model: string, options = this.#options): EstimateRow {
    return estimate(model, this.#configs.get(model)!, options).rows[0]!;
  }

  /** The longest context that fits, a power of two apart found by halving; null: not even one token. */
  #longest(model: string, bytes: number): number | null {
    const total = (tokens: number) => this.#row(model, { ...this.#options, depths: [tokens] }).total;
    if (total(1) > bytes) return null;
    const end = 2 ** 30;
    if (total(end) <= bytes) return Number.POSITIVE_INFINITY;
    let [low, high] = [1, end];
    while (high - low > Math.max(1, low / 1024)) {
      const middle = Math.floor((low + high) / 2);
      if (total(middle) <= bytes) low = middle;
      else high = middle;
    }
    return low;
  }

  #draw(): void {
    if (this.#panel.hidden) return;
    const { context, streams, memory, dtype, cache, models } = this.#what;
    const budget = 2 ** memory * GIB;
    const names = Object.keys(widths) as Width[];
    const select = (label: string, value: Width, set: (value: Width) => void) =>
      html`<label>${label} <select @change=${(event: Event) => set((event.target as HTMLSelectElement).value as Width)}>${names.map((name) => html`<option value=${name} ?selected=${name === value}>${name}</option>`)}</select></label>`;
    const slider = (
      id: string,
      label: string,
      { least, most }: { least: number; most: number },
      value: number,
      shown: string,
      set: (value: number) => void,
    ) =>
      html`<div class="slider"><label for="what-${id}">${label}</label><output for="what-${id}">${shown}</output><input type="range" id="what-${id}" min=${least} max=${most} step="1" .value=${live(String(value))} aria-valuetext=${shown} @input=${(event: Event) => set(Number((event.target as HTMLInputElement).value))}></div>`;
    const box = (name: string) => {
      const checked = models.includes(name);
      const disabled = !checked && models.length >= MOST_MODELS;
      return chip({ name, tone: this.#tone(name), checked, disabled }, (chosen) =>
        this.#change({ models: chosen ? [...models, name] : models.filter((one) => one !== name) }),
      );
    };
    render(
      html`<div class="race">
<form class="controls" aria-label="What if" @submit=${(event: Event) => event.preventDefault()}>
<fieldset><legend>What if</legend>
${slider("context", "Tokens in the context", CONTEXT, context, formatCount(2 ** context), (value) => this.#change({ context: value }))}
${slider("streams", "Streams side by side", STREAMS, streams, formatCount(2 ** streams), (value) => this.#change({ streams: value }))}
${slider("memory", "Memory of the GPU", MEMORY, memory, shortBytes(budget), (value) => this.#change({ memory: value }))}
<div class="fields">${select("Weights as", dtype, (value) => this.#change({ dtype: value }))}${select("Keys and values as", cache, (value) => this.#change({ cache: value }))}</div>
<p class="hint">WebGPU does not say how much memory there is: set it. ${this.#limit()}</p>
</fieldset>
<fieldset><legend>Models</legend><div class="chips">${[...this.#configs.keys()].map(box)}</div><p class="hint">Up to ${MOST_MODELS} at a time.</p></fieldset>
</form>
<div class="results">
<section aria-labelledby="what-title"><h2 id="what-title">At ${formatCount(2 ** context)} tokens${streams > 0 ? ` in each of ${formatCount(2 ** streams)} streams` : ""}</h2>
<figure><h3>All bytes against tokens</h3><div class="canvas" id="what-chart"></div><figcaption>By the literature's ${term("closed formula", "closed formulas")}: weights, state, keys and values. The dots are where the slider stands, the dashed line is the memory.</figcaption></figure></section>
<section aria-labelledby="what-table"><h2 id="what-table">What they hold</h2>${this.#table(budget)}</section>
</div></div>`,
      this.#panel,
    );
    drawChart("what-chart", "All bytes against tokens", (canvas) =>
      bytesChart(this.#lines(budget), { scale: "log", longest: 2 ** CONTEXT.most, what: "bytes" }, canvas),
    );
  }

  #tone(name: string): string {
    const at = this.#shown.indexOf(name);
    return at < 0 ? "series-none" : `series-${TONES[at]}`;
  }

  #lines(budget: number): Line[] {
    const { context } = this.#what;
    const powers = Array.from({ length: CONTEXT.most + 1 }, (_, i) => 2 ** i);
    const lines = this.#shown.map((model, i): Line => {
      const options = { ...this.#options, depths: powers };
      const { rows } = estimate(model, this.#configs.get(model)!, options);
      const at = rows[context]!;
      return {
        label: model,
        colour: `var(--series-${TONES[i]})`,
        theory: rows.map(({ n_depth, total }) => ({ x: n_depth, y: total })),
        points: [
          {
            x: at.n_depth,
            y: at.total,
            title: `${model}\n${formatCount(at.n_depth)} tokens: ${formatBytes(at.total)}`,
          },
        ],
      };
    });
    const memory = { x: 1, y: budget };
    return [
      ...lines,
      {
        label: shortBytes(budget),
        colour: "var(--soft)",
        theory: [memory, { ...memory, x: 2 ** CONTEXT.most }],
        points: [],
        dashed: true,
      },
    ];
  }

  #table(budget: number): TemplateResult {
    return html`<div class="scroll" tabindex="0" role="group" aria-labelledby="what-table"><table>
<thead><tr><th scope="col">model</th><th scope="col" class="number">weights</th><th scope="col" class="number">${term("keys and values")}</th><th scope="col" class="number">${term("state")}</th><th scope="col" class="number">a token more</th><th scope="col" class="number">in all</th><th scope="col">fits</th><th scope="col" class="number">longest that fits</th><th scope="col" class="number">in longtape, f32</th></tr></thead>
<tbody>${this.#shown.map((model) => {
      const row = this.#row(model);
      const { parameters } = estimate(model, this.#configs.get(model)!, this.#options).models[0]!;
      const longest = this.#longest(model, budget);
      const held = this.#held.get(model);
      return html`<tr><th scope="row" class=${this.#tone(model)}><i class="swatch"></i>${model} <span class="hint">${formatParameters(parameters)}</span></th><td class="number">${formatBytes(row.weights)}</td><td class="number">${formatBytes(row.kv)}</td><td class="number">${formatBytes(row.state)}</td><td class="number">${formatBytes(row.bytes_per_token)}</td><td class="number">${formatBytes(row.total)}</td><td>${row.total <= budget ? "yes" : html`<strong>no</strong>`}</td><td class="number">${longest === null ? "none" : longest === Number.POSITIVE_INFINITY ? "any" : `${formatCount(longest)} tokens`}</td><td class="number">${held ? (held.bytes ? formatBytes(held.bytes.total) : "not run") : "…"}</td></tr>`;
    })}</tbody></table></div>
<p class="hint">In longtape: what its ${term("theory", "ledger")} says it would ask for in f32, pages and scratch in it.${[...this.#held.values()].some(({ reason }) => reason) ? html` Not run: ${[...this.#held].flatMap(([model, { reason }]) => (reason ? [`${model}: ${reason}`] : [])).join("; ")}.` : nothing}</p>`;
  }

  /** Where this adapter gives out whatever its memory. */
  #limit(): string {
    const { limits } = this.#machine;
    if (!limits) return "";
    return `This adapter takes buffers of up to ${formatBytes(limits.maxBufferSize)} and binds ${formatBytes(limits.maxStorageBufferBindingSize)} at once: a larger matrix is refused, a cache grows by pages and is not.`;
  }

  #remember(): void {
    if (this.#panel.hidden) return;
    const { models, context, streams, memory, dtype, cache } = this.#what;
    const query = new URLSearchParams({ tab: "what-if", m: models.join(",") });
    for (const [key, value] of Object.entries({ context, streams, memory, dtype, cache }))
      query.set(key, String(value));
    history.replaceState(null, "", `?${query}`);
  }

  #recall(): void {
    const query = new URLSearchParams(location.search);
    if (query.get("tab") !== "what-if") return;
    const models = query.get("m")?.split(",").filter(Boolean);
    if (models) this.#what.models = models.slice(0, MOST_MODELS);
    for (const [key, { least, most }] of Object.entries({
      context: CONTEXT,
      streams: STREAMS,
      memory: MEMORY,
    })) {
      const value = Number(query.get(key) ?? Number.NaN);
      if (Number.isInteger(value) && value >= least && value <= most)
        this.#what[key as "context" | "streams" | "memory"] = value;
    }
    for (const key of ["dtype", "cache"] as const) {
      const value = query.get(key) as Width;
      if (value in widths) this.#what[key] = value;
    }
  }
}

/** Series that are easily told apart, in the order of choice. */
const TONES = [6, 8, 1, 2, 5, 3].filter((tone) => tone <= palette.light.length);
