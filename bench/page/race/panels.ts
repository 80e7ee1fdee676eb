// What stands beside the race's charts: what racers write, and what they carry and why. Templates of what they are given.

import { html, nothing, type TemplateResult } from "lit-html";
import { ref } from "lit-html/directives/ref.js";
import { colours } from "../../charts.ts";
import { closedKv, closedState, type Layers } from "../../closed.ts";
import type { Line } from "../../race/charts.ts";
import { explain } from "../../race/explain.ts";
import { benchArchs } from "../../shipped.ts";
import { formatCount } from "../../units.ts";
import { shippedTone } from "../chip.ts";
import { term } from "../glossary.ts";
import type { RaceChoice } from "./choice.ts";
import type { RacerState, RaceState } from "./state.ts";

/** Tokens of the sequences that the shipped models were trained on. */
const TRAINED = 256;

const shippedColours = colours(benchArchs);

export function lanes({ racers }: RaceState): TemplateResult {
  const past = racers.some(({ trace }) => (trace.points.at(-1)?.context ?? 0) > TRAINED);
  return html`<section aria-labelledby="lanes-title"><h2 id="lanes-title">What they write</h2>
<div class="lanes">${racers.map(lane)}</div>
${past ? html`<p class="hint">The shipped models were trained on ${TRAINED} bytes at a time. Past that, full attention meets positions that it has never seen, and its text falls apart: that is the model, not the engine. Bytes and speed are what is under test.</p>` : nothing}</section>`;
}

function lane({ name, tone, status, what, progress, text, reason, row, trace }: RacerState): TemplateResult {
  const generated = trace.points.at(-1)?.generated ?? 0;
  return html`<article class="lane ${tone} ${status}" aria-label=${name}>
<h3><i class="swatch"></i>${name}<span class="count">${row ? formatCount(generated) : nothing}</span></h3>
${body()}
</article>`;

  function body(): TemplateResult {
    if (status === "waiting") return html`<p class="hint">Waits for its turn to load.</p>`;
    if (status === "loading")
      return html`<p class="hint">${what}</p>${progress ? html`<progress max=${progress.of} .value=${progress.done} aria-label="Tensors loaded"></progress>` : nothing}`;
    if (reason) return html`<p class="message">${reason}</p>`;
    return html`<p class="text" tabindex="0" role="group" aria-label="Text of ${name}" ${ref(keepEnd)}>${text}</p>`;
  }
}

/** New text stays in sight, unless somebody reads further up. */
function keepEnd(element: Element | undefined): void {
  const box = element as (HTMLElement & { watched?: true }) | undefined;
  if (!box || box.watched) return;
  box.watched = true;
  let atEnd = true;
  box.addEventListener("scroll", () => {
    atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < box.clientHeight / 4;
  });
  new MutationObserver(() => {
    if (atEnd) box.scrollTop = box.scrollHeight;
  }).observe(box, { characterData: true, childList: true, subtree: true });
}

/** A model's layers, and the tokens that it holds of each stream. */
interface Carried {
  name: string;
  tone: string;
  layers: Layers[];
  context: number;
  streams: number;
}

export const carriedNow = ({ racers, settings: { streams } }: RaceState): Carried[] =>
  racers.flatMap(({ name, tone, loaded, trace }) => {
    if (!loaded?.layers) return [];
    const context = trace.points.at(-1)?.context ?? loaded.prompt;
    return { name, tone, layers: loaded.layers, context, streams };
  });

/** When the last token is there. */
export const carriedThen = (
  { archs, tokens, streams }: RaceChoice,
  shipped: ReadonlyMap<string, Layers[]>,
): Carried[] =>
  archs.flatMap((name) => {
    const layers = shipped.get(name);
    return layers ? { name, tone: shippedTone(name), layers, context: tokens, streams } : [];
  });

/** `when`: in words. */
export function explanations(all: readonly Carried[], when: string): TemplateResult | typeof nothing {
  if (all.length === 0) return nothing;
  return html`<section aria-labelledby="why-title"><h2 id="why-title">What each of them carries</h2>
<p class="hint">The literature's ${term("closed formula", "closed formulas")}, with this run's numbers put in: ${when}, in f32. What the engine adds, pages and padding, is in ${term("theory")}.</p>
<dl class="why">${all.map(
    ({ name, tone, layers, context, streams }) =>
      html`<div class=${tone}><dt><i class="swatch"></i>${name}</dt>${explain(layers, context, streams).map(
        ({ what, formula, numbers, value, more }) =>
          html`<dd><p>${what} ${more}</p><p class="formula">${formula}<br>${numbers} = <strong>${value}</strong></p></dd>`,
      )}</div>`,
  )}</dl></section>`;
}

/** Bytes carried against tokens, by the literature's formulas: what a race will be held against. */
export function formulaLines(choice: RaceChoice, shipped: ReadonlyMap<string, Layers[]>): Line[] {
  return carriedThen(choice, shipped).map(({ name, layers, context, streams }) => {
    const at = (tokens: number) => {
      const size = { tokens, streams, elementBytes: 4 };
      return closedKv({ layers }, size) + closedState({ parameters: 0, layers }, size);
    };
    const theory = steps(context).map((x) => ({ x, y: at(x) }));
    return { label: name, colour: shippedColours.get(name)!, theory, points: [] };
  });
}

/** Tokens at which a formula is drawn: every power of two, and steps between for a linear axis. */
function steps(tokens: number): number[] {
  const points = new Set<number>([1, tokens]);
  for (let power = 1; power < tokens; power *= 2) points.add(power);
  for (let i = 1; i < 32; i++) points.add(Math.max(1, Math.round((tokens * i) / 32)));
  return [...points].sort((a, b) => a - b);
}
