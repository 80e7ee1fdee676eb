// Times every variant of a kernel at one size, by turns, once it has passed its cases.

import type { GpuMachine } from "../../engine/gpu.ts";
import { type AnyKernel, cost, describe, eligible, type Sizes } from "../../engine/kernel.ts";
import { Trial } from "../../engine/trial.ts";
import { failure } from "../failure.ts";
import type { Roof } from "../meters/roof.ts";
import { median } from "../stats.ts";
import { runCase, toleranceOf } from "./kernelCase.ts";
import type { KernelTime } from "./kernelTime.ts";
import type { Shape } from "./shapes.ts";

/** Rounds: what disturbs the machine disturbs all variants. */
const ROUNDS = 9;
/** A round runs each variant often enough to last about this long: a submit and its wait take half a millisecond in Chrome. */
const ROUND_MS = 20;
const MOST_RUNS = 1000;
/** A variant that would take longer for all its rounds is given fewer. */
const MOST_MS = 4000;
const FEWEST_ROUNDS = 3;

/** Worst normalised mean squared error over the variant's cases, and the first case that it does not pass. */
export interface Passed {
  nmse: number;
  fault: string | null;
}

export class KernelBench {
  readonly #machine: GpuMachine;
  readonly #roof: Roof;
  readonly #passed = new Map<string, Passed>();

  constructor(machine: GpuMachine, roof: Roof) {
    this.#machine = machine;
    this.#roof = roof;
  }

  /**
   * A row a variant; one that cannot be run or does not pass says why. `suitable`: leaves out what is not meant for this
   * class of adapter.
   */
  async measure({ kernel, sizes, usedBy }: Shape, suitable: boolean): Promise<KernelTime[]> {
    const names = this.#variants(kernel, sizes, suitable);
    const row = (variant: string, sizes: Sizes): KernelTime => ({
      kernel: kernel.name,
      sizes: describe(sizes, " "),
      used_by: usedBy,
      variant,
      suits: kernel.variants[variant]!.suits,
      status: "ok",
      reason: null,
      nmse: null,
      ...cost(kernel, sizes),
      dispatches: null,
      rounds: 0,
      min_ns: null,
      median_ns: null,
      gbs: null,
      gflops: null,
      roof_ns: null,
      of_roof: null,
      won: false,
    });
    let trial: Trial;
    try {
      trial = await Trial.open(this.#machine, kernel, sizes);
    } catch (error) {
      const failed = failure(error, "preflight");
      return names.map((name) => ({ ...row(name, sizes), ...failed }));
    }
    try {
      const rows: KernelTime[] = [];
      const runners: { row: KernelTime; times: number; rounds: number; samples: number[] }[] = [];
      for (const name of names) {
        const found = row(name, trial.sizes);
        rows.push(found);
        const { nmse, fault } = await this.#pass(kernel, name);
        found.nmse = nmse;
        if (fault) {
          Object.assign(found, { status: "failed", reason: fault });
          continue;
        }
        try {
          await trial.add(name);
        } catch (error) {
          Object.assign(found, failure(error, "preflight"));
          continue;
        }
        found.dispatches = trial.dispatches(name);
        // the first run compiles on some drivers
        await trial.time(name, 1);
        const times = await trial.runsFor(name, ROUND_MS, MOST_RUNS);
        const ms = times * (await trial.time(name, times));
        const rounds = Math.max(FEWEST_ROUNDS, Math.min(ROUNDS, Math.floor(MOST_MS / ms)));
        runners.push({ row: found, times, rounds, samples: [] });
      }
      for (let round = 0; round < ROUNDS; round++) {
        for (const { row, times, rounds, samples } of runners)
          if (round < rounds) samples.push(await trial.time(row.variant, times));
      }
      for (const { row, samples } of runners) Object.assign(row, figures(row, samples, this.#roof));
      const best = Math.min(...runners.map(({ row }) => row.min_ns!));
      for (const { row } of runners) row.won = row.min_ns === best;
      return rows;
    } finally {
      trial.destroy();
    }
  }

  #variants(kernel: AnyKernel, sizes: Sizes, suitable: boolean): string[] {
    const { features, suits } = this.#machine.variants;
    const names = eligible(kernel, sizes, features);
    const fitting = names.filter((name) => ["any", suits].includes(kernel.variants[name]!.suits));
    return suitable && fitting.length > 0 ? fitting : names;
  }

  /** Its cases against the reference, once a variant. */
  async #pass(kernel: AnyKernel, variant: string): Promise<Passed> {
    const key = `${kernel.name}/${variant}`;
    const known = this.#passed.get(key);
    if (known) return known;
    const passed: Passed = { nmse: 0, fault: null };
    this.#passed.set(key, passed);
    for (const sizes of kernel.cases) {
      if (!eligible(kernel, sizes, this.#machine.variants.features).includes(variant)) continue;
      try {
        const differences = Object.entries(await runCase(this.#machine, kernel, variant, sizes));
        for (const [binding, { nmse, largest }] of differences) {
          const bound = toleranceOf(kernel, binding);
          passed.nmse = Math.max(passed.nmse, nmse);
          // not <=: NaN is no pass
          if (!(nmse <= bound.nmse && largest <= bound.largest))
            passed.fault ??= `${binding} at ${describe(sizes, " ")} differs from the reference: NMSE ${nmse.toExponential(1)}, largest ${largest.toExponential(1)}; wanted ${bound.nmse} and ${bound.largest}`;
        }
      } catch (error) {
        passed.fault ??= `at ${describe(sizes, " ")}: ${(error as Error).message}`;
      }
    }
    return passed;
  }
}

function figures(
  { bytes, flops, dispatches }: KernelTime,
  samples: readonly number[],
  { readGbs, gflops, dispatchNs }: Roof,
) {
  const min_ns = 1e6 * Math.min(...samples);
  const roof_ns = Math.max(bytes / readGbs, flops / gflops) + dispatches! * dispatchNs;
  return {
    rounds: samples.length,
    min_ns,
    median_ns: 1e6 * median(samples),
    gbs: bytes / min_ns,
    gflops: flops / min_ns,
    roof_ns,
    of_roof: roof_ns / min_ns,
  };
}
