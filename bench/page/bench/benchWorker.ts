// The bench beside the page, not in it: references compute for whole seconds, and the page must still hear "stop". To
// stop is to end this worker, and its device and memory with it.

import { verdictDatabase } from "../../engine/verdictDatabase.ts";
import { filesSource, urlSource } from "../../models/source.ts";
import { Bench, type BenchEvent, type Facts, type Settings } from "../run.ts";
import { TEXT_FILE } from "../runtime.ts";
import type { Subject } from "../subject.ts";
import type { Test } from "../tests.ts";

export interface WorkerRequest {
  settings: Settings;
  subjects: Subject[];
  tests: Test[];
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
  const { settings, subjects, tests, picked } = data;
  try {
    const bench = await Bench.open(
      {
        gpu: navigator.gpu,
        source: (folder) =>
          picked.has(folder) ? filesSource(picked.get(folder)!) : urlSource(folder, folder),
        text: async () => (await fetch(`/models/checkpoints/${TEXT_FILE}`)).text(),
        resident: async () => null,
        verdicts: verdictDatabase(),
      },
      settings,
    );
    tell({ type: "open", facts: await bench.facts() });
    for (const subject of subjects) {
      tell({ type: "subject", model: subject.model });
      await bench.run(subject, tests, tell);
    }
    bench.close();
    tell({ type: "end" });
  } catch (error) {
    tell({ type: "error", message: error instanceof Error ? error.message : String(error) });
  }
});
