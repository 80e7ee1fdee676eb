// The race: which variant of a kernel is fastest on this adapter at the sizes in hand. Run before the weights arrive, on
// synthetic buffers that are freed again.

import type { GpuMachine } from "./gpu.ts";
import { type AnyKernel, type Binding, bindingSpec, constantsKey, eligible, type Sizes } from "./kernel.ts";
import type { Run } from "./machine.ts";
import { record } from "./plan.ts";
import { elements, pageSpec, pagesFor, type Storage, storedBytes, type Tensor } from "./tensor.ts";
import { Workspace } from "./workspace.ts";

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
/** After two rounds, a race of long runs ends when each has run about this long: their noise is small. */
const ENOUGH_MS = 60;
/** A variant this many times slower than the best so far is not run again. */
const HOPELESS = 6;
/** What compiling may add to a first run. */
const COMPILE_MS = 150;
/** A variant must be this much faster than the default to take its place: a race is a noisy thing. */
const MARGIN = 0.95;
/** Slots of the cache that races of paged kernels run over. */
const RACE_SLOTS = 1024;

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

async function raceOne(
  machine: GpuMachine,
  kernel: AnyKernel,
  sizes: Sizes,
  names: readonly string[],
): Promise<Record<string, number>> {
  const { tensors, storages, filled } = synthetic(kernel, sizes);
  const runners: { name: string; workspace: Workspace; run: Run; times: number; ms: number }[] = [];
  const key = constantsKey(kernel, sizes);
  try {
    await machine.allocate(storages);
    for (const [name, tensor] of Object.entries(tensors)) {
      const data = kernel.fill?.[name]?.(filled, () => 0.5);
      if (data && !tensor.pages && data.length === elements(tensor.spec)) machine.write(tensor, data);
    }
    for (const name of names) {
      machine.variants.verdicts.set(key, name);
      const plan = record(kernel.name, (m) => m.run(kernel, tensors, sizes));
      const workspace = new Workspace(machine, [plan]);
      const runner = {
        name,
        workspace,
        run: { plan, dispatches: [] } as Run,
        times: 1,
        ms: Number.POSITIVE_INFINITY,
      };
      runners.push(runner);
      await workspace.open();
      runner.run = workspace.run(plan, { first: 0, last: 0 });
      await machine.prepare(runner.run.dispatches);
      // the first run compiles on some drivers; the second says how many make a round
      const best = Math.min(...runners.map((r) => r.ms));
      const first = await time(machine, runner.run, 1);
      runner.ms = first > COMPILE_MS + HOPELESS * best ? first : await time(machine, runner.run, 1);
      runner.times = Math.max(1, Math.min(50, Math.round(ROUND_MS / runner.ms)));
    }
    for (let round = 0; round < ROUNDS; round++) {
      const best = Math.min(...runners.map((r) => r.ms));
      if (round >= 2 && round * best > ENOUGH_MS) break;
      for (const r of runners) {
        if (r.ms < HOPELESS * best) r.ms = Math.min(r.ms, await time(machine, r.run, r.times));
      }
    }
  } finally {
    machine.variants.verdicts.delete(key);
    for (const { workspace } of runners) workspace.destroy();
    machine.free(storages);
  }
  return Object.fromEntries(runners.map((r) => [r.name, r.ms]));
}

async function time(machine: GpuMachine, run: Run, times: number): Promise<number> {
  const started = performance.now();
  machine.submit(new Array<Run>(times).fill(run));
  await machine.idle();
  return (performance.now() - started) / times;
}

/** What a race binds; `filled`: its sizes with a full cache, where the op was recorded over an empty one. */
function synthetic(
  kernel: AnyKernel,
  sizes: Sizes,
): { tensors: Record<string, Tensor>; storages: Storage[]; filled: Sizes } {
  const tensors: Record<string, Tensor> = {};
  const slots = pagesFor(RACE_SLOTS);
  const capacity = slots.reduce((a, b) => a + b, 0);
  const bindings = Object.entries(kernel.bindings) as [string, Binding][];
  const grown = bindings.flatMap(([, { paged }]) => (paged ? [[paged, capacity]] : []));
  const filled: Sizes = { ...sizes, ...Object.fromEntries(grown) };
  for (const [label, binding] of bindings) {
    const spec = bindingSpec(binding, filled);
    const storage = (bytes: number): Storage => ({ category: "scratch", label: `race ${label}`, bytes });
    tensors[label] = binding.paged
      ? {
          label,
          spec,
          offset: 0,
          pages: slots,
          storages: slots.map((n) => storage(storedBytes(pageSpec(spec, n)))),
        }
      : { label, spec, offset: 0, storages: [storage(storedBytes(spec))] };
  }
  return { tensors, storages: Object.values(tensors).flatMap((t) => t.storages), filled };
}
