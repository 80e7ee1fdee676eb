// The bench beside the page, not in it: references compute for whole seconds, and the page must still hear "stop". To
// stop is to end this worker, and its device and memory with it.

import { verdictDatabase } from "../../../engine/verdictDatabase.ts";
import { filesSource, urlSource } from "../../../models/source.ts";
import type { Facts } from "../../meters/adapterFacts.ts";
import { Bench, type BenchEvent, type Settings } from "../../run.ts";
import { TEXT_FILE } from "../../runtime.ts";
import type { Planned } from "../../subject.ts";

export interface WorkerRequest {
  settings: Settings;
  plan: readonly Planned[];
  /** Where the shipped checkpoints lie. */
  checkpoints: string;
  /** Files of the folders that a person picked, by the subject's folder; others are the server's. */
  picked: Map<string, File[]>;
}

export type WorkerEvent =
  | BenchEvent
  | { type: "open"; facts: Facts }
  | { type: "subject"; model: string }
  | { type: "end" }
  | { type: "error"; message: string };

const tell = (event: WorkerEvent) => postMessage(event);

addEventListener("message", async ({ data }: MessageEvent<WorkerRequest>) => {
  const { settings, plan, picked } = data;
  try {
    const bench = await Bench.open(
      {
        gpu: navigator.gpu,
        source: (folder) =>
          picked.has(folder) ? filesSource(picked.get(folder)!, folder) : urlSource(folder),
        text: async () => (await fetch(`${data.checkpoints}/${TEXT_FILE}`)).text(),
        resident: async () => null,
        verdicts: verdictDatabase(),
      },
      settings,
    );
    tell({ type: "open", facts: await bench.facts() });
    for (const { subject, tests } of plan) {
      tell({ type: "subject", model: subject.model });
      await bench.run(subject, tests, tell);
    }
    bench.close();
    tell({ type: "end" });
  } catch (error) {
    tell({ type: "error", message: error instanceof Error ? error.message : String(error) });
  }
});
