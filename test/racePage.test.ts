// The race in a real Chrome: what a person does, and what is left to save.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { beforeEach, expect, test } from "vitest";
import { contextOf, measuredBytes, type Results, type Row, theoryBytes } from "../bench/row.ts";
import { formatBytes, formatCount, formatNs } from "../bench/units.ts";
import { project } from "./tools/command.ts";
import { usePageServer, usePages } from "./tools/pages.ts";

const server = usePageServer();
const chrome = usePages();
let page: Page;
beforeEach(() => {
  page = chrome.page;
});

const button = (name: string) => page.getByRole("button", { name, exact: true });
const heading = (name: string) => page.getByRole("heading", { name, exact: true });
const rows = () => page.locator("#race-table tbody tr");
const cellsOf = (name: string) => page.getByRole("row", { name }).locator("td").allTextContents();
const tokensOf = async (name: string) => Number((await cellsOf(name))[0]!.replaceAll(",", ""));

async function openRace(query: string): Promise<void> {
  await page.goto(`${server.url}?${query}`);
  await button("Start").waitFor();
}

/** A racer has this many tokens in its context, or more. */
async function reaches(name: string, tokens: number): Promise<void> {
  await expect.poll(() => tokensOf(name).catch(() => 0), { timeout: 60_000 }).toBeGreaterThanOrEqual(tokens);
}

async function saved(): Promise<Results> {
  const [download] = await Promise.all([page.waitForEvent("download"), button("JSON").click()]);
  expect(download.suggestedFilename()).toMatch(/^longtape-race-\d{4}-.*\.json$/);
  return JSON.parse(await readFile(await download.path(), "utf8")) as Results;
}

const cells = (row: Row): string[] => [
  row.model,
  formatCount(contextOf(row)),
  formatBytes(measuredBytes(row)!),
  formatBytes(theoryBytes(row)!),
  row.theory_err_pct!.toFixed(2),
  formatBytes(Math.round(row.bytes_per_token!)),
  row.avg_ts!.toFixed(2),
  `${formatNs(row.latency_p50_ns!)} / ${formatNs(row.latency_p95_ns!)}`,
  `${(100 * row.roof_fraction!).toFixed(1)}%`,
];

test("a race of four to 256 tokens: the table is what the results file says", async () => {
  await openRace("a=llama,mistral-window,mamba,gru&tokens=256&temperature=0");
  await button("Start").click();
  await heading("Ended").waitFor();
  const { schema, environment, rows: found, traces } = await saved();
  expect(schema).toBe("longtape/1");
  expect(found.map(({ model, status, n_gen }) => [model, status, n_gen])).toEqual(
    ["llama", "mistral-window", "mamba", "gru"].map((model) => [model, "ok", 256]),
  );
  const shown = await rows().evaluateAll((all) =>
    all.map((row) => [...row.children].map((cell) => cell.textContent)),
  );
  expect(shown).toEqual(found.map(cells));
  for (const row of found) {
    // bytes by our own count, by the count from outside, and by theory are the same
    expect(row.theory_err_pct).toBe(0);
    expect(row.mem_asked).toBe(row.mem_live);
    expect(row.nmse_vs_reference).toBeLessThan(1e-9);
    expect(row.software).toBe(true);
  }
  expect(environment).toMatchObject({
    build_commit: "abc1234",
    adapter: { software: true },
    tab_hidden: false,
  });
  // measured points lie on their lines
  expect(traces).toHaveLength(4);
  for (const { points } of traces!) {
    expect(points.at(-1)!.generated).toBe(256);
    for (const { bytes, theory } of points) expect(bytes.state + bytes.kv).toBe(theory);
  }
  for (const chart of ["Bytes against tokens", "Tokens a second against tokens"])
    expect(await page.getByRole("img", { name: chart }).locator("circle").count()).toBeGreaterThan(4);
  expect(await page.getByLabel("Text of llama").textContent()).toMatch(/[a-z]{3}/i);
  // each has had its own time, and the fastest is not held up by the slowest
  expect(new Set(found.map(({ avg_ns }) => avg_ns)).size).toBe(4);
});

test("pause holds every racer where it is, resume goes on, stop keeps what was measured", async () => {
  await openRace("a=gru,mamba&tokens=100000");
  await button("Start").click();
  await reaches("mamba", 40);
  await button("Pause").click();
  await heading("Paused").waitFor();
  // the turn that was under way is seen to its end
  await page.waitForTimeout(700);
  const before = [await tokensOf("gru"), await tokensOf("mamba")];
  await page.waitForTimeout(500);
  expect([await tokensOf("gru"), await tokensOf("mamba")]).toEqual(before);
  await button("Resume").click();
  await reaches("gru", before[0]! + 20);
  await button("Stop").click();
  await heading("Ended").waitFor();
  const { rows: found } = await saved();
  expect(found.map(({ model, status }) => [model, status])).toEqual([
    ["gru", "ok"],
    ["mamba", "ok"],
  ]);
  // equal slices of time: neither has had twice the other's
  const [gru, mamba] = found.map(({ avg_ns }) => avg_ns!);
  expect(Math.max(gru!, mamba!) / Math.min(gru!, mamba!)).toBeLessThan(2);
  // a second race begins anew
  await button("Start again").click();
  await reaches("gru", 10);
});

/** A real drop of a folder of this machine. */
async function drop(path: string): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const event = { x: 300, y: 300, data: { items: [], files: [path], dragOperationsMask: 1 } };
  for (const type of ["dragEnter", "dragOver", "drop"] as const)
    await session.send("Input.dispatchDragEvent", { type, ...event });
  await session.detach();
}

test("a folder that is dropped joins the race; one that is none says why, in the loader's words", async () => {
  await openRace("a=gru&tokens=100000");
  await button("Start").click();
  await reaches("gru", 20);
  await drop(join(project, "test/goldens/mamba"));
  await reaches("mamba (yours)", 8);
  await drop(join(project, "bench/printers"));
  // beside its box at once, in its lane when its turn has come
  await page.locator(".chips", { hasText: "printers holds no config.json" }).waitFor();
  await page.locator(".lane", { hasText: "printers holds no config.json" }).waitFor();
  await button("Stop").click();
  const { rows: found } = await saved();
  expect(found.map(({ model, status }) => [model, status])).toEqual([
    ["gru", "ok"],
    ["mamba (yours)", "ok"],
    ["printers", "failed"],
  ]);
  // what comes and goes while one loads is counted to it alone
  for (const row of found.slice(0, 2)) expect(row.theory_err_pct).toBe(0);
});

test("a folder by its address joins, too", async () => {
  await openRace("a=&tokens=64");
  await page.getByLabel("An address").fill(`${server.url}models/checkpoints/gru`);
  await button("Add").click();
  await page
    .getByRole("checkbox", { name: "gru (yours)" })
    .or(page.locator(".chip.own input:enabled"))
    .first()
    .waitFor();
  await button("Start").click();
  await heading("Ended").waitFor();
  expect((await saved()).rows.map(({ arch, status, n_gen }) => [arch, status, n_gen])).toEqual([
    ["gru", "ok", 64],
  ]);
});

test("a link brings back the whole choice", async () => {
  const query =
    "tab=race&a=gru,jamba&prompt=To+be&tokens=65536&streams=2&temperature=0&seed=7&scale=log&bytes=all";
  await openRace(query);
  await page.getByRole("checkbox", { name: "jamba" }).waitFor();
  const checked = page.locator(".chips input:checked");
  expect(await checked.evaluateAll((all) => all.map((box) => (box as HTMLInputElement).value))).toEqual([
    "gru",
    "jamba",
  ]);
  const values = {
    Prompt: "To be",
    "Tokens to generate": "65,536",
    Streams: "2",
    Temperature: "0",
    Seed: "7",
  };
  for (const [label, value] of Object.entries(values))
    expect(await page.getByLabel(label, { exact: true }).inputValue()).toBe(value);
  expect(await page.getByRole("radio", { name: "log" }).isChecked()).toBe(true);
  // theory is drawn before anything runs
  await page
    .getByRole("img", { name: "Bytes against tokens" })
    .locator("path")
    .nth(4)
    .waitFor({ state: "attached" });
  await page.getByRole("radio", { name: "linear" }).check();
  await expect.poll(() => new URL(page.url()).searchParams.get("scale")).toBe(null);
});

test("what is wrong with a number is said beside it, and the race does not start without racers", async () => {
  await openRace("a=gru");
  await page.getByLabel("Tokens to generate").fill("0");
  await page.getByLabel("Tokens to generate").blur();
  await page.getByText('Tokens to generate: found "0", wanted a whole number from 1 to 1,048,576.').waitFor();
  await page.getByRole("checkbox", { name: "gru" }).uncheck();
  await button("Start").click();
  await page.getByText("No racer is chosen; choose at least one.").waitFor();
});

test("a lost device is explained, and one click starts again on a new one", async () => {
  await openRace("a=gru&tokens=100000");
  await button("Start").click();
  await reaches("gru", 40);
  // as a driver's reset would: the device goes in the middle of its work
  await page.workers()[0]!.evaluate(() => {
    const prototype = GPUDevice.prototype as { createCommandEncoder: (...all: unknown[]) => unknown };
    const plain = prototype.createCommandEncoder;
    prototype.createCommandEncoder = function (this: GPUDevice, ...all: unknown[]) {
      this.destroy();
      return plain.apply(this, all);
    };
  });
  await heading("The GPU was lost").waitFor();
  expect(await page.getByRole("alert").filter({ hasText: "taken away" }).textContent()).toMatch(/destroyed/);
  expect((await saved()).rows[0]!.n_gen).toBeGreaterThan(0);
  await button("Start again on a new device").click();
  await reaches("gru", 40);
});

test("a hidden tab pauses and says so", async () => {
  await openRace("a=gru&tokens=100000");
  await button("Start").click();
  await reaches("gru", 20);
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.getByText("Paused, because this tab was hidden").waitFor();
  await page.waitForTimeout(500);
  const before = await tokensOf("gru");
  await page.evaluate(() => Object.defineProperty(document, "hidden", { value: false }));
  await button("Go on").click();
  await reaches("gru", before + 20);
});

test("a reload in mid-run loses nothing that was measured: it is kept, and offered again", async () => {
  await openRace("a=gru&tokens=100000");
  await button("Start").click();
  await reaches("gru", 200);
  await page.waitForTimeout(2500);
  const before = await tokensOf("gru");
  await page.reload();
  await button("Show it").click();
  await reaches("gru", 100);
  const kept = await tokensOf("gru");
  expect(kept).toBeLessThanOrEqual(before + 20_000);
  expect((await saved()).traces![0]!.points.length).toBeGreaterThan(1);
  await page.reload();
  await button("Discard it").click();
  await page.reload();
  await button("Start").waitFor();
  expect(await button("Show it").count()).toBe(0);
});

test("without WebGPU the cure is said, and the race runs on the CPU machine", async () => {
  await page.addInitScript("Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined })");
  await openRace("a=gru&tokens=8");
  expect(await page.locator("#adapter").textContent()).toMatch(/no WebGPU.*Chrome or Edge.*CPU machine/);
  await button("Start").click();
  await heading("Ended").waitFor();
  const [row] = (await saved()).rows;
  expect(row).toMatchObject({ backend: "cpu", n_gen: 8, status: "ok", mem_asked: null, theory_err_pct: 0 });
});
