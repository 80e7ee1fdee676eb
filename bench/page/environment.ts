// Where a person's own browser ran something, for the results.

import type { Environment } from "../row.ts";
import type { Build } from "../server.ts";

declare global {
  /** Put there by the server of `npm run dev`, and by `npm run build`. */
  var LONGTAPE_BUILD: Build | undefined;
}

export const build: Build = globalThis.LONGTAPE_BUILD ?? { commit: null, versions: {} };

export const environment = (seed: number): Environment => ({
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
  seed,
  curves: [],
});
