// Runs a job where the command line says: on Dawn in this process, or in a page of a Chrome that is started for it.

import { verdictFile } from "../engine/verdictFile.ts";
import { directorySource } from "../models/directory.ts";
import { type EventOf, type JobName, jobs, type RequestOf, type ResultOf } from "./jobs.ts";
import { dawnInNode } from "./node.ts";
import type { JobWindow, Outcome } from "./page/job.ts";

export interface Place {
  runtime: "node" | "chrome";
  browser?: string | undefined;
  software?: boolean | undefined;
}

/** Throws what the job throws (from Chrome: an error of the same name), BrowserError or AdapterError. */
export function runJob<N extends JobName>(
  name: N,
  place: Place,
  /** Folders that the request names. */
  folders: readonly string[],
  request: RequestOf<N>,
  tell: (event: EventOf<N>) => void,
  signal: AbortSignal,
): Promise<ResultOf<N>> {
  return (place.runtime === "node" ? inNode : inChrome)(name, place, folders, request, tell, signal);
}

type Run = typeof runJob;

const inNode: Run = async (name, { software }, _folders, request, tell, signal) => {
  const { gpu } = await dawnInNode({ software });
  const engine = { gpu, powerPreference: "high-performance", verdicts: verdictFile() };
  const host = { engine, source: directorySource };
  const job = jobs[name] as (...all: unknown[]) => Promise<never>;
  return job(host, request, tell, signal);
};

const inChrome: Run = async (name, place, folders, request, tell, signal) => {
  // neither is needed to say that a flag is wrong, and both take seconds to load
  const [{ launchBrowser }, { startServer }, { lendVerdicts }] = await Promise.all([
    import("./browser.ts"),
    import("./server.ts"),
    import("./verdicts.ts"),
  ]);
  const names = Object.fromEntries(folders.map((folder, i) => [folder, String(i)]));
  const paths = Object.fromEntries(folders.map((folder, i) => [String(i), folder]));
  const server = await startServer({ folders: paths });
  try {
    const { browser } = await launchBrowser({
      path: place.browser,
      software: place.software,
      handleSIGINT: false,
    });
    try {
      const page = await browser.newPage();
      const crashed = new Promise<never>((_, fail) => {
        page.once("crash", () =>
          fail(new Error("the page that ran the job crashed: it may be out of memory")),
        );
      });
      await page.exposeFunction("jobEvent", tell);
      await lendVerdicts(page, verdictFile());
      await page.goto(`${server.url}job.html`);
      await page.waitForFunction("typeof startJob === 'function'");
      const stop = () => page.evaluate(() => (globalThis as unknown as JobWindow).stopJob()).catch(() => {});
      signal.addEventListener("abort", stop);
      if (signal.aborted) await stop();
      const started = page.evaluate(
        ([name, request, folders]) =>
          (globalThis as unknown as JobWindow).startJob(name as never, request as never, folders as never),
        [name, request, names] as const,
      );
      const outcome: Outcome = await Promise.race([started, crashed]);
      if ("result" in outcome) return outcome.result as never;
      throw Object.assign(new Error(outcome.error.message), outcome.error);
    } finally {
      await browser.close();
    }
  } finally {
    await server.close();
  }
};
