// The peers' tab: the same models in other runtimes, side by side, on this machine.

import { html, nothing, render } from "lit-html";
import { usualTune } from "../../adapter.ts";
import { toneOf } from "../../charts.ts";
import { peerColours, peerMark, peersChart } from "../../peers/chart.ts";
import type { RivalName } from "../../peers/index.ts";
import { PEERS } from "../../peers/peer.ts";
import { peerMeansAnswer, peersAnswer } from "../../peers/table.ts";
import { benchArchs } from "../../shipped.ts";
import { shippedSubject } from "../../subject.ts";
import { expandTests } from "../../tests.ts";
import { answerTable } from "../answers.ts";
import { drawChart } from "../chart.ts";
import { chip, shippedTone } from "../chip.ts";
import { checkpointsUrl } from "../dom.ts";
import type { Machine } from "../page.ts";
import type { PagePlan } from "../pageRun.ts";
import { RunTab } from "../runTab.ts";

const RIVALS = PEERS.filter((peer): peer is RivalName => peer !== "longtape");

/** Those that other runtimes have a form of. */
const ARCHS = benchArchs.filter((arch) => !["sinks", "strided", "local"].includes(arch));

const tests = expandTests({
  prompts: [64],
  gens: [32],
  promptGens: [],
  promptDepths: [0],
  genDepths: [0],
  streams: [1],
  ubatches: [512],
});
const REPETITIONS = 3;

export class PeersTab extends RunTab {
  readonly #archs = new Set(["llama", "mamba", "gru"]);
  readonly #peers = new Set<RivalName>(RIVALS);

  constructor(panel: HTMLElement, machine: Machine) {
    super(panel, machine);
    this.draw();
  }

  protected override plan(): PagePlan | null {
    const plan = ARCHS.filter((arch) => this.#archs.has(arch)).map((arch) => ({
      subject: shippedSubject(arch, checkpointsUrl),
      tests,
    }));
    const peers = RIVALS.filter((peer) => this.#peers.has(peer));
    if (plan.length === 0 || peers.length === 0) {
      this.fault = "Choose at least one model and one runtime.";
      return null;
    }
    const tune = usualTune(this.machine.adapter!);
    const settings = { repetitions: REPETITIONS, warmup: true, tune, peers };
    return { plan, settings, runtimes: 1 + peers.length, fresh: true };
  }

  protected override draw(): void {
    const { results } = this;
    const rows = results?.rows ?? [];
    const means = peerMeansAnswer(rows);
    const table = rows.length > 0 ? peersAnswer(rows, results!.environment.peers) : null;
    const names = [...new Set(rows.map(({ test }) => test))];
    const box = <T extends string>(name: T, set: Set<T>, tone: string) =>
      chip({ name, tone, checked: set.has(name) }, (checked) => {
        if (checked) set.add(name);
        else set.delete(name);
      });
    render(
      html`<div class="race">
<div class="controls">
<fieldset ?disabled=${this.running}><legend>Models</legend><div class="chips">${ARCHS.map((arch) => box(arch, this.#archs, shippedTone(arch)))}</div></fieldset>
<fieldset ?disabled=${this.running}><legend>Beside longtape</legend><div class="chips">${RIVALS.map((peer) => box(peer, this.#peers, toneOf(peerColours[peer] ?? "")))}</div></fieldset>
<p class="hint">The same weights and tokens: a prompt of 64, then 32 generated, ${REPETITIONS} rounds by turns. A runtime is fetched when it is first run, and timed once its logits agree with those of the reference. ${globalThis.crossOriginIsolated ? "" : "This page is not cross-origin isolated, so ort-wasm has one thread: reload it once, or serve it with the headers that README names."}</p>
</div>
<div class="results">
<section aria-labelledby="peers-run"><h2 id="peers-run">Side by side on this machine</h2>
${this.bar()}</section>
${names.map((test, i) => html`<section ?hidden=${new Set(rows.filter((row) => row.test === test && row.avg_ts !== null).map(({ peer }) => peer)).size < 2}><figure><h3>${test}: tokens a second</h3><div class="canvas" id="peers-chart-${i}"></div><figcaption>${[...new Set(rows.map(({ peer }) => peer))].map((peer) => html`<span class="mark-${peer}">${peerMark(peer)} ${peer}</span> `)}: to the right is faster.</figcaption></figure></section>`)}
${means ? answerTable(means) : nothing}
${table ? answerTable(table) : nothing}
</div></div>`,
      this.panel,
    );
    for (const [i, test] of names.entries())
      drawChart(`peers-chart-${i}`, `Tokens a second, ${test}`, (canvas) =>
        peersChart(
          rows.filter((row) => row.test === test),
          canvas,
        ),
      );
  }
}
