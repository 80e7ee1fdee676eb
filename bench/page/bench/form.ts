// The page's form: what it offers, what it asks for, and the address that brings the same choice back.

import type { Tune } from "../../../engine/tune.ts";
import { colours, toneOf } from "../../charts.ts";
import { benchArchs } from "../../shipped.ts";
import { CONFIG_FILE, checkpoint, type Subject, seeded, shippedSubject } from "../../subject.ts";
import { expandTests, type Test } from "../../tests.ts";
import { byId, checkpointsUrl, element } from "../dom.ts";

const LISTS = ["p", "n", "d", "npl"] as const;
const FIELDS = [...LISTS, "r"] as const;
type Field = (typeof FIELDS)[number];

const sizes: Record<"quick" | "full", Record<Field, string>> = {
  quick: { p: "64", n: "16", d: "0, 512", npl: "1", r: "2" },
  full: { p: "512", n: "128", d: "0, 1024, 4096", npl: "1", r: "5" },
};

const MOST_TOKENS = 2 ** 24;
const MOST_STREAMS = 256;

export interface Choice {
  subjects: Subject[];
  tests: Test[];
  repetitions: number;
  tune: Tune;
  picked: Map<string, File[]>;
}

/** What cannot be run, and the field to mend. */
export class FormError extends Error {
  override name = "FormError";
  readonly field: HTMLInputElement | null;
  constructor(message: string, field: HTMLInputElement | null) {
    super(message);
    this.field = field;
  }
}

export class Form {
  readonly form = byId("form", HTMLFormElement);
  readonly #tune = byId("tune", HTMLSelectElement);
  readonly #models = byId("models", HTMLElement);
  readonly #picked = new Map<string, File[]>();

  constructor() {
    const colourOf = colours(benchArchs);
    for (const arch of benchArchs) this.#offer(arch, arch, colourOf.get(arch)!, true);
    this.#fill(sizes.quick);
    this.#recall();
    for (const size of ["quick", "full"] as const)
      byId(size, HTMLButtonElement).addEventListener("click", () => this.#fill(sizes[size]));
    byId("all", HTMLButtonElement).addEventListener("click", () => this.#check(true));
    byId("none", HTMLButtonElement).addEventListener("click", () => this.#check(false));
    const folder = byId("folder", HTMLInputElement);
    folder.addEventListener("change", () => {
      this.#pick([...(folder.files ?? [])]);
      folder.value = "";
    });
  }

  set tune(tune: Tune) {
    this.#tune.value = tune;
  }

  disable(running: boolean): void {
    for (const fieldset of this.form.querySelectorAll("fieldset")) fieldset.disabled = running;
  }

  /** Throws FormError. */
  read(): Choice {
    for (const field of FIELDS) this.#input(field).removeAttribute("aria-invalid");
    const [p, n, d, npl] = LISTS.map((field) => this.#list(field)) as [
      number[],
      number[],
      number[],
      number[],
    ];
    const repetitions = this.#list("r");
    if (repetitions.length !== 1) throw this.#wrong("r", "one number of repetitions");
    const tests = expandTests({
      prompts: p,
      gens: n,
      promptGens: [],
      promptDepths: [0],
      genDepths: d,
      streams: npl,
      ubatches: [512],
    });
    if (tests.length === 0) throw this.#wrong("n", "tokens for the prompt or to generate");
    const chosen = this.#chosen();
    if (chosen.length === 0) throw new FormError("No model is chosen; choose at least one.", null);
    this.#remember();
    return {
      subjects: chosen.map((name) => this.#subject(name)),
      tests,
      repetitions: repetitions[0]!,
      tune: this.#tune.value as Tune,
      picked: this.#picked,
    };
  }

  #subject(name: string): Subject {
    const files = this.#picked.get(name)?.filter((file) => !file.name.startsWith("."));
    if (files?.length === 1 && files[0]!.name === CONFIG_FILE) return seeded(name, name, CONFIG_FILE);
    return files ? checkpoint(name, name) : shippedSubject(name, checkpointsUrl);
  }

  #list(field: Field): number[] {
    const most = field === "npl" ? MOST_STREAMS : MOST_TOKENS;
    const least = field === "npl" || field === "r" ? 1 : 0;
    const words = this.#input(field)
      .value.split(/[\s,]+/)
      .filter((word) => word !== "");
    const values = words.map(Number);
    if (values.length === 0 || !values.every((x, i) => /^\d+$/.test(words[i]!) && x >= least && x <= most))
      throw this.#wrong(field, `whole numbers from ${least} to ${most}`);
    return [...new Set(values)];
  }

  #wrong(field: Field, wanted: string): FormError {
    const input = this.#input(field);
    input.setAttribute("aria-invalid", "true");
    const label = input.labels?.[0]?.textContent?.trim() ?? field;
    return new FormError(`${label}: found ${JSON.stringify(input.value)}, wanted ${wanted}.`, input);
  }

  #input(name: string): HTMLInputElement {
    return this.form.elements.namedItem(name) as HTMLInputElement;
  }

  #boxes(): HTMLInputElement[] {
    return [...this.#models.querySelectorAll<HTMLInputElement>("input")];
  }

  #chosen(): string[] {
    return this.#boxes()
      .filter((box) => box.checked)
      .map((box) => box.value);
  }

  #check(on: boolean): void {
    for (const box of this.#boxes()) box.checked = on;
  }

  #fill(values: Record<Field, string>): void {
    for (const field of FIELDS) this.#input(field).value = values[field];
  }

  #offer(value: string, label: string, colour: string, checked: boolean): void {
    const box = element("input", { type: "checkbox", value });
    box.checked = checked;
    const swatch = element("i", { class: `swatch ${toneOf(colour)}` });
    this.#models.append(element("label", {}, box, swatch, element("span", {}, label)));
  }

  #pick(files: File[]): void {
    if (files.length === 0) return;
    const folder = files[0]!.webkitRelativePath.split("/")[0] || "chosen files";
    // a picked folder may bear the name of a shipped model
    const name = benchArchs.includes(folder) ? `${folder} (yours)` : folder;
    if (!this.#picked.has(name)) this.#offer(name, name, "currentColor", true);
    this.#picked.set(name, files);
  }

  /** The choice in the page's address, so that it can be kept and given away. */
  #remember(): void {
    const query = new URLSearchParams({ tab: "bench" });
    query.set("a", this.#chosen().join(","));
    for (const field of FIELDS) query.set(field, this.#input(field).value.replace(/\s+/g, ""));
    history.replaceState(null, "", `?${query}`);
  }

  #recall(): void {
    const query = new URLSearchParams(location.search);
    const archs = query.get("a")?.split(",");
    if (archs) for (const box of this.#boxes()) box.checked = archs.includes(box.value);
    for (const field of FIELDS) {
      const value = query.get(field);
      if (value !== null) this.#input(field).value = value.replaceAll(",", ", ");
    }
  }
}
