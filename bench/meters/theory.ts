// What the ledger says: the same sessions, opened and run on the machine that only counts.

import { UsageError } from "../../engine/errors.ts";
import type { AnyKernel, Cost, Sizes } from "../../engine/kernel.ts";
import { Ledger } from "../../engine/ledger.ts";
import type { Machine, Run, VariantTable } from "../../engine/machine.ts";
import type { Architecture } from "../../engine/model.ts";
import type { Plan } from "../../engine/plan.ts";
import { sketch } from "../../engine/rehearsal.ts";
import { Session } from "../../engine/session.ts";
import type { Bytes } from "../../engine/tensor.ts";
import { pieces } from "../fill.ts";
import type { Test } from "../tests.ts";
import type { Roof } from "./roof.ts";

/** Where nothing was measured. */
const NO_ROOF = { readGbs: Number.POSITIVE_INFINITY, gflops: Number.POSITIVE_INFINITY };

/** Adds to what the ledger counts: the time that an adapter's roofs allow: a dispatch takes what the slower of reading and multiply-adds takes. */
class PricedLedger extends Ledger {
  readonly #roof: Pick<Roof, "readGbs" | "gflops">;
  workNs = 0;

  constructor(
    { variants, maxBindingBytes }: Pick<Machine, "variants" | "maxBindingBytes">,
    roof: Pick<Roof, "readGbs" | "gflops"> = NO_ROOF,
  ) {
    super(variants, maxBindingBytes);
    this.#roof = roof;
  }

  protected override ran(cost: Cost): void {
    super.ran(cost);
    // 1e9 a second are one a nanosecond
    this.workNs += Math.max(cost.bytes / this.#roof.readGbs, cost.flops / this.#roof.gflops);
  }
}

/** Adds: which kernels ran, at which sizes. */
class Tracer extends PricedLedger {
  /** Plans that were looked at: a long stream runs the same one again and again. */
  readonly #seen = new Set<Plan>();
  readonly #used = new Map<string, { kernel: AnyKernel; sizes: Sizes }>();

  get used(): ReadonlyMap<string, { kernel: AnyKernel; sizes: Sizes }> {
    return this.#used;
  }

  forget(): void {
    this.#seen.clear();
    this.#used.clear();
  }

  override submit(runs: readonly Run[]): void {
    super.submit(runs);
    for (const { plan } of runs) {
      if (this.#seen.has(plan)) continue;
      this.#seen.add(plan);
      for (const { kernel, sizes } of plan.ops)
        this.#used.set(`${kernel.name} ${JSON.stringify(sizes)}`, { kernel, sizes });
    }
  }
}

export interface Theory {
  /** Bytes that will be held when the test ends, weights included. */
  bytes: Bytes;
  /** Of the timed part of one repetition. */
  bytesMoved: number;
  /** Nanoseconds that the roofs allow for the work of all dispatches; nothing where no roof was given. */
  workNs: number;
  dispatches: number;
}

/** Tokens in the context before the clock starts. To generate takes logits, so one token is fed where none would be. */
export const filled = ({ n_prompt, n_depth }: Pick<Test, "n_prompt" | "n_depth">): number =>
  n_prompt === 0 ? Math.max(1, n_depth) : n_depth;

/** Tokens that each stream holds when the test ends. */
export const held = (test: Test): number => filled(test) + test.n_prompt + test.n_gen;

/** One session on the ledger, taken along beside a real one: what each part of it holds, moves and dispatches. */
export class TheoryAlong {
  readonly #ledger: PricedLedger;
  readonly #session: Session;

  static open(
    machine: Pick<Machine, "variants" | "maxBindingBytes">,
    architecture: Architecture,
    config: unknown,
    size: { streams: number; chunk: number },
    roof?: Pick<Roof, "readGbs" | "gflops">,
  ): Promise<TheoryAlong> {
    return TheoryAlong.on(new PricedLedger(machine, roof), architecture, config, size);
  }

  static async on(
    ledger: PricedLedger,
    architecture: Architecture,
    config: unknown,
    size: { streams: number; chunk: number },
  ): Promise<TheoryAlong> {
    return new TheoryAlong(ledger, await Session.open(sketch(architecture, config, ledger), size));
  }

  private constructor(ledger: PricedLedger, session: Session) {
    this.#ledger = ledger;
    this.#session = session;
  }

  /** Feeds every stream so many tokens. */
  prefill(tokens: number): Promise<Theory> {
    return this.test({ n_prompt: tokens, n_gen: 0 });
  }

  /** Prompt, then generation. */
  async test({ n_prompt, n_gen }: Pick<Test, "n_prompt" | "n_gen">): Promise<Theory> {
    const session = this.#session;
    const ledger = this.#ledger;
    const { bytesMoved, workNs, dispatches } = ledger;
    await session.reserve(session.positions[0]! + n_prompt);
    for (const piece of pieces(n_prompt, session.chunk))
      await session.prefill(session.positions.map(() => new Array<number>(piece).fill(0)));
    const consume = async (stream: (typeof session.streams)[number]) => {
      for await (const _ of stream.stream({ maxTokens: n_gen }));
    };
    if (n_gen > 0) await Promise.all(session.streams.map(consume));
    return {
      bytes: session.memory(),
      bytesMoved: ledger.bytesMoved - bytesMoved,
      workNs: ledger.workNs - workNs,
      dispatches: ledger.dispatches - dispatches,
    };
  }
}

/** `onClock` is called where the clock starts. */
async function run(
  ledger: PricedLedger,
  architecture: Architecture,
  config: unknown,
  test: Test,
  onClock?: () => void,
): Promise<Theory> {
  const { n_parallel: streams, n_ubatch: chunk } = test;
  const along = await TheoryAlong.on(ledger, architecture, config, { streams, chunk });
  await along.prefill(filled(test));
  onClock?.();
  return along.test(test);
}

/** What this test will hold, move and dispatch on this machine. */
export const theoryOf = (
  machine: Pick<Machine, "variants" | "maxBindingBytes">,
  architecture: Architecture,
  config: unknown,
  test: Test,
  roof?: Pick<Roof, "readGbs" | "gflops">,
): Promise<Theory> => run(new PricedLedger(machine, roof), architecture, config, test);

/** The kernels that run while the clock does, and at which sizes: what a race is worth running over. */
export async function usedBy(
  variants: VariantTable,
  architecture: Architecture,
  config: unknown,
  tests: readonly Test[],
): Promise<{ kernel: AnyKernel; sizes: Sizes }[]> {
  const used = new Map<string, { kernel: AnyKernel; sizes: Sizes }>();
  for (const test of tests) {
    const tracer = new Tracer({ variants, maxBindingBytes: Number.POSITIVE_INFINITY });
    try {
      await run(tracer, architecture, config, test, () => tracer.forget());
    } catch (error) {
      // a test that cannot be says so in its own row
      if (error instanceof UsageError) continue;
      throw error;
    }
    for (const [key, use] of tracer.used) used.set(key, use);
  }
  return [...used.values()];
}

/** Bytes of state and kv of one stream over a ladder of contexts. */
export async function curveOf(
  variants: VariantTable,
  architecture: Architecture,
  config: unknown,
  deepest: number,
): Promise<{ context: number; bytes: number }[]> {
  const ladder = await ladderOf(new Ledger(variants), architecture, config, deepest);
  return ladder.map(({ context, memory: { state, kv } }) => ({ context, bytes: state + kv }));
}

/** What a session holds over a ladder of contexts: every power of two, both sides of every page, and the last of all. */
export async function ladderOf(
  ledger: Ledger,
  architecture: Architecture,
  config: unknown,
  deepest: number,
  size: { streams: number; chunk: number } = { streams: 1, chunk: 1 },
): Promise<{ context: number; memory: Bytes }[]> {
  const session = await Session.open(sketch(architecture, config, ledger), size);
  const points: { context: number; memory: Bytes }[] = [];
  const add = async (context: number) => {
    await session.reserve(context);
    points.push({ context, memory: session.memory() });
  };
  let power = 1;
  const last = Math.min(deepest, architecture.longest?.(config) ?? deepest);
  while (power <= last) {
    await add(power);
    const next = Math.min(2 * power, last);
    while (session.capacity > 0 && session.capacity < next) {
      points.push({ context: session.capacity, memory: points.at(-1)!.memory });
      await add(session.capacity + 1);
    }
    power *= 2;
  }
  if (points.at(-1)!.context < last) await add(last);
  return points;
}
