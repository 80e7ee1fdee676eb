// Charts in the page.

import type { Canvas } from "../charts.ts";
import { byId } from "./dom.ts";

/** Narrower, a chart's labels would leave no room for its lines; it then scrolls. */
const NARROWEST = 330;
const SHAPE = 0.62;
const TALLEST = 460;
/** Of the page's own letters. */
const LETTER = 0.75;
/** Room for names, in letters: the longest of ours is linear-attention. */
const RIGHT = 10;

/** Where the pointer was last, by chart: a chart that is drawn anew goes on saying what is there. */
const pointers = new WeakMap<Element, PointerEvent>();

/**
 * Draws a chart into the element of this id; where there is nothing to draw, what is there stays, and the answer is no. The style element that Plot puts
 * in is taken out: the page's policy forbids it, and style.css holds what it says.
 */
export function drawChart(id: string, label: string, chart: (canvas: Canvas) => SVGElement | null): boolean {
  const place = byId(id, HTMLElement);
  const width = Math.max(NARROWEST, place.clientWidth);
  const height = Math.min(TALLEST, Math.max(260, Math.round(width * SHAPE)));
  const font = LETTER * Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
  const svg = chart({ document, width, height, right: RIGHT * font, font });
  if (!svg) return false;
  svg.querySelector("style")?.remove();
  // an image's parts have no names of their own
  for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  place.replaceChildren(svg);
  const last = pointers.get(place);
  if (last) svg.dispatchEvent(new PointerEvent("pointermove", last));
  if (place.dataset.watched) return true;
  place.dataset.watched = "true";
  place.addEventListener("pointermove", (event) => event.isTrusted && pointers.set(place, event));
  place.addEventListener("pointerleave", () => pointers.delete(place));
  return true;
}

/** A chart as a file that stands alone: the page's colours, light, put in. */
export function chartFile(id: string): string | null {
  const svg = byId(id, HTMLElement).querySelector("svg");
  if (!svg) return null;
  const copy = svg.cloneNode(true) as SVGSVGElement;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const sheet = getComputedStyle(document.documentElement);
  const filled = new XMLSerializer()
    .serializeToString(copy)
    .replace(/var\((--[\w-]+)\)/g, (_, name: string) => sheet.getPropertyValue(name).trim());
  const { color, backgroundColor } = getComputedStyle(document.body);
  return filled.replace(
    "<svg ",
    `<svg color="${color}" font-family="system-ui, sans-serif" style="background: ${backgroundColor}" `,
  );
}
