// The bench in a page of a browser that is started for it. The page runs bench/run.ts; rows come back one by one.

import type { Browser, CDPSession, Page } from "playwright-core";
import { launchBrowser } from "./browser.ts";
import type { Facts } from "./meters/adapterFacts.ts";
import { proportionalBytes, type Resident, residentBytes } from "./meters/resident.ts";
import type { RunnerWindow } from "./page/runner.ts";
import type { Runtime, RuntimeEvent, RuntimeRequest } from "./runtime.ts";
import { startServer } from "./server.ts";
import type { Subject } from "./subject.ts";
import { lendVerdicts } from "./verdicts.ts";
import { packageVersion } from "./versions.ts";

/** Vite turns the page's modules into JavaScript at the first request, on cores that others may be using. */
const PAGE_TIMEOUT_MS = 120_000;

/** Throws BrowserError or AdapterError. */
export async function chromeRuntime(request: RuntimeRequest): Promise<Runtime> {
  const { subjects, settings, verdicts, onEvent } = request;
  const folders = [...new Set(subjects.map(({ folder }) => folder))].filter(Boolean);
  const server = await startServer({
    folders: Object.fromEntries(folders.map((folder, i) => [String(i), folder])),
  });
  const address = (folder: string) => folder && `${server.url}folders/${folders.indexOf(folder)}`;
  const launch = () =>
    launchBrowser({
      path: request.browser ?? undefined,
      software: request.software,
      handleSIGINT: false,
    });
  const launched = await launch().catch(async (error: unknown) => {
    await server.close();
    throw error;
  });
  const { browser, adapter, launchOptions } = launched;
  const processes = await browser.newBrowserCDPSession();
  const { product } = await processes.send("Browser.getVersion");
  let page: Page | null = null;

  /** What people gave us is a folder; the page knows its address. */
  const named = <T extends { reason: string | null }>(found: T): T => {
    let { reason } = found;
    for (const folder of folders) reason = reason?.replaceAll(`${address(folder)}/`, `${folder}/`) ?? null;
    for (const folder of folders) reason = reason?.replaceAll(address(folder), folder) ?? null;
    return { ...found, reason };
  };
  const inWords = (event: RuntimeEvent): RuntimeEvent => {
    if (event.type === "row") return { ...event, row: named(event.row) };
    if (event.type === "fit") return { ...event, fit: named(event.fit) };
    if (event.type === "quality") return { ...event, quality: named(event.quality) };
    return event;
  };

  /** A page with the runner in it; `prepare` comes before its code. */
  const runnerIn = async (browser: Browser, prepare?: (page: Page) => Promise<void>): Promise<Page> => {
    const runner = await browser.newPage();
    runner.setDefaultTimeout(PAGE_TIMEOUT_MS);
    await prepare?.(runner);
    await runner.goto(`${server.url}runner.html`);
    await runner.waitForFunction("globalThis.benchRunner !== undefined");
    return runner;
  };

  const openPage = async (): Promise<{ page: Page; facts: Facts }> => {
    const fresh = await runnerIn(browser, async (fresh) => {
      fresh.on("console", (message) =>
        onEvent({ type: "log", text: `${message.type()}: ${message.text()}` }),
      );
      fresh.on("pageerror", (error) => onEvent({ type: "log", text: String(error.stack ?? error) }));
      await fresh.exposeFunction("benchEvent", (event: RuntimeEvent) => onEvent(inWords(event)));
      await fresh.exposeFunction("benchResident", () => gpuResident(processes, adapter.software));
      await lendVerdicts(fresh, verdicts);
    });
    const facts = await fresh.evaluate(
      (settings) => (globalThis as unknown as RunnerWindow).benchRunner.open(settings),
      settings,
    );
    return { page: fresh, facts };
  };

  const addressed = (subject: Subject): Subject => ({ ...subject, folder: address(subject.folder) });
  const onPage = async (work: (here: Page) => Promise<void>): Promise<void> => {
    const here: Page = page ?? (await openPage()).page;
    page = here;
    // evaluate would wait for ever on a page that has crashed
    const crashed = new Promise<never>((_, fail) => {
      here.once("crash", () => fail(new Error("the page crashed: it may have been out of memory")));
    });
    const ran = work(here);
    try {
      await Promise.race([ran, crashed]);
    } catch (error) {
      page = null;
      ran.catch(() => {});
      await here.close().catch(() => {});
      throw error;
    }
  };

  return {
    adapter,
    about: {
      runtime: "chrome",
      browser: product.replace("/", " "),
      browser_flags: launchOptions.args ?? [],
      versions: { "playwright-core": packageVersion("playwright-core") },
    },
    async devices() {
      const blank = await runnerIn(browser);
      const devices = await blank.evaluate(() =>
        (globalThis as unknown as RunnerWindow).benchRunner.devices(),
      );
      await blank.close();
      return devices;
    },
    async open() {
      const opened = await openPage();
      page = opened.page;
      return opened.facts;
    },
    async run(subject, tests) {
      // other runtimes have one device a page: what one model left there would be another's
      if (settings.peers?.length && page) {
        await page.close();
        page = null;
      }
      await onPage((here) =>
        here.evaluate(
          ([subject, tests]) => (globalThis as unknown as RunnerWindow).benchRunner.run(subject, tests),
          [addressed(subject), tests] as const,
        ),
      );
    },
    kernels: (plan, wanted) =>
      onPage((here) =>
        here.evaluate(
          ([plan, wanted]) => (globalThis as unknown as RunnerWindow).benchRunner.kernels(plan, wanted),
          [plan.map(({ subject, tests }) => ({ subject: addressed(subject), tests })), wanted] as const,
        ),
      ),
    async fresh(peer, subject) {
      const alone = await launch();
      const about = { peer, model: subject.model };
      try {
        const session = await alone.browser.newBrowserCDPSession();
        const empty = await runnerIn(alone.browser);
        const before = await browserResident(session, adapter.software);
        await empty.evaluate(
          ([peer, subject]) => (globalThis as unknown as RunnerWindow).benchRunner.hold(peer, subject),
          [peer, addressed(subject)] as const,
        );
        const after = await browserResident(session, adapter.software);
        if (!before || !after) return { ...about, bytes: null, method: "not to be had on this system" };
        return { ...about, bytes: Math.max(0, after.bytes - before.bytes), method: after.method };
      } catch (error) {
        return { ...about, bytes: null, method: (error as Error).message.split("\n", 1)[0]! };
      } finally {
        await alone.browser.close();
      }
    },
    async close() {
      await browser.close();
      await server.close();
    },
  };
}

/** All processes of the browser; and, where the adapter is no software, what the GPU's holds on it. */
async function browserResident(session: CDPSession, software: boolean): Promise<Resident | null> {
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const shares = await Promise.all(processInfo.map(({ id }) => proportionalBytes(id)));
  if (shares.some((share) => share === null)) return null;
  const memory = {
    bytes: shares.reduce<number>((sum, share) => sum + share!, 0),
    method: "Pss of /proc, all processes",
  };
  if (software) return memory;
  const gpu = await gpuResident(session, software);
  return gpu && { bytes: memory.bytes + gpu.bytes, method: `${memory.method}, and ${gpu.method}` };
}

async function gpuResident(session: CDPSession, software: boolean): Promise<Resident | null> {
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const gpu = processInfo.find(({ type }) => type === "GPU");
  return gpu ? residentBytes(gpu.id, software) : null;
}
