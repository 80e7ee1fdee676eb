// Where a person's own browser ran something, for the results.

import { type Environment, emptyEnvironment } from "../row.ts";
import type { Build } from "../server.ts";

declare global {
  /** Put there by the server of `npm run dev`, and by `npm run build`. */
  var LONGTAPE_BUILD: Build | undefined;
}

export const build: Build = globalThis.LONGTAPE_BUILD ?? { commit: null, versions: {} };

export const environment = (seed: number): Environment =>
  emptyEnvironment({
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
    tab_hidden: document.hidden,
    seed,
    curves: [],
  });

/** A file's name that says when its results were begun. */
export const fileName = ({ started }: Environment, what: string, ending: string): string =>
  `longtape-${what}${started.slice(0, 19).replaceAll(":", "-")}.${ending}`;
