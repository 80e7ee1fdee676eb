// What storing weights or cache in fewer bits changes: the same tokens through the model as f32, and through it as stored.

import type { Model } from "../models/engine.ts";
import { TokenizerError } from "../models/tokenizer.ts";
import { randomIds } from "./fill.ts";
import { nmse } from "./gate.ts";
import { chunkFor, surprises, ValidationText, withLogits } from "./quality.ts";
import type { Row } from "./row.ts";

/** Tokens whose logits are compared, at most. */
const TOKENS = 1024;

/** What a model makes of the tokens. */
export interface Answers {
  logits: Float32Array;
  /** Null where the tokens spell no text. */
  bitsPerByte: number | null;
}

export type Change = Pick<Row, "nmse_vs_f32" | "bits_vs_f32">;
export const UNCHANGED: Change = { nmse_vs_f32: null, bits_vs_f32: null };

/** Logits for text that shipped models have not seen, or for seeded ids where the model's tokens spell none. */
export async function answersOf(model: Model, text: string, seed: number): Promise<Answers> {
  const V = model.vocabulary;
  const tokens = withLogits(V, TOKENS);
  const unseen = await ValidationText.open(model, text, tokens).catch((error: unknown) => {
    if (error instanceof TokenizerError || error instanceof RangeError) return null;
    throw error;
  });
  const ids = unseen?.ids ?? randomIds(tokens + 1, V, seed);
  const session = await model.session({ chunk: chunkFor(V), allLogits: true });
  try {
    const [logits] = await session.prefillLogits(ids.slice(0, tokens));
    let nats = 0;
    for (const surprise of surprises(logits!, ids.slice(1, 1 + tokens))) nats += surprise;
    return {
      logits: logits!,
      bitsPerByte: unseen && nats / Math.LN2 / unseen.bytes(1, 1 + tokens),
    };
  } finally {
    session.destroy();
  }
}

export const changeOf = (f32: Answers, narrow: Answers): Change => ({
  nmse_vs_f32: nmse(f32.logits, [narrow.logits]),
  bits_vs_f32:
    f32.bitsPerByte === null || narrow.bitsPerByte === null ? null : narrow.bitsPerByte - f32.bitsPerByte,
});
