// Chrome's end of bench/runJob.ts: runs a job here, with the folders that the server offers.

import { urlSource } from "../../models/source.ts";
import { type JobName, jobs, type RequestOf } from "../jobs.ts";
import { nodeVerdicts } from "./verdicts.ts";

/** What crosses back: an error as data, since its class stays here. */
export type Outcome = { result: unknown } | { error: { name: string; message: string; stack: string } };

export interface JobWindow {
  startJob<N extends JobName>(
    name: N,
    request: RequestOf<N>,
    folders: Record<string, string>,
  ): Promise<Outcome>;
  stopJob(): void;
  /** Node's end. */
  jobEvent(event: unknown): Promise<void>;
}

const here = globalThis as unknown as JobWindow;
const stopping = new AbortController();

here.stopJob = () => stopping.abort();
here.startJob = async (name, request, folders) => {
  const told: Promise<void>[] = [];
  const job = jobs[name] as (...all: unknown[]) => Promise<unknown>;
  const host = {
    engine: { powerPreference: "high-performance", verdicts: nodeVerdicts },
    source: (folder: string) => urlSource(`/folders/${folders[folder]}/`, folder),
  };
  try {
    const result = await job(
      host,
      request,
      (event: unknown) => told.push(here.jobEvent(event)),
      stopping.signal,
    );
    await Promise.all(told);
    return { result };
  } catch (error) {
    const { name, message, stack = message } = error instanceof Error ? error : new Error(String(error));
    return { error: { name, message, stack } };
  }
};
