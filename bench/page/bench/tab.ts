// The page for a person's own browser: choose, run, watch the rows, save the JSON. What runs is bench/run.ts, the same
// that the command line runs.

import { type AdapterDescription, describeAdapter } from "../../engine/gpuDevice.ts";
import { usualTune } from "../adapter.ts";
import { ADAPTER } from "../meters/adapterFacts.ts";
import { formatLeft, TimeLeft } from "../progress.ts";
import type { Environment, Results, Row } from "../row.ts";
import type { Build } from "../server.ts";
import { byId } from "./dom.ts";
import { type Choice, Form, FormError } from "./form.ts";
import { addPalette, describeRow, View } from "./view.ts";
import type { WorkerEvent, WorkerRequest } from "./worker.ts";

declare global {
  /** Put there by the server that `npm run dev` starts. */
  var LONGTAPE_BUILD: Build | undefined;
}

/** The command line's default. */
const SEED = 1337;

interface Running {
  worker: Worker;
  results: Results;
  time: TimeLeft;
  model: string;
  /** Rows of the model in hand. */
  finished: number;
}

addPalette();
const form = new Form();
const view = new View();
const runButton = byId("run", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);
const saveButton = byId("save", HTMLButtonElement);
const message = byId("message", HTMLElement);
const bar = byId("bar", HTMLProgressElement);
const doing = byId("doing", HTMLElement);
const spoken = byId("spoken", HTMLElement);
const build = globalThis.LONGTAPE_BUILD ?? { commit: null, versions: {} };

let running: Running | null = null;
let results: Results | null = null;

form.form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running || runButton.disabled) return;
  message.textContent = "";
  try {
    start(form.read());
  } catch (error) {
    if (!(error instanceof FormError)) throw error;
    message.textContent = error.message;
    error.field?.focus();
  }
});
stopButton.addEventListener("click", () => end("Stopped"));
saveButton.addEventListener("click", save);
document.addEventListener("visibilitychange", () => {
  if (running && document.hidden) running.results.environment.tab_hidden = true;
});
await findAdapter();

async function findAdapter(): Promise<void> {
  const place = byId("adapter", HTMLElement);
  const missing = (what: string) => {
    place.className = "notice";
    place.textContent = what;
  };
  if (!navigator.gpu) {
    return missing(
      "This browser has no WebGPU, and nothing can run: open this page in Chrome or Edge 113 or later, or in Safari 26; on Linux start Chrome with --enable-unsafe-webgpu --enable-features=Vulkan.",
    );
  }
  const adapter = await navigator.gpu.requestAdapter(ADAPTER);
  if (!adapter) {
    return missing(
      "WebGPU found no adapter, and nothing can run: turn hardware acceleration on in the browser's settings, or start Chrome with --enable-unsafe-webgpu --use-webgpu-adapter=swiftshader for the software adapter.",
    );
  }
  const found = describeAdapter(adapter);
  place.className = found.software ? "notice" : "notice quiet";
  place.textContent = adapterText(found);
  form.tune = usualTune(found);
  runButton.disabled = false;
}

function adapterText({ name, software }: AdapterDescription): string {
  return software
    ? `Adapter: ${name}, a software adapter: it computes on the CPU. A software adapter penalises barriers; nothing is known of a GPU that was not measured.`
    : `Adapter: ${name}`;
}

function start({ subjects, tests, repetitions, tune, picked }: Choice): void {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  results = { schema: "longtape/1", environment: environment(), rows: [] };
  running = {
    worker,
    results,
    time: new TimeLeft(
      subjects.map(() => tests),
      performance.now(),
    ),
    model: "",
    finished: 0,
  };
  view.clear();
  bar.value = 0;
  bar.max = subjects.length * tests.length;
  show(true);
  say(`Running ${subjects.length * tests.length} tests.`);
  doing.textContent = "Opening the GPU …";
  worker.addEventListener("message", ({ data }: MessageEvent<WorkerEvent>) => {
    if (running?.worker === worker) take(running, data);
  });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    if (running?.worker === worker)
      fail(`The bench broke off: ${event.message || "its code could not be loaded"}.`);
  });
  const settings = {
    repetitions,
    delaySeconds: 0,
    warmup: true,
    tune,
    seed: SEED,
    maxBytes: null,
    build_commit: build.commit,
    version: build.versions.longtape ?? null,
  };
  worker.postMessage({ settings, subjects, tests, picked } satisfies WorkerRequest);
}

function take(run: Running, event: WorkerEvent): void {
  const { environment, rows } = run.results;
  switch (event.type) {
    case "open":
      Object.assign(environment, event.facts);
      break;
    case "subject":
      run.model = event.model;
      run.finished = 0;
      break;
    case "step":
      run.time.step(event.test, performance.now());
      showStep(run, [event.test, event.what].filter(Boolean).join(": "));
      break;
    case "verdict":
      environment.verdicts.push(event.verdict);
      break;
    case "tuned":
      environment.tuned.push(event.tuned);
      break;
    case "curve":
      environment.curves!.push(event.curve);
      view.addCurve(event.curve);
      break;
    case "row":
      rows.push(event.row);
      addRow(run, event.row);
      break;
    case "trace":
      console.warn(event.stack);
      break;
    case "end":
      end("Done");
      break;
    case "error":
      fail(event.message);
      break;
  }
}

function addRow(run: Running, row: Row): void {
  run.time.done(run.finished++, performance.now());
  bar.value = run.time.rows;
  view.addRow(row);
  say(describeRow(row));
}

function showStep({ time, model }: Running, what: string): void {
  const left = time.left(performance.now());
  doing.textContent = `${time.rows + 1} of ${time.of}: ${model} ${what}${left === null ? "" : `, about ${formatLeft(left)} left`}`;
}

function fail(why: string): void {
  end("Broken off");
  message.textContent = why;
}

function end(how: string): void {
  if (!running) return;
  const { worker, time, results } = running;
  worker.terminate();
  running = null;
  show(false);
  const hidden = results.environment.tab_hidden
    ? " The tab was hidden meanwhile, which slows browsers down: take no time from these rows."
    : "";
  doing.textContent = `${how}: ${time.rows} of ${time.of} rows.${hidden}`;
  say(doing.textContent);
}

/** For those who hear the page. */
function say(text: string): void {
  spoken.textContent = text;
}

function show(isRunning: boolean): void {
  form.disable(isRunning);
  runButton.disabled = isRunning;
  stopButton.disabled = !isRunning;
  saveButton.disabled = isRunning || !results?.rows.length;
}

function save(): void {
  if (!results) return;
  const blob = new Blob([`${JSON.stringify(results, null, 2)}\n`], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `longtape-${results.environment.started.slice(0, 19).replaceAll(":", "-")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function environment(): Environment {
  return {
    command: location.href,
    started: new Date().toISOString(),
    build_commit: build.commit,
    versions: build.versions,
    runtime: "chrome",
    browser: navigator.userAgent,
    browser_flags: [],
    os: navigator.platform,
    cpu: "unknown",
    cpu_cores: navigator.hardwareConcurrency,
    node: null,
    adapter: null,
    limits: {},
    features: [],
    verdicts: [],
    tuned: [],
    clock_quantum_ns: null,
    tab_hidden: document.hidden,
    seed: SEED,
    curves: [],
  };
}
