// A box to choose by, with the colour that its charts have.

import { html, type TemplateResult } from "lit-html";
import { live } from "lit-html/directives/live.js";
import { colours, toneOf } from "../charts.ts";
import { benchArchs } from "../shipped.ts";

const shippedColours = colours(benchArchs);

/** The class that gives a shipped architecture its colour. */
export const shippedTone = (arch: string): string => toneOf(shippedColours.get(arch)!);

export interface ChipState {
  name: string;
  tone: string;
  checked: boolean;
  disabled?: boolean;
}

export function chip(
  { name, tone, checked, disabled = false }: ChipState,
  onChange: (checked: boolean) => void,
): TemplateResult {
  const change = (event: Event) => onChange((event.target as HTMLInputElement).checked);
  return html`<label class="chip ${tone}"><input type="checkbox" value=${name} .checked=${live(checked)} ?disabled=${disabled} @change=${change}><i class="swatch"></i><span>${name}</span></label>`;
}
