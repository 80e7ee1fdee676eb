// What an error means for a row.

import { OutOfMemoryError, UsageError } from "../engine/errors.ts";
import { ConfigError } from "../models/config.ts";
import { TokenizerError } from "../models/tokenizer.ts";
import type { Status } from "./row.ts";

/** Until a session was opened, "no" is the answer of the preflight. */
export type Phase = "preflight" | "run";

/** What cannot be is `unsupported`, what does not fit is `refused`; anything else has failed. */
export function failure(error: unknown, phase: Phase): { status: Status; reason: string } {
  const message = error instanceof Error ? error.message : String(error);
  const reason = message.replace(/\s+/g, " ");
  if (error instanceof ConfigError || error instanceof TokenizerError)
    return { status: "unsupported", reason };
  const refused = error instanceof OutOfMemoryError || (phase === "preflight" && error instanceof UsageError);
  return { status: refused ? "refused" : "failed", reason };
}

export const stackOf = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : `${error}`;
