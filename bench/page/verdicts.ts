// Node's end keeps the verdicts of a page: a browser that is started for one run begins with an empty profile.

import type { VerdictStore } from "../../engine/verdicts.ts";

/** What bench/verdicts.ts puts on the page. */
interface VerdictsWindow {
  readVerdicts: VerdictStore["read"];
  writeVerdicts: VerdictStore["write"];
}

const here = globalThis as unknown as VerdictsWindow;

export const nodeVerdicts: VerdictStore = {
  read: (adapter) => here.readVerdicts(adapter),
  write: (adapter, verdicts) => here.writeVerdicts(adapter, verdicts),
};
