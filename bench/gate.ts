// Nothing is timed before it is right: 64 tokens, and one step more, against the CPU machine.

import type { Session } from "../engine/session.ts";
import type { StoredType } from "../engine/tiles.ts";
import { createEngine, type Model } from "../models/engine.ts";

export const GATE_TOKENS = 64;
/**
 * Normalised mean squared error of f32 arithmetic in another order stays well below, whatever the weights are stored as: both
 * machines see the same numbers. What is stored narrower as it is computed is rounded: numbers that arithmetic has one unit
 * apart then fall on either side of a step now and then.
 */
export const GATE_NMSE: Readonly<Record<StoredType, number>> = { f32: 1e-9, f16: 1e-8, int8: 1e-7 };

/** Why nothing of a model of this error may be timed, its cache being stored as that; null: all may. */
export const refusal = (nmse: number, cacheType: StoredType = "f32"): string | null =>
  nmse <= GATE_NMSE[cacheType]
    ? null
    : `the logits differ from the CPU machine's by an NMSE of ${nmse}, at most ${GATE_NMSE[cacheType]} is wanted`;

/** Loads the model on an engine: the same files, or the same seed. */
export type Load = (engine: Awaited<ReturnType<typeof createEngine>>) => Promise<Model>;

/** The CPU machine's answers for one model; it is loaded once, at the first question. */
export class Reference {
  readonly #load: Load;
  readonly #ids: readonly number[];
  #logits: Promise<Float32Array> | null = null;

  constructor(load: Load, ids: readonly number[]) {
    this.#load = load;
    this.#ids = ids;
  }

  /**
   * Feeds the tokens to every stream of a session of this kind, then takes a step; gives the normalised mean squared
   * error of all logits of the stream that is worst.
   */
  async nmse(model: Model, options: { streams: number; chunk: number }): Promise<number> {
    const chunk = Math.min(options.chunk, GATE_TOKENS);
    const session = await model.session({ ...options, chunk, allLogits: true });
    try {
      const prompt = await session.prefillLogits(session.streams.map(() => this.#ids));
      await Promise.all(
        session.streams.map(async (stream) => {
          for await (const _ of stream.stream({ maxTokens: 1 }));
        }),
      );
      const V = model.vocabulary;
      const step = await session.logits();
      const wanted = await this.#wanted(prompt[0]!.subarray(-V));
      const errors = prompt.map((logits, b) => nmse(wanted, [logits, step.subarray(b * V, (b + 1) * V)]));
      return errors.every(Number.isFinite) ? Math.max(...errors) : Number.NaN;
    } finally {
      session.destroy();
    }
  }

  /** Logits at every position, and after the likeliest next token, which `last` names. */
  #wanted(last: Float32Array): Promise<Float32Array> {
    this.#logits ??= (async () => {
      const model = await this.#load(await createEngine({ machine: "cpu" }));
      const session = await model.session({ chunk: GATE_TOKENS, allLogits: true });
      const [prompt] = await session.prefillLogits(this.#ids);
      const next = last.reduce((best, x, id) => (x > last[best]! ? id : best), 0);
      const [step] = await session.prefillLogits([next]);
      const all = new Float32Array(prompt!.length + step!.length);
      all.set(prompt!);
      all.set(step!, prompt!.length);
      return all;
    })();
    return this.#logits;
  }
}

/** Of the parts, one after the other, against what is wanted; NaN where a value is not finite. */
export function nmse(wanted: Float32Array, parts: readonly Float32Array[]): number {
  let error = 0;
  let power = 0;
  let i = 0;
  for (const part of parts) {
    for (const found of part) {
      error += (found - wanted[i]!) ** 2;
      power += wanted[i]! ** 2;
      i++;
    }
  }
  return error / power;
}

/** Which of the logits that come next is no finite number; null: none. The gate knows only a context's first tokens. */
export async function notFinite(session: Session): Promise<string | null> {
  const logits = await session.logits();
  const at = logits.findIndex((logit) => !Number.isFinite(logit));
  if (at < 0) return null;
  const V = logits.length / session.positions.length;
  const b = Math.floor(at / V);
  return `logit ${at % V} of stream ${b} is ${logits[at]} after ${session.positions[b]} tokens`;
}
