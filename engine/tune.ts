// The race: which variant of a kernel is fastest on this adapter at the sizes in hand. Run before the weights arrive, on
// synthetic buffers that are freed again. What was raced in a run before may be kept (engine/verdicts.ts).

import { Fingerprint } from "./fingerprint.ts";
import type { GpuMachine } from "./gpu.ts";
import {
  type AnyKernel,
  compilePass,
  constantsKey,
  eligible,
  gridOf,
  pagedLetter,
  type Sizes,
  type Variant,
} from "./kernel.ts";
import { SMALLEST_PAGE } from "./tensor.ts";
import { Trial } from "./trial.ts";
import type { Verdict } from "./verdicts.ts";

/**
 * `off`: no race, and no verdict of the store; `cached`: those that the store has, and a race for the others; `full`: a race
 * for all that this engine has not raced itself.
 */
export type Tune = "off" | "cached" | "full";

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

/** Told of each verdict: was it kept from a run before? */
export type OnVerdict = (verdict: Verdict, kept: boolean) => void;

/**
 * Races the eligible variants of each contest (on a software adapter those not meant for GPUs) and keeps the verdicts
 * in the machine's table, and in its store. Contests with one runner, or that have a verdict, are passed over. Gives the
 * verdicts that were missing. Throws what running a variant throws, with nothing left allocated.
 */
export async function race(
  machine: GpuMachine,
  contests: readonly Contest[],
  tune: Exclude<Tune, "off"> = "cached",
  onVerdict?: OnVerdict,
): Promise<Verdict[]> {
  const { variants, verdicts: store } = machine;
  const stored = (tune === "cached" && (await store?.read())) || new Map<string, Verdict>();
  const out: Verdict[] = [];
  const fresh: Verdict[] = [];
  const seen = new Set<string>();
  try {
    for (const { kernel, sizes } of contests) {
      const key = constantsKey(kernel, sizes);
      // what is meant for GPUs is ruinous on a CPU, and takes seconds to compile there: no race to run
      const names = eligible(kernel, sizes, variants.features).filter(
        (name) => variants.suits === "gpu" || kernel.variants[name]!.suits !== "gpu",
      );
      if (seen.has(key) || names.length < 2) continue;
      seen.add(key);
      if (tune === "full" && variants.kept.delete(key)) variants.verdicts.delete(key);
      if (variants.verdicts.has(key)) continue;
      const code = codeOf(kernel, sizes, names);
      const before = stored.get(key);
      const kept = before?.code === code && names.includes(before.winner);
      const verdict = kept ? before : { key, code, ...(await raceOne(machine, kernel, sizes, names)) };
      if (kept) variants.kept.add(key);
      else fresh.push(verdict);
      variants.verdicts.set(key, verdict.winner);
      out.push(verdict);
      onVerdict?.(verdict, kept);
    }
  } finally {
    if (fresh.length > 0) await store?.write(fresh);
  }
  return out;
}

/** Fingerprint of what these variants would run: their WGSL, and how often and how widely it is dispatched. */
function codeOf(kernel: AnyKernel, sizes: Sizes, names: readonly string[]): string {
  const letter = pagedLetter(kernel);
  // a cache's length is no constant: any will do, if it is always the same
  const s = letter ? { ...sizes, [letter]: SMALLEST_PAGE } : sizes;
  const raced = names.map((name) => {
    const variant: Variant = kernel.variants[name]!;
    const passes = variant.passes.map((pass) => {
      const group = pass.overPages ? { PAGE: SMALLEST_PAGE, PAGES: 1 } : undefined;
      const grid = gridOf(pass.grid({ ...s, PAGE: 0, PAGES: 0, ...group }));
      return [compilePass(kernel, variant, pass, s, group).code, grid, pass.repeat?.(s) ?? 1];
    });
    return [name, passes];
  });
  return new Fingerprint(JSON.stringify(raced)).hex;
}

/** Fastest time of each variant, ms; the default wins unless another is clearly faster. */
async function raceOne(
  machine: GpuMachine,
  kernel: AnyKernel,
  sizes: Sizes,
  names: readonly string[],
): Promise<Pick<Verdict, "winner" | "ms">> {
  const preferred = machine.variants.choose(kernel, sizes);
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
  const ms = Object.fromEntries(runners.map((r) => [r.name, r.ms]));
  const fastest = names.reduce((a, b) => (ms[b]! < ms[a]! ? b : a));
  return { winner: ms[fastest]! < MARGIN * ms[preferred]! ? fastest : preferred, ms };
}
