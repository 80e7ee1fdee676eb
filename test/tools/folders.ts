// The checkpoints that are beside the tests: a golden that is put there is tested by being there.

/// <reference types="vite/types/importMeta.d.ts" />

import type { Config } from "../../models/config.ts";
import type { Engine, Model } from "../../models/engine.ts";
import type { Source } from "../../models/source.ts";
import { hybrids, smallHybrid } from "./hybrids.ts";

const name = (path: string) => path.split("/").at(-2)!;

/** Folders of test/goldens: small, with random weights. */
export const goldens = Object.keys(import.meta.glob("../goldens/*/config.json")).map(name);

/** Folders of models/checkpoints: trained, and shipped. */
export const checkpoints = Object.keys(import.meta.glob("../../models/checkpoints/*/config.json")).map(name);

/** How the llama golden's weights run under each pattern of attention: with windows shorter than a page. */
const patterns: Record<string, Config> = {
  materialised: { pattern: "materialised" },
  sinks: { pattern: "sinks", sinks: 3, window: 9 },
  local: { pattern: "local", window: 37 },
  strided: { pattern: "strided", stride: 26 },
};

/** All that has weights from elsewhere: the goldens, and llama's under each pattern. */
export const models = [...goldens, ...Object.keys(patterns)];

/** The files of one of `models`; `open` gives those of a golden's folder. */
export function modelSource(name: string, open: (golden: string) => Source): Source {
  const pattern = patterns[name];
  if (!pattern) return open(name);
  const source = open("llama");
  const config = async () => {
    const stored = JSON.parse(new TextDecoder().decode(await source.read("config.json")));
    return new TextEncoder().encode(JSON.stringify({ ...stored, longtape_attention: pattern }));
  };
  return {
    name,
    read: (path, ...range) => (path === "config.json" ? config() : source.read(path, ...range)),
    size: async (path) => (path === "config.json" ? (await config()).length : source.size(path)),
  };
}

/** Those, and hybrids of every kind of cache and state at once, with seeded weights. */
export const sessionModels = [...models, ...hybrids];

/** One of `sessionModels`. */
export const loadModel = (engine: Engine, name: string, open: (golden: string) => Source): Promise<Model> =>
  hybrids.includes(name)
    ? engine.random(smallHybrid(name), 1, { tune: "off" })
    : engine.load(modelSource(name, open), { tune: "off" });
