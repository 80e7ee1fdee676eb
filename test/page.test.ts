import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { beforeEach, expect, test } from "vitest";
import { measuredBytes, type Results, type Row, theoryBytes } from "../bench/row.ts";
import { formatBytes } from "../bench/units.ts";
import { ended, project, start } from "./tools/command.ts";
import { usePageServer, usePages } from "./tools/pages.ts";

const server = usePageServer();
const chrome = usePages();
let page: Page;
beforeEach(() => {
  page = chrome.page;
});

const button = (name: string) => page.getByRole("button", { name, exact: true });
const rows = () => page.locator("#rows tr:not(.empty)");
const status = () => page.locator("#doing").textContent();

async function openPage(query = ""): Promise<void> {
  await page.goto(`${server.url}?tab=bench&${query.replace("?", "")}`);
  await page.locator("#run:enabled").waitFor();
}

async function finish(): Promise<void> {
  await page.locator("#stop:disabled").waitFor();
}

async function saved(): Promise<Results> {
  const [download] = await Promise.all([page.waitForEvent("download"), button("Save JSON").click()]);
  expect(download.suggestedFilename()).toMatch(/^longtape-\d{4}-.*\.json$/);
  return JSON.parse(await readFile(await download.path(), "utf8")) as Results;
}

const cells = (row: Row) => [
  row.model,
  row.test,
  formatBytes(measuredBytes(row)!),
  formatBytes(theoryBytes(row)!),
  row.theory_err_pct!.toFixed(2),
  `${row.avg_ts!.toFixed(2)} ± ${row.stddev_ts!.toFixed(2)}`,
];

test("two architectures run, rows and charts appear, and the JSON is what the table shows", async () => {
  await openPage();
  expect(await page.locator("#adapter").textContent()).toMatch(/^Adapter: .*, a software adapter/);
  await button("none").click();
  await page.getByLabel("llama").check();
  await page.getByLabel("mamba").check();
  await page.getByLabel("Prompt tokens").fill("16");
  await page.getByLabel("Generated tokens").fill("4");
  await page.getByLabel("Depths").fill("0, 64");
  await page.getByLabel("Repetitions").fill("2");
  await button("Run").click();
  await finish();

  expect(await status()).toBe("Done: 6 of 6 rows.");
  expect(await page.locator("#spoken").textContent()).toBe("Done: 6 of 6 rows.");
  const { schema, environment, rows: found } = await saved();
  expect(schema).toBe("longtape/1");
  expect(found.map(({ model, test, status }) => [model, test, status])).toEqual(
    ["llama", "mamba"].flatMap((model) => ["pp16", "tg4", "tg4 @ d64"].map((test) => [model, test, "ok"])),
  );
  const shown = await rows().evaluateAll((all) =>
    all.map((row) => [...row.children].map((cell) => cell.textContent)),
  );
  expect(shown).toEqual(found.map(cells));
  expect(found.every((row) => row.theory_err_pct === 0 && row.software && row.samples_ns!.length === 2)).toBe(
    true,
  );
  expect(environment).toMatchObject({
    build_commit: "abc1234",
    versions: { longtape: "9.9.9" },
    adapter: { software: true },
    tab_hidden: false,
  });
  expect(environment.curves!.map(({ arch }) => arch)).toEqual(["llama", "mamba"]);
  for (const chart of ["Bytes against context", "Generation: tokens a second against depth"])
    expect(await page.getByRole("img", { name: chart }).locator("circle").count()).toBeGreaterThan(0);
  expect(new URL(page.url()).search).toBe("?tab=bench&a=llama%2Cmamba&p=16&n=4&d=0%2C64&npl=1&r=2");
});

test("stop keeps the rows that are finished, and the page runs again", async () => {
  await openPage("?a=gru,mamba,llama&p=8&n=2&d=0,16,32,64&r=1");
  await button("Run").click();
  await rows().first().waitFor();
  await button("Stop").click();
  await finish();
  const count = await rows().count();
  expect(count).toBeLessThan(15);
  expect(await status()).toBe(`Stopped: ${count} of 15 rows.`);
  expect((await saved()).rows).toHaveLength(count);

  await button("none").click();
  await page.getByLabel("gru").check();
  await page.getByLabel("Depths").fill("0");
  await button("Run").click();
  await finish();
  expect(await status()).toBe("Done: 2 of 2 rows.");
  expect(await rows().count()).toBe(2);
});

test("verdicts of a race stay in the browser: the next run takes them from there", async () => {
  await openPage("?a=gru&p=8&n=0&d=0&r=1");
  expect(await page.getByLabel("Kernel variants").inputValue()).toBe("off");
  await page.getByLabel("Kernel variants").selectOption("cached");
  const tuned = async () => {
    await button("Run").click();
    await finish();
    return (await saved()).environment.tuned.map(({ tune, kept, raced }) => ({ tune, kept, raced }));
  };
  const [first] = await tuned();
  expect(first!.raced).toBeGreaterThan(0);
  expect(await tuned()).toEqual([{ tune: "cached", kept: first!.raced, raced: 0 }]);
});

test("a folder of one's own runs; one that is none says why", async () => {
  await openPage("?a=&p=8&n=2&d=0&r=1");
  await page.getByLabel("Your own checkpoint").setInputFiles(join(project, "test/goldens/mamba"));
  await page.getByLabel("mamba (yours)").waitFor();
  await page.getByLabel("Your own checkpoint").setInputFiles(join(project, "bench/printers"));
  await button("Run").click();
  await finish();
  const [own, , none] = await rows().allTextContents();
  expect(own).toMatch(/^mamba \(yours\)pp8\d/);
  expect(none).toMatch(/^printerspp8failed: printers holds no config\.json/);
});

test("a folder with a config.json alone runs with seeded weights", async () => {
  const parent = await mkdtemp(join(tmpdir(), "longtape-page-"));
  const sizes = join(parent, "sizes");
  await cp(join(project, "test/goldens/gru/config.json"), join(sizes, "config.json"));
  await openPage("?a=&p=8&n=0&d=0&r=1");
  await page.getByLabel("Your own checkpoint").setInputFiles(sizes);
  await button("Run").click();
  await finish();
  await rm(parent, { recursive: true });
  expect(await rows().allTextContents()).toEqual([expect.stringMatching(/^sizes \(seeded\)pp8\d/)]);
});

test.each([
  ["Depths", "0, many", /^Depths.*: found "0, many", wanted whole numbers from 0 to /],
  ["Repetitions", "0", /^Repetitions: found "0", wanted whole numbers from 1 to /],
  ["Streams", "", /^Streams side by side: found "", wanted/],
])("%s of %j is said to be wrong, in a sentence", async (label, value, sentence) => {
  await openPage();
  await page.getByLabel(label).fill(value);
  await button("Run").click();
  expect(await page.getByRole("alert").textContent()).toMatch(sentence);
  expect(await page.getByLabel(label).getAttribute("aria-invalid")).toBe("true");
  expect(await button("Stop").isDisabled()).toBe(true);
});

test("no model and no test are said, too", async () => {
  await openPage("?a=");
  await button("Run").click();
  expect(await page.getByRole("alert").textContent()).toBe("No model is chosen; choose at least one.");
  await page.getByLabel("gru").check();
  await page.getByLabel("Prompt tokens").fill("0");
  await page.getByLabel("Generated tokens").fill("0");
  await button("Run").click();
  expect(await page.getByRole("alert").textContent()).toMatch(
    /wanted tokens for the prompt or to generate\.$/,
  );
});

test.each([
  [
    "no WebGPU",
    "Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined })",
    /no WebGPU.*Chrome or Edge/,
  ],
  [
    "no adapter",
    "GPU.prototype.requestAdapter = async () => null",
    /found no adapter.*hardware acceleration/,
  ],
])("%s is said with its cure", async (_, script, cure) => {
  await page.addInitScript(script);
  await page.goto(`${server.url}?tab=bench`);
  await page.getByText(cure).waitFor();
  expect(await button("Run").isDisabled()).toBe(true);
});

test("npm run dev prints its address, serves the page and ends with Ctrl-C", async () => {
  const child = start("dev", ["--port", "0"]);
  const end = ended(child);
  const url = await new Promise<string>((found) => {
    let out = "";
    child.stdout!.on("data", (data) => {
      out += data;
      const match = /http:\/\/127\.0\.0\.1:\d+\//.exec(out);
      if (match) found(match[0]);
    });
  });
  expect(await (await fetch(url)).text()).toContain("What a long context costs");
  child.kill("SIGINT");
  expect((await end).code).toBe(130);
});
