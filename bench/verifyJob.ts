import type { Tune } from "../engine/tune.ts";
import { createEngine } from "../models/engine.ts";
import { usualTune } from "./adapter.ts";
import { type Verdict, verifyFolder } from "./golden.ts";
import type { Job } from "./jobs.ts";

export interface VerifyRequest {
  /** Hugging Face folders, as the person wrote them. */
  folders: string[];
  /** How the kernels' variants are chosen; null: cached on a GPU, where a race is quick, else off. */
  tune: Tune | null;
}

export type VerifyEvent = { verdict: Verdict } | { trace: string };

/** Verifies folder after folder; each has an engine of its own, so that one that breaks it leaves the others theirs. */
export const verify: Job<VerifyRequest, VerifyEvent, Verdict[]> = async (host, request, tell, signal) => {
  const verdicts: Verdict[] = [];
  for (const folder of request.folders) {
    // A macrotask: without one, references and promises alone would keep Ctrl-C from being heard.
    await new Promise((resolve) => setTimeout(resolve));
    signal.throwIfAborted();
    const engine = await createEngine(host.engine);
    try {
      const cpu = await createEngine({ machine: "cpu" });
      const verdict = await verifyFolder(engine, cpu, host.source(folder), {
        tune: request.tune ?? usualTune(engine.adapter!),
        onError: (error) => tell({ trace: error instanceof Error ? (error.stack ?? error.message) : "" }),
      });
      const named = { ...verdict, folder };
      verdicts.push(named);
      tell({ verdict: named });
    } finally {
      engine.destroy();
    }
  }
  return verdicts;
};
