// The race: which variant of a kernel is fastest on this adapter at the sizes in hand. Run before the weights arrive, on
// synthetic buffers that are freed again.

import type { GpuMachine } from "./gpu.ts";
import { type AnyKernel, constantsKey, eligible, type Sizes } from "./kernel.ts";
import { Trial } from "./trial.ts";

/** The outcome of one race. */
export interface Verdict {
  /** The kernel and its constants. */
  key: string;
  winner: string;
  /** Fastest time of each variant: ms a run. */
  ms: Record<string, number>;
}

export interface Contest {
  kernel: AnyKernel;
  sizes: Sizes;
}

/** Rounds: variants take turns, so that what disturbs the machine disturbs all of them. */
const ROUNDS = 5;
/** A round runs each variant often enough to last about this long. */
const ROUND_MS = 4;
const MOST_RUNS = 50;
/** After two rounds, a race of long runs ends when each has run about this long: their noise is small. */
const ENOUGH_MS = 60;
/** A variant this many times slower than the best so far is not run again. */
const HOPELESS = 6;
/** What compiling may add to a first run. */
const COMPILE_MS = 150;
/** A variant must be this much faster than the default to take its place: a race is a noisy thing. */
const MARGIN = 0.95;

/**
 * Races the eligible variants of each contest (on a software adapter those not meant for GPUs) and keeps the verdicts
 * in the machine's table. Contests with one runner, or that have a verdict, are passed over. Throws what running a
 * variant throws, with nothing left allocated.
 */
export async function race(
  machine: GpuMachine,
  contests: readonly Contest[],
  onVerdict?: (verdict: Verdict) => void,
): Promise<Verdict[]> {
  const { variants } = machine;
  const out: Verdict[] = [];
  const seen = new Set<string>();
  for (const { kernel, sizes } of contests) {
    const key = constantsKey(kernel, sizes);
    // what is meant for GPUs is ruinous on a CPU, and takes seconds to compile there: no race to run
    const names = eligible(kernel, sizes, variants.features).filter(
      (name) => variants.suits === "gpu" || kernel.variants[name]!.suits !== "gpu",
    );
    if (seen.has(key) || variants.verdicts.has(key) || names.length < 2) continue;
    seen.add(key);
    const preferred = variants.choose(kernel, sizes);
    const ms = await raceOne(machine, kernel, sizes, names);
    const best = names.reduce((a, b) => (ms[b]! < ms[a]! ? b : a));
    const winner = ms[best]! < MARGIN * ms[preferred]! ? best : preferred;
    variants.verdicts.set(key, winner);
    const verdict = { key, winner, ms };
    out.push(verdict);
    onVerdict?.(verdict);
  }
  return out;
}

/** Fastest time of each variant, ms. */
async function raceOne(
  machine: GpuMachine,
  kernel: AnyKernel,
  sizes: Sizes,
  names: readonly string[],
): Promise<Record<string, number>> {
  const trial = await Trial.open(machine, kernel, sizes);
  const runners: { name: string; times: number; ms: number }[] = [];
  const best = () => Math.min(...runners.map((r) => r.ms));
  try {
    for (const name of names) {
      await trial.add(name);
      // the first run compiles on some drivers
      const first = await trial.time(name, 1);
      const hopeless = first > COMPILE_MS + HOPELESS * best();
      const times = hopeless ? 1 : await trial.runsFor(name, ROUND_MS, MOST_RUNS);
      runners.push({ name, times, ms: hopeless ? first : await trial.time(name, times) });
    }
    for (let round = 0; round < ROUNDS; round++) {
      const fastest = best();
      if (round >= 2 && round * fastest > ENOUGH_MS) break;
      for (const r of runners) {
        if (r.ms < HOPELESS * fastest) r.ms = Math.min(r.ms, await trial.time(r.name, r.times));
      }
    }
  } finally {
    trial.destroy();
  }
  return Object.fromEntries(runners.map((r) => [r.name, r.ms]));
}
