// The layers of the shipped models, by their configurations: small files, and no weights.

import { urlSource } from "../../models/source.ts";
import { layersOf } from "../architecture.ts";
import type { Layers } from "../closed.ts";
import { configOf } from "../loading.ts";
import { benchArchs } from "../shipped.ts";
import { shippedSubject } from "../subject.ts";
import { checkpointsUrl } from "./dom.ts";

let layers: Promise<ReadonlyMap<string, Layers[]>> | null = null;

/** By architecture; one whose file cannot be had is left out. */
export function layersOfShipped(): Promise<ReadonlyMap<string, Layers[]>> {
  layers ??= readAll();
  return layers;
}

async function readAll(): Promise<ReadonlyMap<string, Layers[]>> {
  const found = await Promise.all(
    benchArchs.map(async (arch) => {
      const subject = { ...shippedSubject(arch, checkpointsUrl), seededConfig: "config.json" };
      const config = await configOf(subject, urlSource(subject.folder)).catch(() => null);
      return [arch, config && layersOf(config)] as const;
    }),
  );
  return new Map(found.flatMap(([arch, layers]) => (layers ? [[arch, layers]] : [])));
}
