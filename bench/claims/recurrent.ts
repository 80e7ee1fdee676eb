// Claims 1, 6 and 10: recurrent cells, alone and beside attention.

import { contextOf, type Row } from "../row.ts";
import { formatBytes, formatCount, GIB } from "../units.ts";
import { llama3Kv, llama3Weights } from "./arithmetic.ts";
import { edges, flash, pageEdges } from "./attentionMemory.ts";
import type { Claim, Evidence, Findings, Measurement } from "./claim.ts";
import {
  arithmetic,
  cite,
  counted,
  extrapolation,
  figure,
  held,
  list,
  pointsOf,
  ratioOf,
  slopeOf,
} from "./evidence.ts";
import { growth, type Ratio, rateRatio, side } from "./growth.ts";
import { decodes, type Need, prompts, select, streams } from "./needs.ts";

const cells = ["elman", "gru", "lstm"];
const F32 = 4;

const live = (row: Row): number => row.mem_live ?? 0;

export const constantMemory: Claim = {
  id: 1,
  title: "Recurrent networks need constant memory",
  quote:
    '"RNN-based architectures achieve O(1) inference memory complexity"; memory is limited "to parameters plus a single hidden state vector".',
  needs: cells.map((arch) => decodes(arch)),
  decide({ rows, models }) {
    const evidence: Evidence[] = [];
    const growing: string[] = [];
    const several: string[] = [];
    const aligned: string[] = [];
    const besides: string[] = [];
    const missing: string[] = [];
    let to = 0;
    for (const arch of cells) {
      const own = select(decodes(arch), rows);
      const all = growth(pointsOf(own, live), null);
      to = Math.max(to, ...own.map(contextOf));
      evidence.push(slopeOf(`everything that ${arch} holds, for a token more`, all, own, live));
      if (all.slope !== 0 || all.exponent !== 0)
        growing.push(`${arch} by ${figure(all.slope)} bytes a token`);
      const last = own.at(-1)!;
      const group = models[arch]?.layers[0];
      const vector = group && "hidden" in group ? group.hidden * F32 : null;
      if (vector === null) {
        missing.push(`the hidden size of ${arch}`);
        continue;
      }
      const state = last.closed_state ?? held(last);
      const vectors = state / vector;
      const padding = held(last) - state;
      const buffers = live(last) - (last.mem_weights ?? 0) - held(last);
      evidence.push(
        arithmetic(
          `state of ${arch} in vectors of ${vector / F32}`,
          `${formatCount(state)} B / (${vector / F32} x ${F32} B)`,
          vectors,
          "vectors",
          "closed_state: the literature's formula",
        ),
        counted(`what alignment adds to the state of ${arch}`, padding, "B", [cite(last, held(last))]),
        counted(`what ${arch} holds beside weights and state`, buffers, "B", [cite(last, buffers)]),
      );
      if (held(last) >= 2 * vector) several.push(`${arch} ${figure(vectors)}`);
      if (padding > 0) aligned.push(`${formatBytes(padding)} (${arch})`);
      if (buffers > vector) besides.push(`${formatBytes(buffers)} (${arch})`);
    }
    if (growing.length > 0) {
      const because = `What is held grows with the context: ${list(growing)}.`;
      return { verdict: "refuted", because, evidence };
    }
    const constant = `What ${list(cells)} hold does not change by a byte up to ${formatCount(to)} tokens`;
    if (missing.length > 0)
      return {
        verdict: "undecided",
        because: `${constant}; missing is ${list(missing)}.`,
        evidence,
        missing,
      };
    if (several.length + besides.length === 0)
      return { verdict: "holds", because: `${constant}: weights and one vector of state.`, evidence };
    const conditions = [
      several.length > 0 &&
        `the state is a vector for each layer, and in an LSTM two (hidden and cell): here ${list(several)}${aligned.length > 0 ? `; alignment adds ${list(aligned)}` : ""}`,
      besides.length > 0 && `a forward also works in buffers of constant size, ${list(besides)}`,
    ].filter((text) => text !== false);
    return {
      verdict: "holds with a condition",
      because: `${constant}, so O(1) holds. "A single hidden state vector" does not: ${conditions.join("; ")}.`,
      evidence,
    };
  },
};

/** Models whose parameters differ by no more are compared. */
const COMPARABLE = 0.2;

interface Duel extends Ratio {
  arch: string;
  /** The cell's row, and attention's. */
  rows: [Row, Row];
}

/** Tokens a second of a recurrent cell over attention's, on the same tests. */
function duels(need: (arch: string) => Need, arch: string, rows: readonly Row[]): Duel[] {
  const theirs = new Map(select(need(flash), rows).map((row) => [row.test, row]));
  return select(need(arch), rows).flatMap((row) => {
    const other = theirs.get(row.test);
    return other ? [{ arch, ...rateRatio(row, other), rows: [row, other] as [Row, Row] }] : [];
  });
}

type Phase = "slower" | "faster" | "either" | "within the spread";

function phaseOf(all: readonly Duel[]): Phase {
  const sides = all.map((duel) => side(duel));
  const [slower, faster] = [sides.includes(-1), sides.includes(1)];
  if (slower && faster) return "either";
  return slower ? "slower" : faster ? "faster" : "within the spread";
}

/** slower, within the spread or faster: every side that some pair is on. */
const sidesOf = (all: readonly Duel[]): string =>
  list(
    ["slower", "within the spread", "faster"].filter((_, i) => all.some((duel) => side(duel) === i - 1)),
    "or",
  );

function tally(all: readonly Duel[]): string {
  const of = (wanted: number) => all.filter((duel) => side(duel) === wanted).length;
  const rates = all.map(({ value }) => value);
  const same = of(0) > 0 ? `, within the spread in ${of(0)}` : "";
  return `slower in ${of(-1)} and faster in ${of(1)} of ${all.length} pairs${same} (${figure(Math.min(...rates))} to ${figure(Math.max(...rates))} times attention's tokens a second)`;
}

/** From which size on, a prompt's length or a depth, a recurrent cell is faster at every one that was measured. */
function crossover(all: readonly Duel[], sizeOf: (row: Row) => number): string {
  const { arch } = all[0]!;
  const size = (i: number) => formatCount(sizeOf(all[i]!.rows[0]));
  const first = all.findLastIndex((duel) => side(duel) !== 1) + 1;
  if (first === 0) return `${arch}: all`;
  if (first < all.length) return `${arch}: from between ${size(first - 1)} and ${size(first)} on`;
  const [least, most] = [0, all.length - 1].map((i) => `${figure(all[i]!.value)} times at ${size(i)}`);
  return `${arch}: none (${most === least ? most : `${least}, ${most}`})`;
}

const crossovers = (each: readonly Duel[][], sizeOf: (row: Row) => number): string =>
  each.flatMap((all) => (all.length > 0 ? crossover(all, sizeOf) : [])).join("; ");

export const recurrentSpeed: Claim = {
  id: 6,
  title: "Recurrent networks are slower, being sequential",
  quote: `RNNs' "sequential nature prevents parallelization during inference, making throughput slower despite lower memory footprint".`,
  needs: [flash, ...cells].flatMap((arch) => [prompts(arch, 2), decodes(arch)]),
  decide({ rows }) {
    const size = (arch: string) => select(decodes(arch), rows)[0]!.model_n_params ?? 0;
    const comparable = cells.filter((arch) => Math.abs(size(arch) / size(flash) - 1) <= COMPARABLE);
    if (comparable.length === 0) {
      const missing = [
        `a recurrent model within ${100 * COMPARABLE}% of ${flash}'s ${formatCount(size(flash))} parameters`,
      ];
      return {
        verdict: "undecided",
        because: `Sizes differ too much: ${missing[0]} is missing.`,
        evidence: [],
        missing,
      };
    }
    const of = (need: (arch: string) => Need) => comparable.map((arch) => duels(need, arch, rows));
    const [prefill, decode] = [of(prompts), of(decodes)];
    const evidence: Evidence[] = [
      ...prefill.flat().map((duel) => measured("prompt", duel)),
      ...decode.flat().map((duel) => measured("generation", duel)),
      ...comparable.map((arch) => {
        const prompt = select(prompts(arch), rows).at(-1)!;
        const step = select(decodes(arch), rows)[0]!;
        return ratioOf(
          `${arch}: prompt over generation, what reading tokens together brings`,
          rateRatio(prompt, step),
          [prompt, step],
        );
      }),
      ...footprint(comparable, rows),
    ];
    const [p, d] = [phaseOf(prefill.flat()), phaseOf(decode.flat())];
    const because = `Prompts: ${sidesOf(prefill.flat())}. Generation: ${sidesOf(decode.flat())}. Models within ${100 * COMPARABLE}% of ${flash}'s ${formatCount(size(flash))} parameters. Reading prompts, cells are ${tally(prefill.flat())}; lengths at which a cell is faster: ${crossovers(prefill, (row) => row.n_prompt)}. Generating, cells are ${tally(decode.flat())}; depths at which a cell is faster: ${crossovers(decode, (row) => row.n_depth)}.`;
    if (p === "within the spread" || d === "within the spread") {
      const which = [
        p === "within the spread" && "prompts",
        d === "within the spread" && "generation",
      ].filter(Boolean);
      const missing = [`rows of ${which.join(" and ")} with less spread: more repetitions, a calmer machine`];
      return { verdict: "undecided", because, evidence, missing };
    }
    if (p === "slower" && d === "slower") return { verdict: "holds", because, evidence };
    if (p === "faster" && d === "faster") return { verdict: "refuted", because, evidence };
    return { verdict: "holds with a condition", because, evidence };
  },
};

const measured = (what: string, duel: Duel): Measurement =>
  ratioOf(`${what}: ${duel.arch} over ${flash}, ${duel.rows[0].test}`, duel, duel.rows);

const footprint = (archs: readonly string[], rows: readonly Row[]): Evidence[] =>
  archs.map((arch) => {
    const [own, other] = [arch, flash].map((name) => select(decodes(name), rows).at(-1)!) as [Row, Row];
    const cited = [cite(own, held(own)), cite(other, held(other))];
    return counted(
      `state of ${arch} over keys and values of ${flash}`,
      held(own) / held(other),
      "ratio",
      cited,
    );
  });

const cell = "gru";
const windowed = "mistral-window";
/**
 * An order of magnitude: less may be a matter of width and padding. State, keys and values are judged by it, which any
 * engine must keep for a stream. Scratch is as large as the chunk that one chooses to read prompts by; where it brings what
 * a stream more takes below this, that is a condition.
 */
const SUBSTANTIAL = 10;

const perStream = (row: Row): number => row.bytes_per_stream ?? held(row) / row.n_parallel;
const streamsPerGib = (row: Row): number => row.streams_per_gib ?? GIB / perStream(row);

export const manyStreams: Claim = {
  id: 10,
  title: "Transformers' memory limits batches; recurrent networks fit more",
  quote:
    '"Transformer-based systems require substantial GPU memory infrastructure even for moderate batch sizes, limiting throughput"; "RNN-based systems enable deployment on more constrained hardware and allow processing of longer sequences per GPU".',
  needs: [streams(flash), edges, streams(cell), decodes(cell), decodes(windowed)],
  decide(findings) {
    const { rows } = findings;
    const growthOf = (arch: string) => growth(pointsOf(select(decodes(arch), rows), held), null);
    const [state, ring] = [growthOf(cell), growthOf(windowed)];
    const bounded = select(decodes(windowed), rows);
    const deep = pageEdges(select(edges, rows));
    const cache = growth(pointsOf(deep, held), deep[0]!.mem_state ?? 0);
    const many = batches(findings);
    if (!many) {
      const missing = [`${flash} and ${cell} in the same number of streams`];
      return { verdict: "undecided", because: `Rows are missing: ${missing[0]}.`, evidence: [], missing };
    }
    const { theirs, own, ratio, more } = many;
    const faster = rateRatio(own, theirs);
    const tokens = 131_072;
    const at = held(deep.at(-1)!) + cache.slope * (tokens - contextOf(deep.at(-1)!));
    const [kv, weights] = [llama3Kv(8192, 32), llama3Weights()];
    const evidence: Evidence[] = [
      ...many.evidence,
      slopeOf(`${flash}: a stream, for a token more`, cache, deep, held),
      slopeOf(`${cell}: a stream, for a token more`, state, select(decodes(cell), rows), held),
      slopeOf(`${windowed}: a stream, for a token more`, ring, bounded, held),
      ratioOf(`tokens a second of ${own.n_parallel} streams: ${cell} over ${flash}`, faster, [own, theirs]),
      extrapolation(
        `streams of ${flash} in a GiB, weights and scratch aside`,
        GIB / at,
        "streams/GiB",
        tokens,
        deep,
        held,
      ),
      kv,
      weights,
    ];
    const context = contextOf(theirs);
    const memory = `A stream of ${flash} holds ${formatBytes(perStream(theirs))} at ${formatCount(context)} tokens, ${figure(ratio)} times a stream of ${cell}, and ${figure(cache.slope)} bytes more for each token: ${formatCount(streamsPerGib(theirs))} streams a GiB, weights and scratch aside, against ${formatCount(streamsPerGib(own))}; scratch included, a stream more takes ${formatBytes(more.theirs)} and ${formatBytes(more.own)} here`;
    const speed = `${own.n_parallel} streams of ${cell} together make ${figure(faster.value)} times as many tokens a second as those of ${flash}`;
    if (ratio < SUBSTANTIAL || cache.slope <= 0) {
      const because = `${memory}; from ${SUBSTANTIAL} times on, and growing, it would be substantial.`;
      return { verdict: "refuted", because, evidence };
    }
    if (state.slope > 0) {
      const because = `${memory}; but ${cell} grows too, by ${figure(state.slope)} bytes a token.`;
      return { verdict: "refuted", because, evidence };
    }
    const conditions = [
      ring.slope === 0 &&
        `a transformer with a window (${windowed}) stops growing, at ${formatBytes(perStream(bounded.at(-1)!))} a stream`,
      more.theirs < SUBSTANTIAL * more.own &&
        `with its scratch a stream more of ${flash} takes only ${figure(more.theirs / more.own)} times as much as one of ${cell}`,
      side(faster) < 1 &&
        `${speed} (${faster.spread.map(figure).join(" to ")}), so throughput is not limited by it here`,
    ].filter((text) => text !== false);
    const published = `For Llama-3-8B, 32 streams of 8,192 tokens take ${formatBytes(kv.value)} beside ${formatBytes(weights.value)} of weights`;
    if (conditions.length === 0)
      return { verdict: "holds", because: `${memory}. ${speed}. ${published}.`, evidence };
    const rest = side(faster) === 1 ? ` ${speed}.` : "";
    return {
      verdict: "holds with a condition",
      because: `${memory}.${rest} ${published}. But ${list(conditions)}.`,
      evidence,
    };
  },
};

/** All bytes that a stream more takes: the weights are shared. */
function oneMore(all: readonly Row[]): number {
  const [few, many] = [all[0]!, all.at(-1)!];
  return (live(many) - live(few)) / (many.n_parallel - few.n_parallel);
}

/** The rows with the most streams that both have, and what a stream holds in each. */
function batches({ rows }: Findings) {
  const [attention, recurrent] = [flash, cell].map((arch) => select(streams(arch), rows)) as [Row[], Row[]];
  const theirs = attention.findLast((row) =>
    recurrent.some(({ test, n_parallel }) => test === row.test && n_parallel === row.n_parallel),
  );
  if (!theirs) return null;
  const own = recurrent.find((row) => row.n_parallel === theirs.n_parallel)!;
  const evidence = [attention, recurrent].flatMap((all): Evidence[] => {
    const [one, last] = [all[0]!, all.at(-1)!];
    const cited = all.map((row) => cite(row, perStream(row)));
    const { arch, n_parallel } = last;
    return [
      counted(`bytes of a stream, ${arch}, ${n_parallel} streams`, perStream(last), "B", cited),
      counted(`streams of ${arch} in a GiB, weights and scratch aside`, streamsPerGib(last), "streams/GiB", [
        cite(last, perStream(last)),
      ]),
      counted(`a stream more of ${arch}, scratch included`, oneMore(all), "B", [
        cite(one, live(one)),
        cite(last, live(last)),
      ]),
      ratioOf(
        `${arch}: tokens a second in all, ${n_parallel} streams over ${one.n_parallel}`,
        rateRatio(last, one),
        [one, last],
      ),
    ];
  });
  const more = { theirs: oneMore(attention), own: oneMore(recurrent) };
  return { theirs, own, ratio: perStream(theirs) / perStream(own), more, evidence };
}
