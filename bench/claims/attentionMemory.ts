// Claims 2 to 5: what attention keeps, and what it only works with.

import { contextOf, type Row } from "../row.ts";
import { formatBytes, formatCount } from "../units.ts";
import { llama3Kv, pairs, pairsOf, scores } from "./arithmetic.ts";
import type { Claim, Evidence, Findings } from "./claim.ts";
import {
  cite,
  counted,
  decimalBytes,
  exponentOf,
  extrapolation,
  figure,
  held,
  list,
  pointsOf,
  ratioOf,
  slopeOf,
} from "./evidence.ts";
import { type Growth, growth, type Point, powerOf, rateRatio, settled, side } from "./growth.ts";
import { decodes, prompts, select } from "./needs.ts";

export const flash = "llama";
export const stored = "materialised";

const workspace = (row: Row): number => row.mem_scratch ?? 0;

/** What attention works in while prompts are read: the stored matrix, and the scratch of the kernel that stores none. */
export function workingMemory({ rows }: Findings) {
  const flashRows = select(prompts(flash), rows);
  const scratch = settled(pointsOf(flashRows, workspace));
  const flashGrowth = growth(scratch, null);
  const scratchRows = flashRows.slice(-scratch.length);
  // what the same weights work in beside any matrix, at no tokens yet
  const matrix = (row: Row) => workspace(row) - flashGrowth.base;
  const matrixRows = select(prompts(stored), rows);
  const matrixGrowth = matrixRows.length < 2 ? null : growth(pointsOf(matrixRows, matrix), 0);
  return { flashRows, scratchRows, flashGrowth, matrixRows, matrix, matrixGrowth };
}

export function workingEvidence(working: ReturnType<typeof workingMemory>): Evidence[] {
  const { scratchRows, flashGrowth, matrixRows, matrix, matrixGrowth } = working;
  return [
    ...(matrixGrowth
      ? [
          exponentOf(
            `score matrix as ${stored} keeps it: scratch beyond ${flash}'s at 0 tokens`,
            matrixGrowth,
            matrixRows,
            matrix,
          ),
        ]
      : []),
    exponentOf(
      `all scratch of ${flash}, whose kernel tiles and stores no matrix`,
      flashGrowth,
      scratchRows,
      workspace,
    ),
    slopeOf(`the same, for a token more`, flashGrowth, scratchRows, workspace),
  ];
}

/** Where a page is full there is no slack: what is held is what the formula says. All rows, where fewer than `least` are. */
export function pageEdges(rows: readonly Row[], least = 3): Row[] {
  const full = rows.filter((row) => row.mem_kv === row.closed_kv);
  return full.length >= least ? full : [...rows];
}

/** Depth 0 ends within a page; three more depths end with one. */
export const edges = decodes(flash, 4);

/** Keys and values of full attention over the context. */
function cacheGrowth({ rows }: Findings): { full: Row[]; cache: Growth } {
  const full = pageEdges(select(edges, rows));
  return { full, cache: growth(pointsOf(full, held), full[0]!.mem_state ?? 0) };
}

/** After "grows" or "grow". */
const as = (exponent: number): string => (exponent === 0 ? "by nothing" : `as N^${exponent.toFixed(2)}`);

const CLAIMED_TOKENS = 100_000;
/** "128-bit precision". */
const CLAIMED_BYTES = 16;
/** "Hundreds of gigabytes". */
const HUNDREDS = 200e9;
/** bfloat16 and float16, which models are run in. */
const USUAL_BYTES = 2;

export const matrixMemory: Claim = {
  id: 2,
  title: "The attention matrix takes O(N²) memory",
  quote:
    '"The attention matrix itself requires O(N²) memory where N represents context length. For a 100K token context, this means storing attention weights for 10 billion token pairs. At 128-bit precision per attention score, this alone exceeds hundreds of gigabytes".',
  needs: [prompts(stored), prompts(flash)],
  decide(findings) {
    const working = workingMemory(findings);
    const { matrixRows, matrix, flashRows, flashGrowth } = working;
    const matrixGrowth = working.matrixGrowth ?? growth(pointsOf(matrixRows, matrix), 0);
    const [claimed, usual] = [scores(CLAIMED_TOKENS, CLAIMED_BYTES), scores(CLAIMED_TOKENS, USUAL_BYTES)];
    const last = matrixRows.at(-1)!;
    const perPair = matrix(last) / pairsOf(contextOf(last));
    const evidence: Evidence[] = [
      ...workingEvidence(working),
      pairs(CLAIMED_TOKENS),
      claimed,
      usual,
      extrapolation(
        `score matrix of ${stored}, all its heads, 32 bits, one layer at a time`,
        perPair * pairsOf(CLAIMED_TOKENS),
        "B",
        CLAIMED_TOKENS,
        matrixRows,
        matrix,
      ),
    ];
    const short = claimed.value < HUNDREDS ? `, which is not yet "hundreds of gigabytes"` : "";
    const sizes = `${formatCount(pairsOf(CLAIMED_TOKENS) / 1e9)} billion pairs at ${CLAIMED_BYTES} bytes are ${decimalBytes(claimed.value)} for one head and layer${short}; at ${USUAL_BYTES} bytes, the usual precision, they are ${decimalBytes(usual.value)}`;
    const [a, b] = [powerOf(matrixGrowth.exponent), powerOf(flashGrowth.exponent)];
    if (a !== 2) {
      const because = `Stored, the matrix grows ${as(matrixGrowth.exponent)}: that is not N².`;
      return {
        verdict: a === null ? "undecided" : "refuted",
        because,
        evidence,
        missing: a === null ? unclear(stored) : [],
      };
    }
    if (b === 2) {
      const because = `Stored, the matrix grows ${as(matrixGrowth.exponent)}, and the kernel that tiles grows ${as(flashGrowth.exponent)} too. ${sizes}.`;
      return { verdict: "holds", because, evidence };
    }
    if (b === null) {
      const because = `Stored, the matrix grows ${as(matrixGrowth.exponent)}; the scratch of the kernel that tiles grows ${as(flashGrowth.exponent)}, which is no whole power.`;
      return { verdict: "undecided", because, evidence, missing: unclear(flash) };
    }
    const because = `Only where it is stored: then it grows ${as(matrixGrowth.exponent)} (${formatBytes(matrix(last))} at ${formatCount(contextOf(last))} tokens). The same weights under a kernel that tiles need ${figure(flashGrowth.slope)} bytes of scratch for a token more (${formatBytes(workspace(flashRows.at(-1)!))} in all), so nothing requires it. The product is right: ${sizes}.`;
    return { verdict: "holds with a condition", because, evidence };
  },
};

const unclear = (arch: string): string[] => [
  `${arch}: prompts over a wider range, whose exponent is a whole power`,
];

export const cacheMemory: Claim = {
  id: 3,
  title: "The KV cache grows quadratically",
  quote: '"The KV cache required during decoding similarly scales quadratically with context".',
  needs: [edges],
  decide(findings) {
    const { full, cache } = cacheGrowth(findings);
    const evidence: Evidence[] = [
      exponentOf(`keys and values of ${flash}, where pages are full`, cache, full, held),
      slopeOf("the same, for a token more", cache, full, held),
    ];
    const [from, to] = [full[0]!, full.at(-1)!];
    const found = `Keys and values grow ${as(cache.exponent)} from ${formatCount(contextOf(from))} to ${formatCount(contextOf(to))} tokens${cache.exact ? ", to the byte" : ""}`;
    const power = powerOf(cache.exponent);
    if (power === 2) return { verdict: "holds", because: `${found}: quadratically.`, evidence };
    if (power === null)
      return {
        verdict: "undecided",
        because: `${found}, which is no whole power.`,
        evidence,
        missing: unclear(flash),
      };
    const because = `${found}: ${power === 1 ? `linearly, ${figure(cache.slope)} bytes a token and stream` : "not quadratically"}. What is quadratic is the number of pairs scored over a whole sequence, which no cache keeps.`;
    return { verdict: "refuted", because, evidence };
  },
};

const MILLION = 1_000_000;
const CLAIMED = { from: 500e9, to: 1e12 };

export const millionTokens: Claim = {
  id: 4,
  title: "A million tokens take 500 GB to 1 TB for attention weights",
  quote:
    '"A 1M token Transformer context would theoretically require approximately 500GB-1TB for attention weights alone at standard precision levels, making multi-GPU inference necessary even for batch size one."',
  needs: [prompts(flash), edges],
  decide(findings) {
    const { scratchRows, flashGrowth } = workingMemory(findings);
    const { full, cache } = cacheGrowth(findings);
    const power = powerOf(flashGrowth.exponent);
    const byBytes = [2, 1, 0.5].map((bytes) => scores(MILLION, bytes));
    const kv = llama3Kv(2 ** 20);
    const evidence: Evidence[] = [pairs(MILLION), ...byBytes, kv];
    if (power === null) {
      const because = `The scratch of the kernel that tiles grows ${as(flashGrowth.exponent)}, which is no whole power: nothing follows for a million tokens.`;
      return { verdict: "undecided", because, evidence, missing: unclear(flash) };
    }
    const working = atTokens(pointsOf(scratchRows, workspace), power, MILLION);
    const kept = atTokens(pointsOf(full, held), powerOf(cache.exponent) ?? cache.exponent, MILLION);
    evidence.push(
      slopeOf(`scratch of ${flash}, for a token more`, flashGrowth, scratchRows, workspace),
      extrapolation(`all scratch of ${flash}`, working, "B", MILLION, scratchRows, workspace),
      extrapolation(`keys and values of ${flash}, 32 bits`, kept, "B", MILLION, full, held),
    );
    const sums = `10^12 pairs are ${list(byBytes.map(({ value }) => decimalBytes(value)))} at 2, 1 and 0.5 bytes, for one head of one layer`;
    if (working >= CLAIMED.from) {
      const because = `The kernel that tiles would work in ${decimalBytes(working)} at a million tokens. ${sums}.`;
      return { verdict: "holds", because, evidence };
    }
    const because = `${sums}; so at 16 bits it would be more than is claimed. But nothing requires them: the kernel that tiles would work in ${formatBytes(working)} at a million tokens. What is kept are keys and values: ${formatBytes(kept)} here, and ${formatBytes(kv.value)} for Llama-3-8B (2^20 tokens, 16 bits), which is a matter of the model and the GPU, not of attention weights.`;
    return { verdict: "refuted", because, evidence };
  },
};

/** The last point carried on by a power of the tokens; what two points say is there without any is kept. */
function atTokens(points: readonly Point[], power: number, tokens: number): number {
  const [first, last] = [points[0]!, points.at(-1)!];
  if (power === 0) return last.y;
  const factor = (last.y - first.y) / (last.tokens ** power - first.tokens ** power);
  return last.y + factor * (tokens ** power - last.tokens ** power);
}

/** By the side of 1 that reading over generating is on. */
const parallelWords = {
  [-1]: "Parallel it is not here",
  0: "Whether it is parallel, repetitions do not tell",
  1: "Parallel it is",
};

/** Exponents between neighbours stay the same for a power; for an exponential they grow as the context does. */
const STEADY = 0.25;
const GROWING = 1.5;

export const exponentialMemory: Claim = {
  id: 5,
  title: "Transformers' memory grows exponentially",
  quote: '"Transformers provide parallel processing but demand exponential memory scaling."',
  needs: [edges, prompts(flash)],
  decide(findings) {
    const working = workingMemory(findings);
    const { full, cache } = cacheGrowth(findings);
    const base = full[0]!.mem_state ?? 0;
    const { matrixRows, matrix, matrixGrowth } = working;
    const kept = locals(pointsOf(full, (row) => held(row) - base));
    const worked = matrixGrowth ? locals(pointsOf(matrixRows, matrix)) : null;
    const prompt = working.flashRows.at(-1)!;
    const step = select(decodes(flash), findings.rows)[0]!;
    const parallel = rateRatio(prompt, step);
    const evidence: Evidence[] = [
      exponentOf(`keys and values of ${flash}`, cache, full, held),
      ...(matrixGrowth ? workingEvidence(working).slice(0, 1) : []),
      ...steps("keys and values", kept, full, held),
      ...steps("the stored matrix", worked ?? [], matrixRows, matrix),
      ratioOf("tokens a second: a prompt, read together, over tokens generated one by one", parallel, [
        prompt,
        step,
      ]),
    ];
    const all = [kept, ...(worked ? [worked] : [])];
    const text = `From step to step of the context exponents are ${powers(kept)} for keys and values${worked ? `, and ${powers(worked)} for the matrix, were it stored` : ""}`;
    const speed = `${parallelWords[side(parallel)]}: a prompt is read ${figure(parallel.value)} times as fast as tokens are generated (${parallel.spread.map(figure).join(" to ")})`;
    if (all.some((exponents) => exponents.at(-1)! > GROWING * exponents[0]!)) {
      const because = `${text}: they grow with the context, as an exponential's do. ${speed}.`;
      return { verdict: "holds", because, evidence };
    }
    if (all.every((exponents) => Math.abs(exponents.at(-1)! - exponents[0]!) <= STEADY)) {
      const because = `${text}: they are steady, so memory is a power of the context, N^${cache.exponent.toFixed(2)}${matrixGrowth ? ` (N^${matrixGrowth.exponent.toFixed(2)} where the matrix is stored)` : ""}, and no exponential. ${speed}.`;
      return { verdict: "refuted", because, evidence };
    }
    const missing = [`${flash}: depths over a wider range, whose exponents agree or grow`];
    return {
      verdict: "undecided",
      because: `${text}: they are neither steady nor do they grow with it.`,
      evidence,
      missing,
    };
  },
};

const powers = (exponents: readonly number[]): string => list(exponents.map((p) => p.toFixed(2)));

/** The first and the last of the exponents between neighbours. */
const steps = (
  what: string,
  exponents: readonly number[],
  rows: readonly Row[],
  figure: (row: Row) => number,
): Evidence[] =>
  exponents.length === 0
    ? []
    : [
        ["first", exponents[0]!, rows.slice(0, 2)] as const,
        ["last", exponents.at(-1)!, rows.slice(-2)] as const,
      ].map(([which, exponent, ends]) =>
        counted(
          `exponent of ${what} over the ${which} step of the context`,
          exponent,
          "exponent",
          ends.map((row) => cite(row, figure(row))),
        ),
      );

/** Exponents between neighbours. */
const locals = (points: readonly Point[]): number[] =>
  points.slice(1).map((p, i) => {
    const before = points[i]!;
    return p.y === before.y ? 0 : Math.log(p.y / before.y) / Math.log(p.tokens / before.tokens);
  });
