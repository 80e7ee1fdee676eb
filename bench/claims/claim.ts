// What a claim is, and what a verdict on it is made of. Nothing here runs anything.

import type { Layers } from "../closed.ts";
import type { Verdict as Race, Row } from "../row.ts";
import { type Need, unmet } from "./needs.ts";

export type Outcome = "holds" | "holds with a condition" | "refuted" | "undecided";

/** What a run found, beside what is known of the models before it. */
export interface Findings {
  rows: readonly Row[];
  /** Races of kernel variants in the same run. */
  races: readonly Race[];
  /** By architecture: its layers, and the folder that its weights lie in. */
  models: Readonly<Record<string, { layers: Layers[]; weights: string }>>;
}

/** A figure of one row: which, and what was read from it. */
export interface Cited {
  arch: string;
  test: string;
  streams: number;
  value: number;
  /** Where it is not what the evidence is in, as of a ratio of speeds. */
  unit?: "t/s";
}

export type Unit =
  | "B"
  | "B/token"
  | "exponent"
  | "ratio"
  | "share"
  | "t/s"
  | "pairs"
  | "vectors"
  | "features"
  | "NMSE"
  | "streams/GiB"
  | "bits/byte";

/** From rows of this run. */
export interface Measurement {
  kind: "measurement";
  what: string;
  value: number;
  unit: Unit;
  /** Deterministic, and met by every row to the last byte: it needs no spread. */
  exact: boolean;
  /** Least and most that the repetitions allow. */
  spread: [number, number] | null;
  rows: Cited[];
}

/** True whatever is measured. */
export interface Arithmetic {
  kind: "arithmetic";
  what: string;
  expression: string;
  value: number;
  unit: Unit;
  source: string;
}

/** What the measured rows say of a context that was not measured. */
export interface Extrapolation {
  kind: "extrapolation";
  what: string;
  value: number;
  unit: Unit;
  /** Tokens that it is for, and the contexts of the rows that it was fitted on. */
  tokens: number;
  fitted_on: { from: number; to: number };
  rows: Cited[];
}

export type Evidence = Measurement | Arithmetic | Extrapolation;

export interface Decision {
  verdict: Outcome;
  /** A sentence or three, with the numbers found. */
  because: string;
  evidence: Evidence[];
  /** What would decide it, where it is undecided. */
  missing?: string[];
}

export interface Claim {
  id: number;
  /** In a few words, for tables. */
  title: string;
  /** As the article has it. */
  quote: string;
  /** Rows without which nothing can be said. */
  needs: readonly Need[];
  /** Called with every need met. */
  decide(findings: Findings): Decision;
}

export interface Judged extends Required<Decision>, Pick<Claim, "id" | "title" | "quote"> {}

/** Where rows are missing the verdict is `undecided`, and says which. */
export function judge({ id, title, quote, needs, decide }: Claim, findings: Findings): Judged {
  const missing = needs.flatMap((need) => unmet(need, findings.rows) ?? []);
  if (missing.length > 0) {
    const because = `Rows are missing: ${missing.join("; ")}.`;
    return { id, title, quote, verdict: "undecided", because, evidence: [], missing };
  }
  return { id, title, quote, missing: [], ...decide(findings) };
}
