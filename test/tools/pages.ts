// A Chrome for a file's tests: each has a page in a context of its own, and ends without a fault of the page's.

import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { launchBrowser } from "../../bench/browser.ts";
import { type RunningServer, startServer } from "../../bench/server.ts";

export function usePages(): { readonly page: Page; readonly context: BrowserContext } {
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let faults: string[];

  beforeAll(async () => {
    ({ browser } = await launchBrowser({ software: true }));
  });
  afterAll(() => browser?.close());

  beforeEach(async () => {
    context = await browser.newContext();
    page = await context.newPage();
    page.setDefaultTimeout(60_000);
    faults = [];
    page.on("pageerror", (error) => faults.push(String(error.stack)));
    page.on("console", (message) => {
      if (/Content Security Policy/.test(message.text())) faults.push(message.text());
    });
  });
  afterEach(async () => {
    await context.close();
    expect(faults).toEqual([]);
  });

  return {
    get page() {
      return page;
    },
    get context() {
      return context;
    },
  };
}

/** What `npm run dev` serves, as built from a commit that there is not. */
export function usePageServer(): { readonly url: string } {
  let server: RunningServer;
  beforeAll(async () => {
    server = await startServer({ build: { commit: "abc1234", versions: { longtape: "9.9.9" } } });
  });
  afterAll(() => server?.close());
  return {
    get url() {
      return server.url;
    },
  };
}
