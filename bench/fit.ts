// How far a model goes on this adapter: the longest context, and the most streams, that are really allocated and stepped
// through at no less than half the speed that as many streams have at a small context.

import { DeviceLostError, OutOfMemoryError, UsageError } from "../engine/errors.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { Ledger } from "../engine/ledger.ts";
import { total } from "../engine/memory.ts";
import { Session } from "../engine/session.ts";
import type { Bytes } from "../engine/tensor.ts";
import type { Model } from "../models/engine.ts";
import { type Budget, type Fit, type FitEnd, nothingFound } from "./fits.ts";
import { type Probed, searchLargest } from "./search.ts";
import { formatBytes } from "./units.ts";

export interface FitRequest {
  model: Model;
  machine: GpuMachine;
  budget: Budget;
  seed: number;
  searched: Fit["searched"];
  /** Tokens that each stream holds where streams are searched: at least LEAST_CONTEXT. */
  context: number;
  /** Share of the speed at a small context that must be left. */
  leastSpeed?: number;
  /** Of the search; the probe that is under way then is the last. */
  mostSeconds: number;
  onProbe(what: string): Promise<void>;
}

/** The context of the speeds that others are held against. */
const SMALL_CONTEXT = 256;
/** Searches end here where nothing else ends them. */
const MOST_CONTEXT = 2 ** 24;
const MOST_STREAMS = 4096;
const RESOLUTION = 1 / 16;
const MOST_PROBES = 40;
const LEAST_SPEED = 1 / 2;
/** What seems too slow is measured again: the machine may be busy. */
const SPEED_TRIES = 3;

/** Most rounds, of which the fastest counts: what slows one down is seldom the model. */
const ROUNDS = 8;
const ROUND_TOKENS = 8;
/** A round of steps that take as long is one step. */
const LONG_STEP_MS = 100;
/** No round begins later. */
const TIMED_MS = 1000;
/** One token that is fed, one that is generated before the rounds, and the rounds'. */
const TIMED_TOKENS = 2 + ROUNDS * ROUND_TOKENS;
/** What filling a cache takes for a moment beside the session. */
const FILL_BYTES = 2 ** 18;

/** Only the next token is asked for: prompts in chunks would take scratch. */
const CHUNK = 1;

interface Shape {
  context: number;
  streams: number;
}

interface Found {
  bytes: Bytes;
  /** Tokens a second, all streams together: there, and at the small context. */
  ts: number;
  small_ts: number;
}

/** The fastest seen at the small context, by streams: whatever slowed one measurement down is no measure of others. */
type SmallSpeeds = Map<number, number>;

interface End {
  by: FitEnd;
  reason: string;
}

type Search = Omit<Fit, "arch" | "model" | "searched" | "budget_bytes" | "budget_from" | "seconds">;

/** Nothing is left allocated. What an adapter refuses is an answer; what else goes wrong is thrown. */
export async function findFit(request: FitRequest): Promise<Omit<Fit, "model">> {
  const { model, budget, searched } = request;
  const started = performance.now();
  const found = await search(request, () => (performance.now() - started) / 1000);
  return {
    arch: model.name,
    searched,
    budget_bytes: budget.bytes,
    budget_from: budget.from,
    ...found,
    seconds: (performance.now() - started) / 1000,
  };
}

async function search(request: FitRequest, seconds: () => number): Promise<Search> {
  const { searched, mostSeconds, leastSpeed = LEAST_SPEED } = request;
  const shape = (n: number): Shape =>
    searched === "context" ? { context: n, streams: 1 } : { context: request.context, streams: n };
  const limit = await predictedLimit(request);
  if (limit.n === 0 || shape(limit.n).context <= TIMED_TOKENS)
    return { ...nothingFound, ended_by: limit.end.by, reason: limit.end.reason };

  const begun = seconds();
  const small = Math.min(SMALL_CONTEXT, shape(limit.n).context);
  const smallSpeeds: SmallSpeeds = new Map();
  let known: { n: number; found: Found } | undefined;
  if (searched === "context") {
    const first = await tried(request, shape(small), small);
    if (!first.fits) return { ...nothingFound, ended_by: first.why.by, reason: first.why.reason, probes: 1 };
    known = { n: small, found: first.found };
    smallSpeeds.set(1, first.found.ts);
  }

  let last = 0;
  const probe = async (n: number): Promise<Probed<Found, End>> => {
    const spent = seconds() - begun;
    if (spent + last > mostSeconds)
      return {
        fits: null,
        why: { by: "time", reason: `another probe would pass ${mostSeconds} s (--fit-seconds)` },
      };
    const probed = await fastEnough(request, shape(n), small, smallSpeeds);
    last = seconds() - begun - spent;
    return probed;
  };
  const { largest, refused, stopped, probes } = await searchLargest(probe, {
    ...(known
      ? // what does not grow has no reason to end before the end
        { known, first: limit.grows ? 2 * known.n : limit.n }
      : { first: 1 }),
    last: limit.n,
    resolution: RESOLUTION,
    probes: MOST_PROBES,
    stands: (n, { ts }) => ts >= leastSpeed * smallSpeeds.get(shape(n).streams)!,
  });
  const cut: End | null =
    stopped === "probes" ? { by: "probes", reason: `${MOST_PROBES} probes are used up` } : stopped;
  const end = refused?.why ?? cut ?? limit.end;
  const loosely = refused && cut ? `; not known more closely: ${cut.reason}` : "";
  const bytes = largest?.found.bytes;
  const there = largest && shape(largest.n);
  const small_ts = smallSpeeds.get(there?.streams ?? 1) ?? null;
  return {
    n_context: there?.context ?? null,
    n_parallel: there?.streams ?? null,
    ended_by: end.by,
    reason: `${end.reason}${loosely}`,
    mem_live: bytes ? total(bytes) : null,
    mem_state: bytes?.state ?? null,
    mem_kv: bytes?.kv ?? null,
    avg_ts: largest && (there?.context === small ? small_ts : largest.found.ts),
    small_context: small,
    small_ts,
    probes: probes + (known ? 1 : 0),
  };
}

interface Limit {
  n: number;
  end: End;
  /** Do the bytes grow with n? */
  grows: boolean;
}

/** The largest n that the model reaches and whose bytes, by the ledger, stay within the budget; and what ends it there. */
async function predictedLimit(request: FitRequest): Promise<Limit> {
  const { model, budget, searched, context } = request;
  if (searched === "context") return longestWithin(request);
  const allowed = async (streams: number): Promise<Probed<null, End>> => {
    try {
      const asked = total(await model.predict({ streams, chunk: CHUNK }, context));
      return within(asked, budget, { context, streams });
    } catch (error) {
      return { fits: false, why: refusal(error, budget) };
    }
  };
  const options = { first: 1, last: MOST_STREAMS, resolution: 0, probes: 2 * Math.log2(MOST_STREAMS) };
  const { largest, refused } = await searchLargest(allowed, options);
  return { n: largest?.n ?? 0, end: refused?.why ?? noEnd(MOST_STREAMS), grows: true };
}

/** Page by page, since bytes change there alone. */
async function longestWithin({ model, machine, budget }: FitRequest): Promise<Limit> {
  const { architecture, config } = model.loaded;
  const reach = architecture.longest?.(config) ?? Number.POSITIVE_INFINITY;
  const most = Math.min(MOST_CONTEXT, reach);
  const ledger = new Ledger(machine.variants, machine.maxBindingBytes);
  let n = 0;
  let grows = false;
  try {
    const session = await Session.open({ ...model.loaded, machine: ledger }, { chunk: CHUNK });
    while (n < most) {
      await session.reserve(n + 1);
      const allowed = within(total(session.memory()), budget, { context: n + 1, streams: 1 });
      if (!allowed.fits) return { n, end: allowed.why, grows };
      grows = session.capacity > 0;
      n = grows ? Math.min(session.capacity, most) : most;
    }
  } catch (error) {
    return { n, end: refusal(error, budget), grows };
  }
  const reached: End = { by: "reach", reason: `${model.name} reaches ${count(reach)} tokens` };
  return { n, end: n === reach ? reached : noEnd(n), grows };
}

const noEnd = (n: number): End => ({ by: "end", reason: `no end found up to ${count(n)}` });

function within(held: number, budget: Budget, shape: Shape): Probed<null, End> {
  const asked = held + FILL_BYTES;
  if (asked <= budget.bytes) return { fits: true, found: null };
  const reason = `${words(shape)} ask ${formatBytes(asked)} of ${formatBytes(budget.bytes)} (${budget.from})`;
  return { fits: false, why: { by: "budget", reason } };
}

/** Tries it, and again where it seems too slow. */
async function fastEnough(
  request: FitRequest,
  shape: Shape,
  small: number,
  smallSpeeds: SmallSpeeds,
): Promise<Probed<Found, End>> {
  let ts = 0;
  for (let left = SPEED_TRIES - 1; ; left--) {
    const probed = await tried(request, shape, small);
    if (!probed.fits) return probed;
    ts = Math.max(ts, probed.found.ts);
    const small_ts = Math.max(smallSpeeds.get(shape.streams) ?? 0, probed.found.small_ts);
    smallSpeeds.set(shape.streams, small_ts);
    if (ts >= (request.leastSpeed ?? LEAST_SPEED) * small_ts)
      return { fits: true, found: { ...probed.found, ts } };
    if (left === 0) {
      const reason = `${words(shape)}: ${rate(ts)}, less than half of ${rate(small_ts)} at ${count(small)} tokens`;
      return { fits: false, why: { by: "speed", reason } };
    }
  }
}

/** Really allocates it, and takes steps at the small context and at its end. */
async function tried(request: FitRequest, shape: Shape, small: number): Promise<Probed<Found, End>> {
  const { model, machine, budget, seed } = request;
  await request.onProbe(words(shape));
  let session: Session | null = null;
  try {
    session = await model.session({ streams: shape.streams, chunk: CHUNK });
    const small_ts = await speedAt(session, small, seed);
    let ts = small_ts;
    if (shape.context > small) {
      await session.reset();
      ts = await speedAt(session, shape.context, seed);
    }
    await machine.idle();
    return { fits: true, found: { bytes: session.memory(), ts, small_ts } };
  } catch (error) {
    // a device that is lost answers no more questions
    return { fits: error instanceof DeviceLostError ? null : false, why: refusal(error, budget) };
  } finally {
    session?.destroy();
  }
}

/** Tokens a second of empty streams that are filled and stepped up to a context. */
async function speedAt(session: Session, context: number, seed: number): Promise<number> {
  await session.reserve(context);
  await session.fillCache(context - TIMED_TOKENS, seed);
  await session.prefill(session.streams.map(() => [0]));
  return fastest(session);
}

/** Tokens a second, all streams together, of the fastest round. */
async function fastest(session: Session): Promise<number> {
  const timed = async (tokens: number): Promise<number> => {
    const started = performance.now();
    await Promise.all(
      session.streams.map(async (stream) => {
        for await (const _ of stream.stream({ maxTokens: tokens }));
      }),
    );
    return (performance.now() - started) / tokens;
  };
  // the first step compiles
  await timed(1);
  const started = performance.now();
  let stepMs = await timed(1);
  const tokens = stepMs < LONG_STEP_MS ? ROUND_TOKENS : 1;
  for (let round = 1; round < ROUNDS && performance.now() - started < TIMED_MS; round++)
    stepMs = Math.min(stepMs, await timed(tokens));
  return (1000 * session.streams.length) / stepMs;
}

/** Throws what is no refusal. */
function refusal(error: unknown, budget: Budget): End {
  if (error instanceof OutOfMemoryError) {
    const { askedBytes, heldBytes, message } = error;
    return { by: askedBytes + heldBytes > budget.bytes ? "budget" : "adapter", reason: message };
  }
  if (error instanceof UsageError || error instanceof DeviceLostError)
    return { by: "adapter", reason: error.message };
  throw error;
}

const count = (n: number): string => n.toLocaleString("en-US");
const rate = (ts: number): string => `${ts.toFixed(1)} t/s`;

function words({ context, streams }: Shape): string {
  const tokens = `${count(context)} ${context === 1 ? "token" : "tokens"}`;
  return streams === 1 ? tokens : `${count(streams)} streams of ${tokens}`;
}
