// Claims 7 to 9: attention that looks at less, and state spaces.

import type { Layers } from "../closed.ts";
import { contextOf, type Row } from "../row.ts";
import { formatBytes, formatCount } from "../units.ts";
import { flash, pageEdges } from "./attentionMemory.ts";
import type { Claim, Evidence, Findings } from "./claim.ts";
import {
  arithmetic,
  cite,
  counted,
  figure,
  held,
  list,
  pointsOf,
  ratioOf,
  rounded,
  slopeOf,
  timeOf,
} from "./evidence.ts";
import { growth, rateRatio } from "./growth.ts";
import { decodes, type Need, prompts, select } from "./needs.ts";

const linear = ["linear-attention", "gla"];
/** Nearer to N than to N^2, and no repetition past half way: a fixed cost a prompt can only lower an exponent. */
const LINEAR = 1.25;
const HALF_WAY = 1.5;

export const linearAttention: Claim = {
  id: 7,
  title: "Linear attention comes near O(N) by approximation",
  quote:
    '"Linear attention mechanisms reduce complexity toward O(N) by approximating the full attention matrix".',
  needs: [...linear.flatMap((arch) => [prompts(arch), decodes(arch)]), prompts(flash)],
  decide({ rows, models }) {
    const times = linear.map((arch) => timeOf(arch, select(prompts(arch), rows)));
    const memory = linear.map((arch) => growth(pointsOf(select(decodes(arch), rows), held), null));
    const full = timeOf(flash, select(prompts(flash), rows));
    const rank = rankOf(models[linear[0]!]?.layers ?? []);
    const evidence: Evidence[] = [
      ...times,
      full,
      ...linear.map((arch, i) =>
        slopeOf(`state of ${arch}, for a token more`, memory[i]!, select(decodes(arch), rows), held),
      ),
      ...rank,
    ];
    const found = `Time of a prompt grows as ${list(times.map(({ value }, i) => `N^${value.toFixed(2)} (${linear[i]})`))} where full attention's grows as N^${full.value.toFixed(2)}`;
    const growing = linear.filter((_, i) => memory[i]!.exponent !== 0);
    if (growing.length > 0 || times.some(({ spread }) => spread[0] > HALF_WAY)) {
      const because = `${found}${growing.length > 0 ? `, and the state of ${list(growing)} grows` : ""}: that is not toward O(N).`;
      return { verdict: "refuted", because, evidence };
    }
    if (!times.every(({ value, spread }) => value <= LINEAR && spread[1] < HALF_WAY)) {
      const missing = times
        .filter(({ value, spread }) => value > LINEAR || spread[1] >= HALF_WAY)
        .map(
          ({ what, spread }) =>
            `rows that tell N from N² in the ${what}: repetitions allow N^${spread.map((p) => p.toFixed(2)).join(" to N^")}`,
        );
      return { verdict: "undecided", because: `${found}, within too wide a spread.`, evidence, missing };
    }
    const complexity = `${found}; the state is constant to the byte`;
    const others = linear.filter((arch) => models[arch]?.weights !== models[flash]?.weights);
    if (others.length === 0)
      return { verdict: "holds", because: `${complexity}, on ${flash}'s own weights.`, evidence };
    const because = `${complexity}. Not "by approximating" a given model's matrix: the weights of ${list(others)} are their own, trained with their attention${rank[0] ? `; before the causal mask, the N x N matrix of a head of ${linear[0]} has a rank of at most ${rank[0].value}` : ""}.`;
    return { verdict: "holds with a condition", because, evidence };
  },
};

/** Of attention without decay: where keys decay, no such matrix stands before the mask. */
const rankOf = (layers: readonly Layers[]): Evidence[] =>
  layers.flatMap((group) =>
    group.kind === "linear"
      ? arithmetic(
          `largest rank of a head's N x N matrix before the causal mask, ${linear[0]}`,
          "features of a key",
          group.keyDim,
          "features",
          "phi(Q) phi(K)^T: arXiv 2006.16236, equation 7",
        )
      : [],
  );

const sparse = ["mistral-window", "sinks", "local", "strided"];
/** Less than this share of full attention's bytes is less, padding aside. */
const LESS = 0.9;

const withPairs = (arch: string): Need => ({ ...decodes(arch), figure: "theory_pairs" });

export const sparseAttention: Claim = {
  id: 8,
  title: "Sparse attention trades expressiveness for memory",
  quote:
    '"Sparse attention patterns select a subset of token pairs for attention computation, trading some expressiveness for reduced memory."',
  needs: [flash, ...sparse].map(withPairs),
  decide({ rows, models }) {
    const full = select(withPairs(flash), rows).at(-1)!;
    const evidence: Evidence[] = [];
    const less: string[] = [];
    const same: string[] = [];
    const all: string[] = [];
    const shares: string[] = [];
    for (const arch of sparse) {
      const own = select(withPairs(arch), rows);
      const row = own.findLast((r) => contextOf(r) <= contextOf(full))!;
      const edges = pageEdges(own, 2);
      const bytes = growth(pointsOf(edges, held), null);
      const memory = held(row) / held(full);
      const share = row.theory_pairs! / full.theory_pairs!;
      (memory < LESS ? less : same).push(arch);
      if (share >= 1) all.push(arch);
      shares.push(`${arch} ${(100 * share).toFixed(1)}%`);
      evidence.push(
        counted(`keys and values of ${arch} over ${flash}'s, ${row.test}`, memory, "share", [
          cite(row, held(row)),
          cite(full, held(full)),
        ]),
        slopeOf(`keys and values of ${arch}, for a token more`, bytes, edges, held),
        arithmetic(
          `pairs that ${arch} scores over ${flash}'s, ${row.test}`,
          `${formatCount(row.theory_pairs!)} / ${formatCount(full.theory_pairs!)}`,
          share,
          "share",
          "theory_pairs: the masks, counted",
        ),
        ...quality(arch, rows),
      );
    }
    evidence.push(...quality(flash, rows));
    const subset = `Of the pairs that full attention scores at ${formatCount(contextOf(full))} tokens, ${list(shares)} are scored`;
    if (all.length > 0) {
      const because = `${subset}: ${list(all)} select no subset.`;
      return { verdict: "refuted", because, evidence };
    }
    const unseen = `What a query is not shown it cannot use in that layer${priceOf(rows, models)}`;
    if (same.length === 0)
      return { verdict: "holds", because: `${subset}, and all keep less. ${unseen}.`, evidence };
    if (less.length === 0) {
      const because = `${subset}, but none keeps less here.`;
      return { verdict: "refuted", because, evidence };
    }
    const because = `${subset}. Less memory: ${list(less)}, where a key is dropped once no query will ask for it. As much memory: ${list(same)}, where every key is kept here and only work is saved. ${unseen}.`;
    return { verdict: "holds with a condition", because, evidence };
  },
};

/** How well unseen text is predicted, where that was asked for: the price of not seeing all pairs. */
const bits = (arch: string, rows: readonly Row[]): Row | undefined =>
  rows.find((row) => row.arch === arch && row.bits_per_byte !== null);

const quality = (arch: string, rows: readonly Row[]): Evidence[] => {
  const row = bits(arch, rows);
  return row ? [rounded(`unseen text under ${arch}`, row.bits_per_byte!, "bits/byte", row)] : [];
};

/** What patterns cost in bits a byte: on full attention's own weights, and on weights that were trained with them. */
function priceOf(rows: readonly Row[], models: Findings["models"]): string {
  const full = bits(flash, rows)?.bits_per_byte;
  const priced = sparse.flatMap((arch) => bits(arch, rows) ?? []);
  if (!full || priced.length === 0) return "";
  const shown = (row: Row) => `${row.bits_per_byte!.toFixed(3)} (${row.arch})`;
  const same = priced.filter(({ arch }) => models[arch]?.weights === models[flash]?.weights);
  const onSame = same.length > 0 ? `, and ${list(same.map(shown))} on the same weights` : "";
  const trained = priced
    .filter((row) => !same.includes(row))
    .map(({ arch, bits_per_byte }) => {
      const none = bits_per_byte! <= full ? " and pays no price" : "";
      return `; ${arch}, trained with its pattern, takes ${bits_per_byte!.toFixed(3)}${none}`;
    });
  return `: unseen text takes ${full.toFixed(3)} bits a byte under ${flash}${onSame}${trained.join("")}`;
}

export const ssm = "mamba";
const SCAN = "selectiveScan";
/** Variants that cut time into chunks and scan them together have it in their names. */
const PARALLEL = /chunk/i;
/** Reading tokens together must bring this much before it counts as parallel. */
const TOGETHER = 2;

export const stateSpaces: Claim = {
  id: 9,
  title: "State spaces: parallel training, constant inference memory",
  quote:
    '"State-space models like Mamba return to sequential processing with careful architectural design to maintain parallelization during training while preserving O(1) inference memory".',
  needs: [decodes(ssm), prompts(ssm, 2)],
  decide({ rows, races }) {
    const own = select(decodes(ssm), rows);
    const all = growth(
      pointsOf(own, (row) => row.mem_live ?? 0),
      null,
    );
    const [prompt, step] = [select(prompts(ssm), rows).at(-1)!, own[0]!];
    const together = rateRatio(prompt, step);
    const race = races
      .filter(({ kernel, sizes }) => kernel === SCAN && !/\bT=1\b/.test(sizes))
      .find(({ times_ns }) =>
        [true, false].every((is) => Object.keys(times_ns).some((name) => PARALLEL.test(name) === is)),
      );
    const evidence: Evidence[] = [
      slopeOf(`everything that ${ssm} holds, for a token more`, all, own, (row) => row.mem_live ?? 0),
      ratioOf("tokens a second: a prompt, read together, over tokens generated one by one", together, [
        prompt,
        step,
      ]),
      ...(prompt.nmse_vs_reference === null
        ? []
        : [
            rounded(
              "logits against the plain reference, normalised mean squared error",
              prompt.nmse_vs_reference,
              "NMSE",
              prompt,
            ),
          ]),
    ];
    if (all.exponent !== 0) {
      const because = `What ${ssm} holds grows by ${figure(all.slope)} bytes a token: not O(1).`;
      return { verdict: "refuted", because, evidence };
    }
    const constant = `What ${ssm} holds does not change by a byte up to ${formatCount(contextOf(own.at(-1)!))} tokens (state ${formatBytes(own[0]!.mem_state ?? 0)})`;
    const forward = "A prompt's forward is that of training; the backward pass is not run here";
    if (race) {
      const [[parallel, together_ns], [serial, serial_ns]] = fastestOfBoth(race.times_ns);
      const cost = together_ns / serial_ns;
      evidence.push({
        kind: "measurement",
        what: `time of ${SCAN} (${race.sizes}): ${parallel}, parallel in time, over ${serial}, token by token`,
        value: cost,
        unit: "ratio",
        exact: false,
        spread: null,
        rows: [],
      });
      const form = `${constant}. The scan has a form that is parallel in time (${parallel}), which`;
      const rest = `${race.variant} runs. All forms are tested against one reference. ${forward}`;
      if (cost <= 1) {
        const because = `${form} is ${figure(1 / cost)} times as fast here as the serial one (${serial}); ${rest}.`;
        return { verdict: "holds", because, evidence };
      }
      const because = `${form} costs ${figure(cost)} times the serial one (${serial}) here; ${rest}.`;
      return { verdict: "holds with a condition", because, evidence };
    }
    const missing = [`a race of ${SCAN} over several tokens, serial and parallel in time`];
    if (together.spread[0] < TOGETHER)
      return { verdict: "undecided", because: `${constant}; missing is ${missing[0]}.`, evidence, missing };
    const because = `${constant}. Tokens read together go ${figure(together.value)} times as fast as one by one, but no scan that is parallel in time was raced here, so this may be the products around it alone. ${forward}.`;
    return { verdict: "holds with a condition", because, evidence };
  },
};

type Timed = [name: string, ns: number];

/** Of the variants that are parallel in time and of those that are not. */
function fastestOfBoth(times: Readonly<Record<string, number>>): [Timed, Timed] {
  const sorted = Object.entries(times).sort((a, b) => a[1] - b[1]);
  const first = (parallel: boolean) => sorted.find(([name]) => PARALLEL.test(name) === parallel)!;
  return [first(true), first(false)];
}
