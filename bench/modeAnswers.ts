// What --quality and --curve found beyond rows, as tables of text.

import type { Answer } from "./answers.ts";
import type { Alternation, DriftPoint, Quality } from "./row.ts";
import { formatBytes, formatCount } from "./units.ts";

/** Bits a byte beside what is carried from token to token; the best first. */
export function qualityAnswer(quality: readonly Quality[]): Answer | null {
  if (quality.length === 0) return null;
  const rank = ({ bits_per_byte }: Quality) => bits_per_byte ?? Number.POSITIVE_INFINITY;
  return {
    title: "Bits a byte beside bytes of state",
    note:
      "Bits a byte: of text that the shipped models have not seen, 64 consecutive windows of 256 tokens, each from an empty state, " +
      "every position counted. They were trained on windows of that length and none longer: what one long stream does to a model is " +
      "in the last column, over the stretch that ends there. State + kv: of one stream at 4,096 tokens, by the ledger.",
    columns: [
      { title: "model", kind: "model" },
      { title: "bits a byte", kind: "number" },
      { title: "state + kv at 4,096 tokens", kind: "number" },
      { title: "at the end of one stream", kind: "prose" },
    ],
    rows: quality
      .toSorted((a, b) => rank(a) - rank(b))
      .map((found) => [
        found.model,
        found.bits_per_byte?.toFixed(4) ?? "–",
        found.theory_bytes_at_4096 === null ? "–" : formatBytes(found.theory_bytes_at_4096),
        streamed(found),
      ]),
  };
}

/** The end of the stream, and why it ended where it should not. */
function streamed({ points, status, reason }: Quality): string {
  const [before, last] = [points.at(-2), points.at(-1)];
  const from = (before?.context ?? 0) + 1;
  const figures =
    last &&
    `${last.bits_per_byte.toFixed(4)} from token ${formatCount(from)} to ${formatCount(last.context)}`;
  return [figures, status !== "ok" && `${status}: ${reason}`].filter(Boolean).join("; ");
}

/** Speed at both ends of a long stream. */
export function alternationAnswer(alternations: readonly Alternation[]): Answer | null {
  if (alternations.length === 0) return null;
  return {
    title: "Generation at the end of the stream and at its beginning",
    note: "Median of the rounds' ratios, in brackets its 95% interval by the sign test; in every round both ends were timed, the order changed each time.",
    columns: [
      { title: "found", kind: "prose" },
      { title: "how", kind: "prose" },
    ],
    rows: alternations.map((found) => [alternationSentence(found), found.method]),
  };
}

/** What f32 loses where sums only grow. */
export function driftAnswer(drifts: readonly DriftPoint[]): Answer | null {
  if (drifts.length === 0) return null;
  const number = (title: string) => ({ title, kind: "number" as const });
  return {
    title: "How far linear attention's sums drift",
    note:
      "The first layer's sums, added up in f32 token by token, beside the same sums in doubles: root mean square of the error as a " +
      "share of the exact values', of the state, of the normaliser, and of what each token of the stream would read from them.",
    columns: [
      { title: "model", kind: "model" },
      number("tokens a chunk"),
      number("tokens"),
      number("state"),
      number("normaliser"),
      number("outputs"),
    ],
    rows: drifts.map(({ model, n_ubatch, tokens, state, keySum, outputs }) => [
      model,
      formatCount(n_ubatch),
      formatCount(tokens),
      ...[state, keySum, outputs].map((error) => error?.toExponential(1) ?? "–"),
    ]),
  };
}

/** Speeds no further apart are the same. */
const NEAR = 0.02;

/** In one sentence. */
export function alternationSentence(found: Alternation): string {
  const { model, n_parallel, n_ubatch, to, ratio, low, high, ratios } = found;
  const name = `${model}${n_parallel > 1 ? ` in ${n_parallel} streams` : ""}, read in chunks of ${n_ubatch}`;
  if (ratio === null || low === null || high === null)
    return `${name}: generation at ${formatCount(to)} was not set beside the beginning`;
  const [r, l, h] = [ratio, low, high].map((value) => value.toFixed(3));
  const same = Math.abs(ratio - 1) <= NEAR ? "within 2%" : "the interval holds 1";
  const differs = ratio < 1 ? "slower at the end" : "faster at the end";
  const said = Math.abs(ratio - 1) <= NEAR || (low <= 1 && high >= 1) ? same : differs;
  return `${name}: generation at ${formatCount(to)} runs at ${r} [${l}, ${h}] of its speed at the beginning, ${ratios.length} rounds: ${said}`;
}
