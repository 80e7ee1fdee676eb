// Eleven claims of an encyclopedia's article on long contexts, each judged by what a run measured.

import { cacheMemory, exponentialMemory, matrixMemory, millionTokens } from "./attentionMemory.ts";
import { type Claim, type Findings, type Judged, judge } from "./claim.ts";
import { linearAttention, sparseAttention, stateSpaces } from "./compressed.ts";
import { genuineLimit } from "./limitation.ts";
import { constantMemory, manyStreams, recurrentSpeed } from "./recurrent.ts";

export const claims: readonly Claim[] = [
  constantMemory,
  matrixMemory,
  cacheMemory,
  millionTokens,
  exponentialMemory,
  recurrentSpeed,
  linearAttention,
  sparseAttention,
  stateSpaces,
  manyStreams,
  genuineLimit,
];

/** A verdict on each claim. */
export const judgeAll = (findings: Findings): Judged[] => claims.map((claim) => judge(claim, findings));
