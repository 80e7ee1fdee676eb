// The ledger beside the page: for a large model it takes longer than a page may stand still.

import type { Config } from "../../../models/config.ts";
import { type EstimateOptions, estimate, withLedger } from "../../estimateModel.ts";

export interface LedgerRequest {
  id: number;
  config: Config;
  options: EstimateOptions;
}
export interface LedgerAnswer {
  id: number;
  /** Bytes that longtape will hold; null: it does not run the model. */
  bytes: { weights: number; state: number; kv: number; scratch: number; total: number } | null;
  reason: string | null;
}

addEventListener("message", async ({ data: { id, config, options } }: MessageEvent<LedgerRequest>) => {
  let answer: LedgerAnswer = { id, bytes: null, reason: null };
  try {
    const { models, rows } = await withLedger(estimate("", config, options), config);
    answer = { id, bytes: rows[0]!.longtape, reason: models[0]!.reason };
  } catch (error) {
    answer.reason = (error as Error).message;
  }
  postMessage(answer);
});
