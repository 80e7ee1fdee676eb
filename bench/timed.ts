// The two things that a clock stands beside: tokens fed and tokens generated, with the time from each result to the next; and
// what comes before the clock.

import type { GpuMachine } from "../engine/gpu.ts";
import type { Session } from "../engine/session.ts";
import type { Stream, StreamOptions } from "../engine/stream.ts";

export interface Timed {
  /** performance.now() when it began, at the first generated id (0 for a prompt), and when it was over. */
  started: number;
  first: number;
  ended: number;
  /** Nanoseconds from one result to the next: of every chunk, or of every id but each stream's first. */
  latenciesNs: number[];
}

/** Milliseconds, less than any submit takes: the ends of chunks that are nearer to one another were told together. */
const TOGETHER_MS = 0.05;

/** Feeds the prompts, one list a stream: over when the GPU is done. A chunk's time ends when the GPU has done it. */
export async function prefillTimed(
  session: Session,
  machine: GpuMachine,
  prompts: readonly (readonly number[])[],
): Promise<Timed> {
  const arrivals: number[] = [];
  const chunks: Promise<void>[] = [];
  const started = performance.now();
  const onProgress = () => {
    chunks.push(
      machine.idle().then(() => {
        arrivals.push(performance.now());
      }),
    );
  };
  try {
    await session.prefill(prompts, { onProgress });
  } finally {
    // a lost device rejects them all: none may be left that nobody hears
    await Promise.allSettled(chunks);
  }
  await Promise.all(chunks);
  return {
    started,
    first: 0,
    ended: arrivals.at(-1) ?? started,
    latenciesNs: latenciesNs(started, arrivals),
  };
}

/** From one arrival to the next, milliseconds in: those that came together share the time since those before. */
export function latenciesNs(started: number, arrivals: readonly number[]): number[] {
  const out: number[] = [];
  let before = started;
  let together = 0;
  for (const [i, arrival] of arrivals.entries()) {
    together++;
    if (i + 1 < arrivals.length && arrivals[i + 1]! - arrival < TOGETHER_MS) continue;
    for (let n = 0; n < together; n++) out.push(((arrival - before) * 1e6) / together);
    before = arrival;
    together = 0;
  }
  return out;
}

export interface GenerateOptions extends Omit<StreamOptions, "maxTokens"> {
  /** Called with the ids that a stream gave, all at the end. */
  onIds?: (stream: number, ids: readonly number[]) => void;
}

/** Reads `tokens` tokens of every stream: over when the last id of every stream is in JavaScript. */
export async function generateTimed(
  session: Session,
  tokens: number,
  { onIds, ...options }: GenerateOptions = {},
): Promise<Timed> {
  const started = performance.now();
  const streams = await Promise.all(
    session.streams.map((stream) => readTimed(stream, { ...options, maxTokens: tokens })),
  );
  if (onIds) for (const [b, { ids }] of streams.entries()) onIds(b, ids);
  return {
    started,
    first: Math.min(...streams.map(({ first }) => first)),
    ended: Math.max(...streams.map(({ ended }) => ended)),
    latenciesNs: streams.flatMap(({ latenciesNs }) => latenciesNs),
  };
}

/** Ids come back a submit at a time: those that come together share the time since those before. */
async function readTimed(stream: Stream, options: StreamOptions) {
  const latenciesNs: number[] = [];
  const ids: number[] = [];
  let first = 0;
  let ended = 0;
  let together = 0;
  for await (const id of stream.stream(options)) {
    const now = performance.now();
    ids.push(id);
    first ||= now;
    together++;
    // the rest of its submit is here already
    if (stream.lane.queue.length > 0) continue;
    if (ended > 0) for (let n = 0; n < together; n++) latenciesNs.push(((now - ended) * 1e6) / together);
    ended = now;
    together = 0;
  }
  return { first, ended, latenciesNs, ids };
}

/** Runs the prompt's kinds of chunks and a token once, so that what is timed compiles nothing; the session is not reset. */
export async function warmUp(
  session: Session,
  ids: readonly number[],
  settings: StreamOptions,
): Promise<void> {
  const kinds = ids.length <= session.chunk ? ids.length : session.chunk + (ids.length % session.chunk);
  await session.prefill(session.streams.map(() => ids.slice(0, kinds)));
  await generateTimed(session, 1, settings);
}
