// The configurations of the shipped models: small files, and no weights.

import type { Config } from "../../models/config.ts";
import { urlSource } from "../../models/source.ts";
import { layersOf } from "../architecture.ts";
import type { Layers } from "../closed.ts";
import { configOf } from "../loading.ts";
import { benchArchs } from "../shipped.ts";
import { CONFIG_FILE, shippedSubject } from "../subject.ts";
import { checkpointsUrl } from "./dom.ts";

let configs: Promise<ReadonlyMap<string, Config>> | null = null;

/** By architecture; one whose file cannot be had is left out. Read once. */
export function shippedConfigs(): Promise<ReadonlyMap<string, Config>> {
  configs ??= readAll();
  return configs;
}

export async function shippedLayers(): Promise<ReadonlyMap<string, Layers[]>> {
  const layers = [...(await shippedConfigs())].map(([arch, config]) => [arch, layersOf(config)] as const);
  return new Map(layers.flatMap(([arch, found]) => (found ? [[arch, found]] : [])));
}

async function readAll(): Promise<ReadonlyMap<string, Config>> {
  const found = await Promise.all(
    benchArchs.map(async (arch) => {
      const subject = { ...shippedSubject(arch, checkpointsUrl), seededConfig: CONFIG_FILE };
      return [arch, await configOf(subject, urlSource(subject.folder)).catch(() => null)] as const;
    }),
  );
  return new Map(found.flatMap(([arch, config]) => (config ? [[arch, config]] : [])));
}
