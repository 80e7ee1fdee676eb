// Claim 11: is O(N²) a limit of the architecture, or of its implementations?

import { contextOf, type Row } from "../row.ts";
import { formatCount } from "../units.ts";
import { flash, stored, workingEvidence, workingMemory } from "./attentionMemory.ts";
import type { Claim, Evidence } from "./claim.ts";
import { arithmetic, extrapolation, figure, rated, ratioOf, timeOf } from "./evidence.ts";
import { fastest, fitLine, powerOf, rate, rateRatio, side, slowest } from "./growth.ts";
import { decodes, prompts, select } from "./needs.ts";

/** A token's cost counts as constant where no pair of repetitions has it grow by more over the range. */
const CONSTANT = 1.25;

const FAR = 1_000_000;

export const genuineLimit: Claim = {
  id: 11,
  title: "O(N²) is a limit of the architecture, not of its engineering",
  quote:
    '"the O(N²) constraint represents a genuine architectural limitation rather than an optimization problem solvable through clever engineering alone".',
  needs: [prompts(stored), prompts(flash), decodes(flash)],
  decide(findings) {
    const working = workingMemory(findings);
    const { flashRows, flashGrowth, matrixRows, matrixGrowth } = working;
    const steps = select(decodes(flash), findings.rows);
    const prompt = perToken(flashRows);
    const step = rateRatio(steps[0]!, steps.at(-1)!);
    const line = fitLine(flashRows.map((row) => [row.n_prompt, fastest(row) / row.n_prompt]));
    const quadratic = Math.max(0, line.slope * FAR);
    const share = quadratic === 0 ? 0 : quadratic / (quadratic + Math.max(0, line.intercept));
    const error = Math.max(
      ...[...flashRows, ...matrixRows].map((row) => row.nmse_vs_reference ?? Number.POSITIVE_INFINITY),
    );
    const agree = Number.isFinite(error)
      ? ` and both within an NMSE of ${error.toExponential(1)} of the plain reference`
      : "";
    const evidence: Evidence[] = [
      ...workingEvidence(working),
      arithmetic(
        "exponent of the pairs that a causal sequence scores",
        "N (N + 1) / 2",
        2,
        "exponent",
        "every token sees all before it",
      ),
      timeOf(flash, flashRows),
      ratioOf(`time of a prompt's token, ${flashRows.at(-1)!.test} over ${flashRows[0]!.test}`, prompt, [
        flashRows[0]!,
        flashRows.at(-1)!,
      ]),
      ratioOf(`time of a generated token, ${steps.at(-1)!.test} over ${steps[0]!.test}`, step, [
        steps[0]!,
        steps.at(-1)!,
      ]),
      {
        ...extrapolation("share of a prompt's time that is quadratic", share, "share", FAR, flashRows, rate),
        rows: flashRows.map(rated),
      },
    ];
    const a = matrixGrowth && powerOf(matrixGrowth.exponent);
    const b = powerOf(flashGrowth.exponent);
    const avoided = a === 2 && b !== null && b < 2;
    const needed = b !== null && b >= 2;
    const grows = [prompt, step].some((ratio) => side(ratio) === 1);
    const constant = [prompt, step].every((ratio) => ratio.spread[1] < CONSTANT);
    const memory = `Memory: the stored matrix is N^${matrixGrowth ? matrixGrowth.exponent.toFixed(2) : "?"}, the scratch of a kernel that tiles N^${flashGrowth.exponent.toFixed(2)}, with the same weights${agree}`;
    const cost = `Time: a token generated at depth ${formatCount(steps.at(-1)!.n_depth)} takes ${figure(step.value)} times one at depth ${formatCount(steps[0]!.n_depth)}, one of a prompt of ${formatCount(contextOf(flashRows.at(-1)!))} takes ${figure(prompt.value)} times one of ${formatCount(contextOf(flashRows[0]!))}`;
    if ((!avoided && !needed) || (!grows && !constant)) {
      const missing = [
        !avoided && !needed && `prompts of ${stored} and ${flash} whose exponents are whole powers`,
        !grows &&
          !constant &&
          `rows of ${flash} that tell whether a deeper token costs more: repetitions allow ${step.spread.map(figure).join(" to ")} times`,
      ].filter((text) => text !== false);
      return { verdict: "undecided", because: `${memory}. ${cost}.`, evidence, missing };
    }
    if (needed && grows)
      return { verdict: "holds", because: `${memory}: not avoided. ${cost}: it stays.`, evidence };
    if (avoided && constant)
      return { verdict: "refuted", because: `${memory}: avoided. ${cost}: avoided too.`, evidence };
    const because = avoided
      ? `${memory}: engineering alone removes it. ${cost}: a token still costs more the more stand before it, so the time of a sequence stays quadratic while every pair is scored. It holds for time, not for memory.`
      : `${memory}: not avoided. ${cost}: it does not grow. It holds for memory, not for time.`;
    return { verdict: "holds with a condition", because, evidence };
  },
};

/** Time of a token in the longest prompt over the shortest's. */
function perToken(rows: readonly Row[]) {
  const [first, last] = [rows[0]!, rows.at(-1)!];
  const lengths = first.n_prompt / last.n_prompt;
  const spread: [number, number] = [
    (fastest(last) / slowest(first)) * lengths,
    (slowest(last) / fastest(first)) * lengths,
  ];
  return { value: (fastest(last) / fastest(first)) * lengths, spread };
}
