// Where the bench runs, as the command line sees it: Chrome's page, or Dawn in this process.

import type { AdapterDescription } from "../engine/gpuDevice.ts";
import type { VerdictStore } from "../engine/verdicts.ts";
import type { KernelsWanted } from "./kernels/run.ts";
import type { Device, Facts } from "./meters/adapterFacts.ts";
import type { PeerName } from "./peers/peer.ts";
import type { Environment, PeerResident } from "./row.ts";
import type { BenchEvent, Settings } from "./run.ts";
import type { Planned, Subject } from "./subject.ts";
import type { Test } from "./tests.ts";

export interface RuntimeRequest {
  browser: string | null;
  software: boolean;
  settings: Settings;
  /** All that will be run. */
  subjects: readonly Subject[];
  /** Where the verdicts of races outlive the run. */
  verdicts: VerdictStore;
  onEvent(event: RuntimeEvent): void;
}

/** `hidden`: the tab was hidden. `log`: what the browser's console said. */
export type RuntimeEvent = BenchEvent | { type: "hidden" } | { type: "log"; text: string };

export interface Runtime {
  readonly adapter: AdapterDescription;
  readonly about: Pick<Environment, "runtime" | "browser" | "browser_flags"> & {
    versions: Record<string, string>;
  };
  /** The adapters that WebGPU lets one ask for. */
  devices(): Promise<Device[]>;
  /** Opens the engine. Throws AdapterError, or what the browser says. */
  open(): Promise<Facts>;
  /** Runs the tests of one of the subjects. Throws where the place itself broke down; the next run makes a new one. */
  run(subject: Subject, tests: readonly Test[]): Promise<void>;
  /** Times kernels by themselves, at the sizes that these tests run them at. */
  kernels(plan: readonly Planned[], wanted: KernelsWanted): Promise<void>;
  /** What a browser of its own holds with one model in this runtime; null where there is no browser. */
  fresh(peer: PeerName, subject: Subject): Promise<PeerResident | null>;
  close(): Promise<void>;
}

/** The text that prompts are made of, beside the shipped models. */
export const TEXT_FILE = "tinyshakespeare.txt";
