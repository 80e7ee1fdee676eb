// The page's words, each in a sentence or two: beside the words themselves, and all in one place.

import { html, render, type TemplateResult } from "lit-html";

const words: Readonly<Record<string, string>> = {
  measured:
    "Counted or timed in this browser, in this run. Bytes are those of buffers that were asked of WebGPU and not given back, counted by the engine by category and, beside it, from outside on the device; they are exact. Times are taken with the page's clock from the call to the last id in JavaScript. What the driver adds to a buffer, and what other programs hold, is not in it.",
  theory:
    "The bytes that the engine must ask for, by its own ledger: the same model laid out on a machine that allocates nothing and only counts. It holds the closed formula's bytes and what pages, padding and scratch add.",
  error:
    "All bytes asked of WebGPU, counted from outside, over all bytes that theory says, less one. It must be 0.00: anything else is a mistake of ours.",
  "closed formula":
    "The literature's formula for what an architecture needs by its mathematics alone, with no padding, no pages and no scratch.",
  "state + kv":
    "What is carried from token to token: recurrent state, and the keys and values of a cache. The rest, weights and scratch, does not grow with the text.",
  "keys and values": "What attention keeps of each token so as not to compute it again: the KV cache.",
  state: "What a recurrent model keeps instead: of fixed size, and written over with every token.",
  page: "The cache grows by pieces, so that nothing is ever copied: a page holds 256 tokens, and later up to an eighth of the length.",
  scratch: "What a token is worked out in and then forgotten.",
  "bytes a token": "State, keys and values, over the tokens that are held.",
  latency:
    "The time from one token to the next, in the median (p50) and for the slowest of twenty (p95). Ids that come back in one submit share the time since those before.",
  "of the bandwidth":
    "Bytes that the kernels must move for a token, over its time, as a share of the best that was measured on this adapter in the same run. At 100% the memory is the limit.",
  "software adapter":
    "WebGPU computed on the CPU, as by SwiftShader. Bytes are as exact there; speeds say nothing of a GPU.",
  "CPU machine":
    "The kernels' plain references in JavaScript, with no WebGPU at all: what every kernel is tested against.",
  stream: "An independent text. Several run in lock-step over the same weights.",
  temperature: "How freely the next token is drawn: 0 takes the likeliest, 1 draws as the model says.",
  variants:
    "Several ways to do one kernel's job. Which is fastest here is found by a race before the weights are loaded, and kept in this browser.",
  "time slice":
    "The racers share one GPU and run by turns. Who has had least time is next, and each one's speed counts its own turns only.",
  NMSE: "Normalised mean squared error: the squared difference of the logits over their squared size.",
  "time to first token": "From the opening of the checkpoint to the first generated id in JavaScript.",
};

const idOf = (word: string): string => `term-${word.replace(/\W+/g, "-")}`;

/** A word that says what it means when it is asked: `shown` is how it stands in its sentence. */
export function term(word: string, shown = word): TemplateResult {
  if (!(word in words)) throw new Error(`the glossary has no ${word}`);
  return html`<button type="button" class="term" popovertarget=${idOf(word)}>${shown}</button>`;
}

/** A question mark beside a field's label, which may hold no button. */
export const ask = (word: string): TemplateResult =>
  html`<button type="button" class="ask" popovertarget=${idOf(word)} aria-label="What is meant by ${word}">?</button>`;

/** The notes that words open. */
export function addNotes(): void {
  const place = document.createElement("div");
  document.body.append(place);
  const notes = Object.entries(words).map(
    ([word, meaning]) =>
      html`<div popover class="note" id=${idOf(word)} role="note"><strong>${word}</strong> ${meaning}</div>`,
  );
  render(notes, place);
}

export function showGlossary(panel: HTMLElement): void {
  const entries = Object.entries(words).map(([word, meaning]) => html`<dt>${word}</dt><dd>${meaning}</dd>`);
  render(html`<h2>Words</h2><dl class="glossary">${entries}</dl>`, panel);
}
