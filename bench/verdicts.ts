// Node's end of bench/page/verdicts.ts.

import type { Page } from "playwright-core";
import type { VerdictStore } from "../engine/verdicts.ts";

/** Lends a store to a page, before it is opened. */
export async function lendVerdicts(page: Page, store: VerdictStore): Promise<void> {
  await page.exposeFunction("readVerdicts", store.read);
  await page.exposeFunction("writeVerdicts", store.write);
}
