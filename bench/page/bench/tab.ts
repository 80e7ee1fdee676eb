// The bench tab: choose, run, watch the rows, save them. What runs is bench/run.ts, the same that the command line runs.

import { usualTune } from "../../adapter.ts";
import { byId, say } from "../dom.ts";
import type { Machine } from "../page.ts";
import { ending, PageRun } from "../pageRun.ts";
import { saveResults } from "../runBar.ts";
import type { WorkerEvent } from "./benchWorker.ts";
import { type Choice, Form, FormError } from "./form.ts";
import { describeRow, View } from "./view.ts";

export class BenchTab {
  readonly #form = new Form();
  readonly #view = new View();
  readonly #runButton = byId("run", HTMLButtonElement);
  readonly #stopButton = byId("stop", HTMLButtonElement);
  readonly #saveButton = byId("save", HTMLButtonElement);
  readonly #message = byId("message", HTMLElement);
  readonly #bar = byId("bar", HTMLProgressElement);
  readonly #doing = byId("doing", HTMLElement);
  #run: PageRun | null = null;
  #running = false;

  constructor({ adapter }: Machine) {
    this.#form.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#stopButton.addEventListener("click", () => this.#run?.stop());
    this.#saveButton.addEventListener("click", () => saveResults(this.#run!.results));
    if (!adapter) return;
    this.#form.tune = usualTune(adapter);
    this.#runButton.disabled = false;
  }

  #submit(): void {
    if (this.#running || this.#runButton.disabled) return;
    this.#message.textContent = "";
    try {
      this.#start(this.#form.read());
    } catch (error) {
      if (!(error instanceof FormError)) throw error;
      this.#message.textContent = error.message;
      error.field?.focus();
    }
  }

  #start({ subjects, tests, repetitions, tune, picked }: Choice): void {
    const plan = subjects.map((subject) => ({ subject, tests }));
    const run = new PageRun(
      { plan, settings: { repetitions, warmup: true, tune }, picked },
      { onEvent: (event) => this.#take(event), onEnd: (how, fault) => this.#end(how, fault) },
    );
    this.#run = run;
    this.#view.clear();
    this.#bar.value = 0;
    this.#bar.max = run.of;
    this.#show(true);
    this.#doing.textContent = run.doing;
    say(`Running ${run.of} tests.`);
  }

  #take(event: WorkerEvent): void {
    const run = this.#run!;
    if (event.type === "curve") this.#view.addCurve(event.curve);
    if (event.type === "row") {
      this.#bar.value = run.rows;
      this.#view.addRow(event.row);
      say(describeRow(event.row));
    }
    if (event.type === "step") this.#doing.textContent = run.doing;
  }

  #end(how: string, fault: string | null): void {
    this.#show(false);
    this.#doing.textContent = ending(this.#run!, how);
    this.#message.textContent = fault ?? "";
    say(this.#doing.textContent);
  }

  #show(isRunning: boolean): void {
    this.#running = isRunning;
    this.#form.disable(isRunning);
    this.#runButton.disabled = isRunning;
    this.#stopButton.disabled = !isRunning;
    this.#saveButton.disabled = isRunning || !this.#run?.results.rows.length;
  }
}
