// What a run found beyond its rows, as tables of text: Markdown and the report print them.

import type { BytesCrossing, Crossover, SpeedCrossing } from "./crossover.ts";
import { type Fit, foundNumber, searches } from "./fits.ts";
import { kernelAnswer, targetAnswer } from "./kernels/table.ts";
import { alternationAnswer, driftAnswer, qualityAnswer } from "./modeAnswers.ts";
import { peerMeansAnswer, peersAnswer, residentsAnswer } from "./peers/table.ts";
import type { Results } from "./row.ts";
import { formatBytes, formatCount, show } from "./units.ts";

/** A table that answers a question. */
export interface Answer {
  title: string;
  /** How to read it. */
  note: string;
  /** model: the name of one. text: on one line. prose: text that may take several. */
  columns: { title: string; kind: "model" | "text" | "number" | "prose" }[];
  rows: string[][];
}

export function answersOf({
  environment,
  rows,
  fits = [],
  crossovers = [],
  quality = [],
  alternations = [],
  drifts = [],
  kernels = [],
  roofs,
  targets = [],
}: Results): Answer[] {
  return [
    peerMeansAnswer(rows),
    peersAnswer(rows, environment.peers),
    residentsAnswer(environment.residents),
    ...searches.map((searched) => fitAnswer(fits, searched)),
    crossoverAnswer(crossovers),
    qualityAnswer(quality),
    alternationAnswer(alternations),
    driftAnswer(drifts),
    targetAnswer(targets),
    kernelAnswer(kernels, roofs),
  ].filter((answer) => answer !== null);
}

/** How far each model goes. */
function fitAnswer(fits: readonly Fit[], searched: Fit["searched"]): Answer | null {
  const shown = fits.filter((fit) => fit.searched === searched);
  if (shown.length === 0) return null;
  const { budget_bytes, budget_from } = shown.find((fit) => fit.budget_bytes !== null) ?? shown[0]!;
  const budget =
    budget_bytes === null ? "" : ` Budget: ${formatBytes(budget_bytes)}, weights included (${budget_from}).`;
  const number = (title: string) => ({ title, kind: "number" as const });
  const streams = searched === "streams";
  const found = shown.find(({ n_context }) => n_context !== null);
  const small = shown.find(({ small_context }) => small_context !== null)?.small_context ?? null;
  return {
    title: streams
      ? `The most streams${found ? ` of ${formatCount(found.n_context!)} tokens` : ""}`
      : "The longest context",
    note: streams
      ? "Searched in the same way; speeds are those of all streams together, held against as many streams at a small context: " +
        "the bound is about context, not about what streams cost one another."
      : "Really allocated, filled with random keys and values, and stepped through at no less than half the speed at a small context; " +
        "found by doubling and bisecting to within a sixteenth. A speed is that of the fastest of several rounds. " +
        `≥: no end was found; where time ended the search, --fit-seconds gives it more.${budget}`,
    columns: [
      { title: "model", kind: "model" },
      number(streams ? "streams" : "tokens"),
      number("held in all"),
      number("state + kv"),
      number("t/s there"),
      number(small === null ? "t/s" : `t/s at ${formatCount(small)}`),
      { title: "what ended it", kind: "prose" },
      number("probes"),
      number("seconds"),
    ],
    rows: shown.map((fit) => [
      fit.model,
      foundNumber(fit) ?? "none",
      show(fit.mem_live, formatBytes),
      show(fit.mem_state, (state) => formatBytes(state + (fit.mem_kv ?? 0))),
      show(fit.avg_ts, (ts) => ts.toFixed(1)),
      show(fit.small_ts, (ts) => ts.toFixed(1)),
      fit.reason,
      String(fit.probes),
      fit.seconds.toFixed(1),
    ]),
  };
}

/** Fewer repetitions than this say little of their spread. */
const FEW_REPETITIONS = 5;
/** Share of resampled runs that must agree. */
const CONFIDENCE = 0.95;

/** Full attention, which all others are set against. */
const REFERENCE = "llama";

/**
 * All others beside full attention; where it did not run, what holds a fixed state beside what grows with its context: of
 * other pairs few ask where they cross.
 */
function crossoverAnswer(crossovers: readonly Crossover[]): Answer | null {
  const against = crossovers.flatMap((pair): Crossover[] => {
    const [a, b] = pair.models;
    if (b === REFERENCE) return [pair];
    const [g, h] = pair.grows;
    return a === REFERENCE ? [{ ...pair, models: [b, a], grows: [h, g] }] : [];
  });
  const shown =
    against.length > 0 ? against : crossovers.filter(({ grows: [a, b] }) => a === false && b === true);
  if (shown.length === 0) return null;
  const others = crossovers.length > shown.length ? " All other pairs are in results.json." : "";
  const all = shown.flatMap(({ speed }) => speed);
  const several = new Set(all.map(setting)).size > 1;
  const repetitions = Math.min(...all.map((crossing) => crossing.repetitions));
  const few = `A depth has as few as ${repetitions} repetitions here: the intervals are too narrow. `;
  return {
    title: "Where they cross",
    note:
      "Speed: a line over the depth, by least squares through every repetition (level where what is carried has a fixed size); " +
      "in brackets the 95% interval of a bootstrap over the repetitions, which does not know what else the machine did between two tests. " +
      `${repetitions < FEW_REPETITIONS ? few : ""}` +
      `Bytes: state and kv of one stream by the ledger, exact at every page's edge.${others}`,
    columns: [
      { title: "model", kind: "model" },
      { title: "beside", kind: "model" },
      { title: "faster at decoding", kind: "prose" },
      { title: "holds fewer bytes", kind: "prose" },
    ],
    rows: shown.map(({ models, speed, bytes }) => [
      ...models,
      speed
        .map((crossing) => `${several ? `${setting(crossing)}: ` : ""}${speedWords(crossing, models)}`)
        .join("; "),
      bytes ? bytesWords(bytes) : "–",
    ]),
  };
}

const setting = ({ n_gen, n_parallel }: SpeedCrossing): string =>
  `tg${n_gen}${n_parallel > 1 ? ` ×${n_parallel}` : ""}`;

/** A depth between those measured. */
const tokens = (depth: number): string => formatCount(Math.round(depth));

function speedWords(crossing: SpeedCrossing, models: readonly string[]): string {
  const { from_depth, to_depth, faster_first, faster_last, depth, depth_low, depth_high } = crossing;
  if (depth !== null) {
    const start = from_depth === 0 ? "the start" : `before ${formatCount(from_depth)}`;
    const low = depth_low === null ? start : tokens(depth_low);
    const high = depth_high === null ? `past ${formatCount(to_depth)}` : tokens(depth_high);
    const open = depth_low === null && depth_high === null;
    const undecided = open || crossing.agreement < CONFIDENCE ? ": undecided" : "";
    return `${faster_last} from depth ${tokens(depth)} on [${low} to ${high}]${undecided}`;
  }
  const range = `${faster_first} at every depth from ${formatCount(from_depth)} to ${formatCount(to_depth)}`;
  const sure = crossing.agreement >= CONFIDENCE;
  const doubt = `, in ${Math.floor(100 * crossing.agreement)}% of the resampled runs: undecided`;
  const other = models.find((model) => model !== faster_first);
  const later = crossing.extrapolated_depth;
  return `no crossing: ${range}${sure ? "" : doubt}${
    later === null ? "" : `; extrapolated, ${other} from about ${tokens(later)}`
  }`;
}

function bytesWords({ smaller_first, smaller_last, context, to_context }: BytesCrossing): string {
  const range = `${formatCount(1)} to ${formatCount(to_context)} tokens`;
  if (context === null) return smaller_first === null ? `equal, ${range}` : `${smaller_first}, ${range}`;
  const from = `from ${formatCount(context)} tokens on (to ${formatCount(to_context)})`;
  return smaller_last === null ? `equal ${from}` : `${smaller_last} ${from}`;
}
