// What the tabs that run the bench have in common: a run, its bar, and a panel that is drawn anew when something has come.

import type { TemplateResult } from "lit-html";
import type { Results } from "../row.ts";
import { say } from "./dom.ts";
import type { Machine } from "./page.ts";
import { ending, type PagePlan, PageRun } from "./pageRun.ts";
import { runBar } from "./runBar.ts";

export abstract class RunTab {
  protected readonly panel: HTMLElement;
  protected readonly machine: Machine;
  protected running = false;
  protected fault: string | null = null;
  #run: PageRun | null = null;
  #doing = "Nothing has run on this machine yet.";

  constructor(panel: HTMLElement, machine: Machine) {
    this.panel = panel;
    this.machine = machine;
  }

  protected abstract draw(): void;
  /** What a person's "Run" runs; null where `fault` says why nothing can be. */
  protected abstract plan(): PagePlan | null;

  /** Of the run that is under way, or of the last; null before the first. */
  protected get results(): Results | null {
    return this.#run?.results ?? null;
  }

  protected bar(): TemplateResult {
    const state = {
      running: this.running,
      possible: this.machine.adapter !== null,
      rows: this.#run?.rows ?? 0,
      of: this.#run?.of ?? 0,
      doing: this.#doing,
      fault: this.fault,
      results: this.results,
    };
    return runBar(state, { run: () => this.#start(), stop: () => this.#run?.stop() });
  }

  #start(): void {
    this.fault = null;
    const plan = this.plan();
    if (plan) {
      this.running = true;
      this.#run = new PageRun(plan, {
        onEvent: ({ type }) => {
          this.#doing = this.#run!.doing;
          if (type === "row" || type === "step") this.draw();
        },
        onEnd: (how, fault) => {
          this.running = false;
          this.fault = fault;
          this.#doing = ending(this.#run!, how);
          say(this.#doing);
          this.draw();
        },
      });
      say(`Running ${this.#run.of} rows.`);
    }
    this.draw();
  }
}
