// Chrome's end of bench/chromeRuntime.ts.

import { urlSource } from "../../models/source.ts";
import type { KernelsWanted } from "../kernels/run.ts";
import { type Device, type Facts, listDevices } from "../meters/adapterFacts.ts";
import type { Resident } from "../meters/resident.ts";
import { holdModel } from "../peers/fresh.ts";
import type { PeerName } from "../peers/peer.ts";
import { Bench, type Settings } from "../run.ts";
import { type RuntimeEvent, TEXT_FILE } from "../runtime.ts";
import type { Planned, Subject } from "../subject.ts";
import type { Test } from "../tests.ts";
import { nodeVerdicts } from "./verdicts.ts";

export interface RunnerWindow {
  benchRunner: {
    devices(): Promise<Device[]>;
    open(settings: Settings): Promise<Facts>;
    run(subject: Subject, tests: readonly Test[]): Promise<void>;
    kernels(plan: readonly Planned[], wanted: KernelsWanted): Promise<void>;
    /** Loads and runs a model in a runtime, and holds on to it. */
    hold(peer: PeerName, subject: Subject): Promise<void>;
  };
  /** Node's ends. */
  benchEvent(event: RuntimeEvent): Promise<void>;
  benchResident(): Promise<Resident | null>;
}

const here = globalThis as unknown as RunnerWindow;
let bench: Bench;
/** What a measured browser must not let go of. */
export let held: unknown;

here.benchRunner = {
  devices: () => listDevices(navigator.gpu),
  async open(settings) {
    const tell = () => document.hidden && here.benchEvent({ type: "hidden" });
    document.addEventListener("visibilitychange", tell);
    await tell();
    const host = {
      gpu: navigator.gpu,
      source: urlSource,
      text: async () => (await fetch(`/models/checkpoints/${TEXT_FILE}`)).text(),
      resident: () => here.benchResident(),
      verdicts: nodeVerdicts,
    };
    bench = await Bench.open(host, settings);
    return bench.facts();
  },
  run: (subject, tests) => bench.run(subject, tests, (event) => here.benchEvent(event)),
  kernels: (plan, wanted) => bench.kernels(plan, wanted, (event) => here.benchEvent(event)),
  async hold(peer, subject) {
    held = await holdModel(peer, subject, urlSource(subject.folder));
  },
};
