// Kernels timed by themselves, as a table of text and as lines of progress.

import type { Answer } from "../answers.ts";
import { formatNs, show } from "../units.ts";
import { isReached, type KernelTime, type Roofs, type Target } from "./kernelTime.ts";

const percent = (share: number): string => `${(100 * share).toFixed(0)}%`;

/** Figures to three places: 0.0123, 4.56, 789. */
const figure = (value: number): string => String(Number(value.toPrecision(3)));

export function kernelAnswer(kernels: readonly KernelTime[], roofs: Roofs | undefined): Answer | null {
  if (kernels.length === 0 || !roofs) return null;
  const { read_gbs, gflops, dispatch_ns } = roofs;
  return {
    title: "Kernels by themselves",
    note:
      `Roofs, measured in the same run: ${figure(read_gbs)} GB/s read, ${figure(gflops)} GF/s of multiply-adds, ${formatNs(dispatch_ns)} for an empty dispatch. ` +
      "Times are of one run, by turns with the other variants, fastest and median of the rounds; bytes are those that must move, whatever the variant. " +
      "Of the roof: the time that the roofs allow with its dispatches, over the fastest. NMSE: the worst of the variant's cases against its reference.",
    columns: [
      { title: "kernel", kind: "text" },
      { title: "sizes", kind: "prose" },
      { title: "run by", kind: "prose" },
      { title: "variant", kind: "text" },
      { title: "fastest", kind: "number" },
      { title: "median", kind: "number" },
      { title: "rounds", kind: "number" },
      { title: "dispatches", kind: "number" },
      { title: "GB/s", kind: "number" },
      { title: "GF/s", kind: "number" },
      { title: "of the roof", kind: "number" },
      { title: "NMSE", kind: "number" },
      { title: "", kind: "text" },
    ],
    rows: kernels.map((found) => [
      found.kernel,
      found.sizes,
      found.used_by.join(", "),
      `${found.variant}${found.suits === "any" ? "" : ` (${found.suits})`}`,
      show(found.min_ns, formatNs),
      show(found.median_ns, formatNs),
      String(found.rounds),
      show(found.dispatches, String),
      show(found.gbs, figure),
      show(found.gflops, figure),
      show(found.of_roof, percent),
      show(found.nmse, (nmse) => nmse.toExponential(1)),
      found.status === "ok" ? (found.won ? "won" : "") : `${found.status}: ${found.reason}`,
    ]),
  };
}

/** What must be reached on any adapter, and what is. */
export function targetAnswer(targets: readonly Target[]): Answer | null {
  if (targets.length === 0) return null;
  return {
    title: "What must be reached",
    note: "Ratios of the fastest of several rounds in this run; a share of the read roof is bytes that must move, over their time, over what the best read kernel reads.",
    columns: [
      { title: "figure", kind: "prose" },
      { title: "wanted", kind: "number" },
      { title: "found", kind: "number" },
      { title: "", kind: "text" },
      { title: "how", kind: "prose" },
    ],
    rows: targets.map((target) => [
      target.figure,
      `${target.most ? "≤" : "≥"} ${target.wanted}`,
      show(target.found, figure),
      target.found === null ? "not found" : isReached(target) ? "reached" : "missed",
      target.how,
    ]),
  };
}

/** The winner at one shape. */
export function kernelLine(times: readonly KernelTime[]): string {
  const won = times.find((time) => time.won);
  const { kernel, sizes } = times[0]!;
  if (!won) return `${kernel} ${sizes}: no variant ran`;
  return `${kernel} ${sizes}: ${won.variant} ${formatNs(won.min_ns!)}, ${percent(won.of_roof!)} of the roof`;
}
