// The page as `npm run build` leaves it: under a path of its own, from a server of plain files, and without one.

import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import axe from "axe-core";
import type { BrowserContext, Page } from "playwright-core";
import { type PreviewServer, preview } from "vite";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { run } from "./tools/command.ts";
import { usePages } from "./tools/pages.ts";

const minutes = 60_000;
const UNDER = "/some/where/else/";
/** Bytes, gzipped, that a page and a race may fetch before weights. */
const BUDGET = 300_000;

let folder: string;
let server: PreviewServer;
let context: BrowserContext;
let page: Page;
let address: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-site-"));
  const built = await run("build", ["--out", folder]);
  expect(built.code, built.err).toBe(0);
  expect(built.out).toMatch(/page and race without weights: \d+ kB gzipped/);
  server = await preview({
    configFile: false,
    root: folder,
    base: UNDER,
    appType: "mpa",
    logLevel: "error",
    build: { outDir: folder },
    preview: { host: "127.0.0.1", port: 0, open: false },
  });
  address = server.resolvedUrls!.local[0]!;
}, 3 * minutes);

afterAll(async () => {
  await server?.close();
  await rm(folder, { recursive: true });
});

const chrome = usePages();
beforeEach(() => {
  page = chrome.page;
  context = chrome.context;
});

const button = (name: string) => page.getByRole("button", { name, exact: true });
const heading = (name: string) => page.getByRole("heading", { name, exact: true });

async function race(query: string): Promise<void> {
  await page.goto(`${address}?${query}`);
  await button("Start").click();
  await heading("Ended").waitFor();
}

test("a race fetches less than 300 kB gzipped before its weights, and nothing from elsewhere", async () => {
  const fetched = new Map<string, number>();
  const others: string[] = [];
  context.on("response", async (response) => {
    const url = response.url();
    if (url.startsWith("data:") || url.startsWith("blob:")) return;
    if (!url.startsWith(address)) others.push(url);
    const body = await response.body().catch(() => Buffer.alloc(0));
    if (!url.includes("/models/")) fetched.set(url, gzipSync(body).length);
  });
  await context.addInitScript("Object.defineProperty(navigator, 'serviceWorker', { value: undefined })");
  await race("a=gru&tokens=16");
  expect(others).toEqual([]);
  const bytes = [...fetched.values()].reduce((a, b) => a + b, 0);
  expect(fetched.size).toBeGreaterThan(3);
  expect(bytes, [...fetched].map(([url, size]) => `${size} ${url}`).join("\n")).toBeLessThan(BUDGET);
});

test("a race leaves the page free: hardly any task of its holds it over 50 ms", async () => {
  await page.addInitScript(() => {
    const held = { ms: 0 };
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) held.ms += duration;
    }).observe({ type: "longtask" });
    Object.assign(globalThis, { held });
  });
  await page.goto(`${address}?a=llama,mistral-window,mamba,gru&tokens=256`);
  const started = Date.now();
  await button("Start").click();
  await heading("Ended").waitFor();
  // two busy cores may take the page's own away in the middle of a task
  expect(await page.evaluate("held.ms")).toBeLessThan(0.02 * (Date.now() - started));
});

test("once loaded it needs no network: a reload and a race run offline", async () => {
  await race("a=gru&tokens=16");
  // the checkpoint is kept once the service worker has seen it
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  await page.reload();
  await race("a=gru&tokens=16");
  await context.setOffline(true);
  await page.reload();
  expect(await page.evaluate(() => globalThis.crossOriginIsolated)).toBe(true);
  await race("a=gru&tokens=16");
  expect(await page.getByRole("row", { name: "gru" }).locator("td").first().textContent()).toBe("23");
});

const tabs = ["Race", "Bench", "Peers", "Claims", "What if", "Compare", "Glossary"];

test.each(["light", "dark"] as const)("no tab has a fault that axe finds, in %s", async (colorScheme) => {
  await page.emulateMedia({ colorScheme });
  await page.goto(address);
  for (const name of tabs) {
    await page.getByRole("tab", { name, exact: true }).click();
    await page.getByRole("tabpanel", { name, exact: true }).locator("> *").first().waitFor();
    await scan(name);
  }
  await race("a=llama,gru&tokens=64");
  await scan("a race that has ended");
});

async function scan(what: string): Promise<void> {
  await page.evaluate(`if (!globalThis.axe) { ${axe.source} }`);
  const { violations } = (await page.evaluate("axe.run()")) as import("axe-core").AxeResults;
  const found = violations.map(
    ({ id, nodes }) => `${what}: ${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" ")}`,
  );
  expect(found).toEqual([]);
}

test("tabs are walked through with the arrow keys", async () => {
  await page.goto(address);
  await page.getByRole("tab", { name: "Race" }).focus();
  await page.keyboard.press("ArrowRight");
  await page.getByRole("tabpanel", { name: "Bench" }).waitFor();
  await page.keyboard.press("End");
  await page.getByRole("heading", { name: "Words" }).waitFor();
  await page.keyboard.press("ArrowRight");
  await button("Start").waitFor();
  expect(await page.locator(":focus").textContent()).toBe("Race");
  await page.goBack();
  await page.getByRole("heading", { name: "Words" }).waitFor();
});

test("a word says what it means", async () => {
  await page.goto(address);
  await button("closed formulas").click();
  await page.getByRole("note").filter({ hasText: "by its mathematics alone" }).waitFor();
  await page.keyboard.press("Escape");
});

test(
  "other runtimes run beside longtape in the built page",
  async () => {
    await page.goto(`${address}?tab=peers`);
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
    await page.reload();
    for (const name of ["llama", "mamba"]) await page.getByRole("checkbox", { name, exact: true }).uncheck();
    await button("Run").click();
    await page.locator(".doing", { hasText: "Done: 8 of 8 rows." }).waitFor({ timeout: 3 * minutes });
    const table = page.getByRole("region", { name: "Side by side", exact: true }).getByRole("row");
    const texts = await table.allTextContents();
    expect(texts).toHaveLength(9);
    for (const peer of ["longtape", "ort-webgpu", "ort-wasm", "tfjs-webgpu"])
      expect(texts.filter((text) => text.includes(peer)).join()).toMatch(/pp64.*\d.*tg32.*\d/);
    expect(texts.join()).not.toMatch(/failed/);
  },
  4 * minutes,
);

test("the claims come with verdicts and with the rows and charts behind them", async () => {
  await page.goto(`${address}?tab=claims`);
  await expect.poll(() => page.locator(".claim").count()).toBe(11);
  expect(await page.locator(".claim .badge").allTextContents()).not.toContain("undecided");
  for (const id of ["bytes", "scratch", "speed", "prompts"])
    await page.locator(`#claims-${id} svg`).waitFor();
});

test("what if: the sliders move the table, and the address keeps them", async () => {
  await page.goto(`${address}?tab=what-if&m=llama-2-7b,mamba-1.4b&context=18&memory=7&dtype=f16&cache=f16`);
  const row = page.getByRole("row", { name: "llama-2-7b" });
  // the figure of the literature at 262,144 tokens
  await row.getByText("128.00 GiB").waitFor();
  expect(await row.textContent()).toMatch(/no/);
  await page.getByLabel("Tokens in the context").fill("12");
  await row.getByText("2.00 GiB").waitFor();
  expect(await row.textContent()).toMatch(/yes/);
  expect(new URL(page.url()).searchParams.get("context")).toBe("12");
  await expect.poll(() => row.locator("td").last().textContent(), { timeout: 20_000 }).toMatch(/GiB/);
});

test("two results files are set side by side; one that is none says why", async () => {
  await page.goto(`${address}?tab=compare`);
  const file = (rate: number) => ({
    schema: "longtape/1",
    environment: { started: "2026-11-26T10:00:00Z", adapter: null, build_commit: "abc" },
    rows: [
      {
        model: "gru",
        test: "tg32",
        peer: "longtape",
        avg_ts: rate,
        samples_ts: [rate],
        mem_state: 8,
        mem_kv: 0,
      },
    ],
  });
  const names = ["before.json", "after.json", "none.json"].map((name) => join(folder, name));
  await writeFile(names[0]!, JSON.stringify(file(100)));
  await writeFile(names[1]!, JSON.stringify(file(150)));
  await writeFile(names[2]!, "{}");
  await page.getByLabel("Results files").setInputFiles(names.slice(0, 2));
  expect(await page.locator("#pairs tbody tr").allTextContents()).toEqual([
    expect.stringMatching(/gru.*tg32.*100\.00.*150\.00.*1\.50/),
  ]);
  await page.getByLabel("Results files").setInputFiles(names[2]!);
  await page.getByText("none.json is no results.json of longtape").waitFor();
  for (const name of names) await rm(name);
});

test("a folder that holds something else is not emptied", async () => {
  const other = await mkdtemp(join(tmpdir(), "longtape-other-"));
  await writeFile(join(other, "thesis.txt"), "years of work");
  const refused = await run("build", ["--out", other]);
  expect(refused.code).toBe(1);
  expect(refused.err).toMatch(/holds other files \(thesis\.txt\), wanted an empty folder/);
  expect(await readdir(other)).toEqual(["thesis.txt"]);
  await rm(other, { recursive: true });
});
