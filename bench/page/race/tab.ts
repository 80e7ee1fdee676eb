// The race's tab: choose racers, start, watch.

import { html, nothing, render, type TemplateResult } from "lit-html";
import { live } from "lit-html/directives/live.js";
import { usualTune } from "../../adapter.ts";
import type { Layers } from "../../closed.ts";
import { bytesChart, type Line, type Scale, speedChart } from "../../race/charts.ts";
import type { RaceSettings } from "../../race/race.ts";
import { benchArchs } from "../../shipped.ts";
import { type Subject, shippedSubject } from "../../subject.ts";
import { formatCount } from "../../units.ts";
import { drawChart } from "../chart.ts";
import { chip, shippedTone } from "../chip.ts";
import { checkpointsUrl, say } from "../dom.ts";
import { build, environment } from "../environment.ts";
import { droppedFolders, pickedFolder } from "../folders.ts";
import { ask, term } from "../glossary.ts";
import { Keeper } from "../keep.ts";
import type { Machine } from "../page.ts";
import { shippedLayers } from "../shippedConfigs.ts";
import { bounds, fromQuery, type NumberField, type RaceChoice, readNumber, toQuery } from "./choice.ts";
import { downloads } from "./downloads.ts";
import { type Own, OwnModels } from "./ownModels.ts";
import { carriedNow, carriedThen, explanations, formulaLines, lanes } from "./panels.ts";
import type { RaceAnswer, RaceRequest } from "./raceWorker.ts";
import { RaceState } from "./state.ts";
import { racersTable } from "./table.ts";

type Phase = "ready" | "opening" | "running" | "paused" | "ended" | "lost";

/** Text is brought up to date this often, charts that often: drawing them takes longer. */
const TEXT_MS = 100;
const CHART_MS = 400;

/** Where there is room, all settings are open from the start. */
const WIDE = matchMedia("(min-width: 861px)").matches;

/** Words of the glossary beside fields. */
const HELP: Partial<Record<NumberField, string>> = { streams: "stream", temperature: "temperature" };

export class RaceTab {
  readonly #panel: HTMLElement;
  readonly #machine: Machine;
  readonly #keeper = new Keeper("race");
  #choice: RaceChoice;
  readonly #own = new OwnModels();
  #ownUrl = "";
  #phase: Phase = "ready";
  #worker: Worker | null = null;
  #state: RaceState | null = null;
  /** Paused because nobody could see it. */
  #hidden = false;
  #message = "";
  #copied = "";
  #broken: string | null = null;
  #layers: ReadonlyMap<string, Layers[]> = new Map();
  #scheduled = false;
  #drawn = { text: 0, charts: 0 };
  #later: ReturnType<typeof setTimeout> | undefined;

  constructor(panel: HTMLElement, machine: Machine) {
    this.#panel = panel;
    this.#machine = machine;
    const query = new URLSearchParams(location.search);
    this.#choice = fromQuery(query);
    // a person's own adapter is worth a race of variants
    if (machine.adapter && !query.has("tune")) this.#choice.tune = usualTune(machine.adapter);
    document.addEventListener("visibilitychange", () => this.#onVisibility());
    addEventListener("dragover", (event) => this.#onDrag(event));
    addEventListener("drop", (event) => this.#onDrop(event));
    new ResizeObserver(() => this.#redraw()).observe(panel);
    this.#draw();
    this.#open();
  }

  async #open(): Promise<void> {
    this.#layers = await shippedLayers();
    await this.#keeper.open();
    this.#redraw();
  }

  get #active(): boolean {
    return this.#phase === "opening" || this.#phase === "running" || this.#phase === "paused";
  }

  // What a person does

  #start(): void {
    this.#message = "";
    this.#copied = "";
    const subjects = [
      ...this.#choice.archs.map((arch) => ({ subject: shippedSubject(arch, checkpointsUrl), files: null })),
      ...this.#own.chosen,
    ];
    if (subjects.length === 0) {
      this.#message = "No racer is chosen; choose at least one.";
      this.#redraw();
      return;
    }
    const { prompt, tokens, streams, temperature, seed, tune } = this.#choice;
    if (prompt === "") {
      this.#message = "The prompt is empty; at least one character is wanted.";
      this.#redraw();
      return;
    }
    this.#remember();
    const settings: RaceSettings = {
      ...{ prompt, tokens, streams, temperature, seed, tune },
      machine: this.#machine.adapter ? "gpu" : "cpu",
      build_commit: build.commit,
      version: build.versions.longtape ?? null,
    };
    this.#state = new RaceState(settings, environment(seed));
    this.#phase = "opening";
    this.#broken = null;
    this.#hidden = false;
    // a worker that has only looked at folders serves; one that has raced holds memory
    const worker = this.#ask({ type: "start", settings });
    for (const { subject, files } of subjects) this.#join(worker, subject, files);
    say(`The race begins, ${subjects.length} racers.`);
    this.#redraw();
  }

  #join(worker: Worker, subject: Subject, files: File[] | null): void {
    this.#state!.add(subject);
    worker.postMessage({ type: "add", subject, files } satisfies RaceRequest);
  }

  #pause(): void {
    this.#phase = "paused";
    this.#worker?.postMessage({ type: "pause" } satisfies RaceRequest);
    say("Paused.");
    this.#redraw();
  }

  #resume(): void {
    this.#phase = "running";
    this.#hidden = false;
    this.#worker?.postMessage({ type: "resume" } satisfies RaceRequest);
    say("The race goes on.");
    this.#redraw();
  }

  #stop(phase: Phase = "ended"): void {
    this.#worker?.terminate();
    this.#worker = null;
    this.#phase = phase;
    this.#keep(true);
    this.#redraw();
  }

  #restart(): void {
    this.#stop();
    this.#start();
  }

  #ask(request: RaceRequest): Worker {
    if (!this.#worker) {
      const worker = new Worker(new URL("./raceWorker.ts", import.meta.url), { type: "module" });
      worker.addEventListener("message", ({ data }: MessageEvent<RaceAnswer>) => {
        if (this.#worker === worker) this.#take(data);
      });
      worker.addEventListener("error", (event) => {
        event.preventDefault();
        if (this.#worker === worker)
          this.#break(`The race broke off: ${event.message || "its code could not be loaded"}.`);
      });
      this.#worker = worker;
    }
    this.#worker.postMessage(request);
    return this.#worker;
  }

  // What the race tells

  #take(event: RaceAnswer): void {
    switch (event.type) {
      case "checked":
        this.#own.checked(event.folder, event.fault);
        if (event.fault) say(event.fault);
        break;
      case "error":
        this.#break(event.message);
        break;
      case "trace":
        console.warn(event.stack);
        break;
      default: {
        const spoken = this.#state?.apply(event);
        if (spoken) say(spoken);
        if (event.type === "open" && this.#phase === "opening") this.#phase = "running";
        if (event.type === "lost") this.#stop("lost");
        if (event.type === "idle" && this.#phase === "running") {
          this.#stop();
          say("The race is over.");
        }
        this.#keep(false);
      }
    }
    this.#redraw();
  }

  #break(why: string): void {
    this.#broken = why;
    say(why);
    this.#stop();
  }

  #onVisibility(): void {
    if (!document.hidden || this.#phase !== "running") return;
    this.#state!.environment.tab_hidden = true;
    this.#pause();
    this.#hidden = true;
    this.#redraw();
  }

  #keep(now: boolean): void {
    if (this.#state?.measured) this.#keeper.keep(() => this.#state!.results(), now);
  }

  // Models of one's own

  #onDrag(event: DragEvent): void {
    if (this.#panel.hidden || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  }

  async #onDrop(event: DragEvent): Promise<void> {
    if (this.#panel.hidden || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    for (const folder of await droppedFolders(event.dataTransfer)) this.#offer(this.#own.fromFolder(folder));
  }

  #offerAddress(): void {
    const url = this.#ownUrl.trim();
    const own = this.#own.fromAddress(url);
    if (!own) {
      this.#message = `${JSON.stringify(url)} is not an address, wanted one such as https://host/folder.`;
      this.#redraw();
      return;
    }
    this.#ownUrl = "";
    this.#message = "";
    this.#offer(own);
  }

  /** Who comes while a race is on joins it. */
  #offer({ subject, files }: Own): void {
    this.#ask({ type: "check", subject, files });
    if (this.#active) this.#join(this.#worker!, subject, files);
    this.#redraw();
  }

  /** The whole choice in the page's address. */
  #remember(): void {
    history.replaceState(null, "", `?${toQuery(this.#choice)}`);
  }

  // What is seen

  #set(change: Partial<RaceChoice>): void {
    Object.assign(this.#choice, change);
    this.#remember();
    this.#drawn.charts = 0;
    this.#redraw();
  }

  #setNumber(field: NumberField, input: HTMLInputElement): void {
    const value = readNumber(field, input.value);
    input.toggleAttribute("aria-invalid", typeof value === "string");
    if (typeof value === "string") {
      this.#message = value;
      this.#redraw();
      return;
    }
    this.#message = "";
    this.#set({ [field]: value });
  }

  #redraw(): void {
    if (this.#scheduled || this.#panel.hidden) return;
    this.#scheduled = true;
    const wait = Math.max(0, this.#drawn.text + TEXT_MS - performance.now());
    setTimeout(() => requestAnimationFrame(() => this.#draw()), wait);
  }

  #draw(): void {
    this.#scheduled = false;
    this.#drawn.text = performance.now();
    render(this.#template(), this.#panel);
    const due = this.#drawn.charts + CHART_MS - performance.now();
    clearTimeout(this.#later);
    if (due > 0) {
      this.#later = setTimeout(() => this.#redraw(), due);
      return;
    }
    this.#drawCharts();
    this.#drawn.charts = performance.now();
  }

  #drawCharts(): void {
    const { scale, everything } = this.#choice;
    const longest = this.#state?.longest ?? this.#choice.tokens;
    const carried = "state + keys and values";
    const axes = { scale, longest };
    drawChart("race-bytes", "Bytes against tokens", (canvas) =>
      bytesChart(this.#bytesLines(), { ...axes, what: everything ? "all bytes" : carried }, canvas),
    );
    drawChart("race-speed", "Tokens a second against tokens", (canvas) =>
      speedChart(this.#state?.speedLines() ?? [], { ...axes, what: "tokens a second" }, canvas),
    );
  }

  /** Before a race, the literature's formulas. */
  #bytesLines(): Line[] {
    return this.#state?.bytesLines(this.#choice.everything) ?? formulaLines(this.#choice, this.#layers);
  }

  #template(): TemplateResult {
    const state = this.#state;
    return html`${this.#kept()}
<div class="race">
${this.#controls()}
<div class="results">
${this.#notices()}
<section aria-labelledby="race-title">
<div class="heading"><h2 id="race-title">${this.#title()}</h2>${this.#switches()}</div>
<div class="charts">
<figure><h3>Bytes against tokens</h3><div class="canvas" id="race-bytes"></div>
<figcaption>${state ? html`Points were ${term("measured")}, lines are ${term("theory")}: what the engine must hold, to the byte. Steps are ${term("page", "pages")}.` : html`Theory, by the literature's ${term("closed formula", "formulas")}. Press Start to measure it.`}</figcaption></figure>
<figure><h3>Tokens a second against tokens</h3><div class="canvas" id="race-speed"></div><p class="empty" ?hidden=${state?.measured ?? false}>Measured once the race runs.</p>
<figcaption>All streams together; each racer's clock runs in its own ${term("time slice", "turns")} only.</figcaption></figure>
</div>
</section>
${state ? lanes(state) : nothing}
${state ? html`<section aria-labelledby="table-title"><h2 id="table-title">Measured</h2>${racersTable(state.racers)}</section>` : nothing}
${explanations(state ? carriedNow(state) : carriedThen(this.#choice, this.#layers), state ? "at the tokens that each holds now" : `at ${formatCount(this.#choice.tokens)} tokens`)}
${state?.measured ? downloads(state, this.#phase, { copyLink: () => this.#link(), copied: this.#copied }) : nothing}
</div>
</div>`;
  }

  #title(): string {
    switch (this.#phase) {
      case "ready":
        return "At the start";
      case "opening":
        return "Opening the GPU …";
      case "running":
        return this.#state!.racers.some(({ status }) => status === "running") ? "Running" : "Loading …";
      case "paused":
        return "Paused";
      case "lost":
        return "The GPU was lost";
      case "ended":
        return "Ended";
    }
  }

  #kept(): TemplateResult | typeof nothing {
    const kept = this.#keeper.found;
    if (!kept || this.#state) return nothing;
    const when = new Date(kept.environment.started).toLocaleString("en-GB", {
      dateStyle: "medium",
      timeStyle: "short",
    });
    const names = kept.rows.map(({ model }) => model).join(", ");
    return html`<div class="notice quiet kept"><p>A race of ${when} is kept in this browser: ${names}.</p>
<p class="actions"><button type="button" @click=${() => this.#show()}>Show it</button><button type="button" @click=${() => this.#discard()}>Discard it</button></p></div>`;
  }

  #show(): void {
    this.#state = RaceState.of(this.#keeper.found!);
    this.#phase = "ended";
    this.#drawn.charts = 0;
    this.#redraw();
  }

  #discard(): void {
    this.#keeper.discard();
    this.#redraw();
  }

  #notices(): TemplateResult | typeof nothing {
    if (this.#phase === "lost")
      return html`<div class="notice wrong" role="alert"><p><strong>The GPU was taken away from this page</strong> (${this.#state?.lost}). What was measured is below and stays. Drivers do this when a task takes too long, when memory runs out, or when the machine slept.</p>
<p class="actions"><button type="button" class="primary" @click=${() => this.#restart()}>Start again on a new device</button></p></div>`;
    if (this.#broken) return html`<div class="notice wrong" role="alert"><p>${this.#broken}</p></div>`;
    if (this.#phase === "paused" && this.#hidden)
      return html`<div class="notice" role="status"><p>Paused, because this tab was hidden: browsers slow hidden tabs down, and no speed would be true.</p>
<p class="actions"><button type="button" class="primary" @click=${() => this.#resume()}>Go on</button></p></div>`;
    return nothing;
  }

  #controls(): TemplateResult {
    const { prompt, tune } = this.#choice;
    const active = this.#active;
    return html`<form class="controls" id="race-form" aria-label="The race" novalidate @submit=${(
      event: Event,
    ) => {
      event.preventDefault();
      if (!this.#active) this.#start();
    }}>
<div class="actions">${this.#buttons()}</div>
<p class="message" role="alert">${this.#message}</p>
<fieldset ?disabled=${active}>
<legend>Racers</legend>
<div class="chips">${benchArchs.map((arch) => this.#chip(arch))}${this.#own.all.map((own) => this.#ownChip(own))}</div>
</fieldset>
<details ?open=${WIDE}><summary>Your own model</summary>
<p class="hint">Drop a Hugging Face folder anywhere on this page${active ? ": it joins the race" : ""}. Its files stay on this machine.</p>
<label class="file">A folder <input type="file" id="race-folder" webkitdirectory @change=${(event: Event) => this.#pick(event.target as HTMLInputElement)}></label>
<label for="race-url">An address</label>
<div class="joined"><input id="race-url" type="url" inputmode="url" placeholder="https://…/resolve/main" .value=${live(this.#ownUrl)} @input=${(
      event: Event,
    ) => {
      this.#ownUrl = (event.target as HTMLInputElement).value;
    }}><button type="button" @click=${() => this.#offerAddress()}>Add</button></div>
</details>
<details ?open=${WIDE}><summary>The run</summary>
<fieldset ?disabled=${active}>
<legend class="spoken">The run</legend>
<label>Prompt <textarea id="race-prompt" rows="2" .value=${live(prompt)} @input=${(event: Event) => this.#set({ prompt: (event.target as HTMLTextAreaElement).value })}></textarea></label>
${this.#number("tokens", html`<span class="links">${[256, 2048, 65_536, 2 ** 20].map((n) => html`<button type="button" class="link" @click=${() => this.#set({ tokens: n })}>${n === 2 ** 20 ? "a million" : formatCount(n)}</button> `)}</span>`)}
<div class="fields">
${this.#number("streams")}
${this.#number("temperature")}
${this.#number("seed")}
<div><span class="label"><label for="race-tune">Variants</label>${ask("variants")}</span><select id="race-tune" .value=${live(tune)} @change=${(event: Event) => this.#set({ tune: (event.target as HTMLSelectElement).value as RaceChoice["tune"] })}>
<option value="off" ?selected=${tune === "off"}>defaults</option>
<option value="cached" ?selected=${tune === "cached"}>raced once</option>
<option value="full" ?selected=${tune === "full"}>raced again</option>
</select></div>
</div>
</fieldset></details>
</form>`;
  }

  #buttons(): TemplateResult {
    if (!this.#active)
      return html`<button type="submit" class="primary">${this.#phase === "ready" ? "Start" : "Start again"}</button>`;
    const paused = this.#phase === "paused";
    return html`<button type="button" class="primary" @click=${() => (paused ? this.#resume() : this.#pause())}>${paused ? "Resume" : "Pause"}</button><button type="button" @click=${() => this.#stop()}>Stop</button><button type="button" @click=${() => this.#restart()}>Restart</button>`;
  }

  #chip(arch: string): TemplateResult {
    const { archs } = this.#choice;
    return chip({ name: arch, tone: shippedTone(arch), checked: archs.includes(arch) }, (checked) => {
      // in the order of the list, whatever the order of clicks
      this.#set({ archs: benchArchs.filter((one) => (one === arch ? checked : archs.includes(one))) });
    });
  }

  #ownChip(own: Own): TemplateResult {
    const { subject, chosen, fault } = own;
    const change = (event: Event) => {
      own.chosen = (event.target as HTMLInputElement).checked;
      this.#redraw();
    };
    return html`<label class="chip own"><input type="checkbox" value=${subject.model} .checked=${live(chosen && !fault)} ?disabled=${Boolean(fault)} @change=${change}><i class="swatch"></i><span>${subject.model}${fault === null ? " …" : ""}</span></label>${fault ? html`<p class="message">${fault}</p>` : nothing}`;
  }

  #number(field: NumberField, beside: TemplateResult | typeof nothing = nothing): TemplateResult {
    const shown = field === "seed" ? String(this.#choice[field]) : formatCount(this.#choice[field]);
    return html`<div><span class="label"><label for="race-${field}">${bounds[field].label}</label>${HELP[field] ? ask(HELP[field]) : nothing}</span><input id="race-${field}" inputmode="decimal" .value=${shown} @change=${(event: Event) => this.#setNumber(field, event.target as HTMLInputElement)}>${beside}</div>`;
  }

  #switches(): TemplateResult {
    const { scale, everything } = this.#choice;
    const one = (name: string, label: string, checked: boolean, change: Partial<RaceChoice>) =>
      html`<label><input type="radio" name=${name} .checked=${live(checked)} @change=${() => this.#set(change)}><span>${label}</span></label>`;
    const scales: Scale[] = ["linear", "log"];
    return html`<div class="switches">
<fieldset class="segmented"><legend>Axes</legend>${scales.map((name) => one("race-scale", name, scale === name, { scale: name }))}</fieldset>
<fieldset class="segmented"><legend>Bytes</legend>${one("race-bytes", "carried", !everything, { everything: false })}${one("race-bytes", "everything", everything, { everything: true })}</fieldset>
</div>`;
  }

  #pick(input: HTMLInputElement): void {
    const folder = pickedFolder(input.files);
    input.value = "";
    if (folder) this.#offer(this.#own.fromFolder(folder));
  }

  /** Where a page may not write to the clipboard, the address bar has it all the same. */
  async #link(): Promise<void> {
    this.#remember();
    this.#copied = await navigator.clipboard.writeText(location.href).then(
      () => "The link is on the clipboard.",
      () => "The link stands in the address bar.",
    );
    say(this.#copied);
    this.#redraw();
  }
}
