// The page for a person's own browser: its tabs, and what all of them need to know of the machine. A tab's code is fetched when
// it is first shown.

import { type AdapterDescription, describeAdapter } from "../../engine/gpuDevice.ts";
import { palette } from "../charts.ts";
import { ADAPTER } from "../meters/adapterFacts.ts";
import { byId } from "./dom.ts";
import { addNotes } from "./glossary.ts";
import { offline } from "./offline.ts";
import { RaceTab } from "./race/tab.ts";

/** What WebGPU gives here. */
export interface Machine {
  adapter: AdapterDescription | null;
  limits: Pick<GPUSupportedLimits, "maxBufferSize" | "maxStorageBufferBindingSize"> | null;
}

const tabs: Readonly<Record<string, (panel: HTMLElement, machine: Machine) => Promise<unknown>>> = {
  race: async (panel, machine) => new RaceTab(panel, machine),
  bench: async (_, machine) => new (await import("./bench/tab.ts")).BenchTab(machine),
  peers: async (panel, machine) => new (await import("./peers/tab.ts")).PeersTab(panel, machine),
  claims: async (panel, machine) => new (await import("./claims/tab.ts")).ClaimsTab(panel, machine),
  "what-if": async (panel, machine) => new (await import("./whatIf/tab.ts")).WhatIfTab(panel, machine),
  compare: async (panel) => new (await import("./compare/tab.ts")).CompareTab(panel),
  glossary: async (panel) => (await import("./glossary.ts")).showGlossary(panel),
};

addPalette();
addNotes();
offline();
const machine = await findMachine();
const opened = new Set<string>();
const buttons = Object.keys(tabs).map((name) => byId(`tab-${name}`, HTMLButtonElement));
const nameOf = (button: HTMLButtonElement) => button.id.slice("tab-".length);
for (const button of buttons) {
  button.addEventListener("click", () => show(nameOf(button), true));
  button.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(button);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = buttons.at(to % buttons.length)!;
    next.focus();
    show(nameOf(next), true);
  });
}
addEventListener("popstate", () => show(asked(), false));
await show(asked(), false);

function asked(): string {
  const name = new URLSearchParams(location.search).get("tab") ?? "race";
  return name in tabs ? name : "race";
}

/** `chosen`: by a person, and so a step that the browser's Back takes back. */
async function show(name: string, chosen: boolean): Promise<void> {
  if (chosen && asked() !== name) history.pushState(null, "", `?tab=${name}`);
  for (const button of buttons) {
    const selected = nameOf(button) === name;
    button.setAttribute("aria-selected", String(selected));
    button.tabIndex = selected ? 0 : -1;
    byId(nameOf(button), HTMLElement).hidden = !selected;
  }
  if (opened.has(name)) return;
  opened.add(name);
  await tabs[name]!(byId(name, HTMLElement), machine);
}

async function findMachine(): Promise<Machine> {
  const place = byId("adapter", HTMLElement);
  const missing = (what: string): Machine => {
    place.className = "notice";
    place.textContent = `${what} Until then the race runs on the CPU machine: the kernels' plain references in JavaScript, whose bytes are as exact and whose speed says nothing of a GPU.`;
    return { adapter: null, limits: null };
  };
  if (!navigator.gpu)
    return missing(
      "This browser has no WebGPU. Open this page in Chrome or Edge 113 or later, or in Safari 26; on Linux start Chrome with --enable-unsafe-webgpu --enable-features=Vulkan.",
    );
  const adapter = await navigator.gpu.requestAdapter(ADAPTER);
  if (!adapter)
    return missing(
      "WebGPU found no adapter. Turn hardware acceleration on in the browser's settings, or start Chrome with --enable-unsafe-webgpu --use-webgpu-adapter=swiftshader for the software adapter.",
    );
  const found = describeAdapter(adapter);
  place.className = found.software ? "notice" : "notice quiet";
  place.textContent = found.software
    ? `Adapter: ${found.name}, a software adapter: it computes on the CPU. Its bytes are exact; it penalises barriers, and its speeds say nothing of a GPU.`
    : `Adapter: ${found.name}`;
  return { adapter: found, limits: adapter.limits };
}

/** The series' colours, for both colour schemes, and a class for each. A sheet of its own: the page's policy takes no style elements. */
function addPalette(): void {
  const variables = (list: readonly string[]) =>
    list.map((colour, i) => `--series-${i + 1}: ${colour};`).join(" ");
  const { light, dark } = palette;
  const tones = light.map((_, i) => `.series-${i + 1} { --tone: var(--series-${i + 1}); }`);
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(
    `:root { ${variables(light)} } @media (prefers-color-scheme: dark) { :root { ${variables(dark)} } } ${tones.join(" ")}`,
  );
  document.adoptedStyleSheets.push(sheet);
}
