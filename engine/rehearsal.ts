// A session before there are weights, on the machine that only counts: what it would hold, and what must be compiled for it.

import { UsageError } from "./errors.ts";
import type { GpuMachine } from "./gpu.ts";
import { layTree } from "./layout.ts";
import { Ledger } from "./ledger.ts";
import type { LaidDispatch } from "./machine.ts";
import type { Architecture, Model } from "./model.ts";
import { Session } from "./session.ts";

/** A model without weights, for the ledger. */
export const sketch = (architecture: Architecture, config: unknown, machine: Ledger): Model => {
  const { tensors, storages } = layTree(architecture.weights(config), "weights", architecture.name);
  return { architecture, config, machine, weights: tensors, storages, parameters: 0, hash: "", destroy() {} };
};

/** The ledger, but that a GPU machine compiles what is prepared. Nobody waits for it meanwhile. */
class Rehearsal extends Ledger {
  readonly compiled: Promise<unknown>[] = [];
  readonly #gpu: GpuMachine;

  constructor(gpu: GpuMachine) {
    super(gpu.variants, gpu.maxBindingBytes);
    this.#gpu = gpu;
  }

  override async prepare(dispatches: readonly LaidDispatch[]): Promise<void> {
    const compiled = this.#gpu.compile(dispatches);
    // heard when all are waited for, however early it fails
    compiled.catch(() => {});
    this.compiled.push(compiled);
  }
}

/** The first prompt of a session to come. */
export interface FirstPrompt {
  streams: number;
  chunk: number;
  /** Tokens a stream, at least one. */
  prompt: number;
}

/**
 * Compiles what such a prompt and the greedy token after it run, while their weights are still on their way. What such a
 * session would refuse is left to it to say. Throws ShaderError, DeviceLostError.
 */
export async function compileAhead(
  machine: GpuMachine,
  architecture: Architecture,
  config: unknown,
  { streams, chunk, prompt }: FirstPrompt,
): Promise<void> {
  const rehearsal = new Rehearsal(machine);
  try {
    const session = await Session.open(sketch(architecture, config, rehearsal), { streams, chunk });
    // the cache as it will be; of chunks, one of each kind
    await session.reserve(prompt);
    const fed = prompt <= chunk ? prompt : chunk + (prompt % chunk);
    await session.prefill(session.streams.map(() => new Array<number>(fed).fill(0)));
    const first = async (stream: (typeof session.streams)[number]) => {
      for await (const _ of stream.stream({ maxTokens: 1 }));
    };
    await Promise.all(session.streams.map(first));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
  } finally {
    await Promise.all(rehearsal.compiled);
  }
}
