// What a run found beyond its rows, as tables of text: Markdown and the report print them.

import { alternationAnswer, qualityAnswer } from "./modeAnswers.ts";
import type { Results } from "./row.ts";

/** A table that answers a question. */
export interface Answer {
  title: string;
  /** How to read it. */
  note: string;
  columns: { title: string; kind: "text" | "number" }[];
  rows: string[][];
}

export function answersOf({ quality = [], alternations = [] }: Results): Answer[] {
  return [qualityAnswer(quality), alternationAnswer(alternations)].filter((answer) => answer !== null);
}
