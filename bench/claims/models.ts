// What is known of the shipped models before anything is measured.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { layersOf } from "../architecture.ts";
import { shipped } from "../shipped.ts";
import type { Findings } from "./claim.ts";

/** `at`: the folder of the shipped checkpoints. */
export function shippedModels(at: string): Findings["models"] {
  return Object.fromEntries(
    Object.entries(shipped).map(([arch, { folder, overlay }]) => {
      const config = JSON.parse(readFileSync(join(at, folder, "config.json"), "utf8"));
      return [arch, { layers: layersOf({ ...config, ...overlay }) ?? [], weights: folder }];
    }),
  );
}
