// What a session is fed, checked before anything runs.

import { UsageError } from "./errors.ts";

/** Token ids: one list, or one a stream. */
export type Prompts = readonly number[] | readonly (readonly number[])[];

/** One list a stream. Throws UsageError where their number is not B, or an id is outside the vocabulary of V. */
export function promptLists(prompts: Prompts, B: number, V: number): readonly (readonly number[])[] {
  const single = typeof prompts[0] === "number" || (prompts.length === 0 && B === 1);
  const lists = (single ? [prompts] : prompts) as readonly (readonly number[])[];
  if (lists.length !== B)
    throw new UsageError(`${lists.length} prompts were given, this session has ${B} streams`);
  lists.forEach((list, b) => {
    list.forEach((id, i) => {
      if (!Number.isInteger(id) || id < 0 || id >= V)
        throw new UsageError(`prompt ${b}: token ${i} is ${id}, outside the vocabulary of ${V}`);
    });
  });
  return lists;
}
