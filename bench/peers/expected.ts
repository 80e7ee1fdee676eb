// What another runtime must say before it is timed.

import type { Model } from "../../models/engine.ts";
import type { Source } from "../../models/source.ts";
import { GATE_TOKENS } from "../gate.ts";
import { FILE, readGolden } from "../golden.ts";

/** What the logits must be: of one prompt, and the ids that follow when the likeliest is taken each time. */
export interface Expected {
  ids: readonly number[];
  /** f32 [T, V]: after each of the ids. */
  logits: Float32Array;
  greedy: readonly number[];
}

/** Ids that a prompt is continued with, where no golden says more. */
const GREEDY_TOKENS = 8;

/** The start of the golden in the folder; where there is none, what our own model says to `ids`, which the gate has passed. */
export async function expectedOf(
  model: Model,
  folder: Source | null,
  ids: readonly number[],
): Promise<Expected> {
  if (folder && (await folder.size(FILE)) !== null) {
    const { inputs, logits, greedy, T, V } = await readGolden(folder);
    const tokens = Math.min(T, GATE_TOKENS);
    const last = logits.subarray((tokens - 1) * V, tokens * V);
    return {
      ids: inputs[0]!.slice(0, tokens),
      logits: logits.subarray(0, tokens * V),
      greedy: tokens === T ? greedy[0]! : [last.indexOf(Math.max(...last))],
    };
  }
  const session = await model.session({ chunk: GATE_TOKENS, allLogits: true });
  try {
    const [logits] = await session.prefillLogits([ids]);
    const greedy: number[] = [];
    for await (const id of session.streams[0]!.stream({ maxTokens: GREEDY_TOKENS })) greedy.push(id);
    return { ids, logits: logits!, greedy };
  } finally {
    session.destroy();
  }
}
