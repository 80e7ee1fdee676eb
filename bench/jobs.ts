// What the small commands do, written once for both runtimes: a job runs in Node's process on Dawn, or in a page of
// Chrome. Requests, events and results cross between processes, so they are plain data.

import type { EngineOptions } from "../models/engine.ts";
import type { Source } from "../models/source.ts";
import { generate } from "./generateJob.ts";
import { verify } from "./verifyJob.ts";

/** Where a job runs. */
export interface Host {
  /** Which WebGPU, and which of its adapters. */
  engine: EngineOptions;
  /** The folder of this name, as the command line has it. */
  source(folder: string): Source;
}

export type Job<Request, Event, Result> = (
  host: Host,
  request: Request,
  tell: (event: Event) => void,
  signal: AbortSignal,
) => Promise<Result>;

export const jobs = { generate, verify };

type Jobs = typeof jobs;
export type JobName = keyof Jobs;
export type RequestOf<N extends JobName> = Parameters<Jobs[N]>[1];
export type EventOf<N extends JobName> = Parameters<Parameters<Jobs[N]>[2]>[0];
export type ResultOf<N extends JobName> = Awaited<ReturnType<Jobs[N]>>;
