import { describe, expect, test } from "vitest";
import { pairsOf, scores } from "../bench/claims/arithmetic.ts";
import type { Findings, Outcome } from "../bench/claims/claim.ts";
import { decimalBytes, showBasis, showRows, showValue } from "../bench/claims/evidence.ts";
import { growth, rateRatio, side, timeExponent } from "../bench/claims/growth.ts";
import { claims, judgeAll } from "../bench/claims/index.ts";
import { select, unmet } from "../bench/claims/needs.ts";
import { fullSizes } from "../bench/claims/plan.ts";
import type { Row } from "../bench/row.ts";
import {
  claim,
  flat,
  found,
  llama,
  models,
  parallelRace,
  race,
  rowsOf,
  type World,
  whole,
} from "./tools/claimsWorld.ts";

const tiling = (n: number) => 2_500_000 + 2.25 * n + Math.max(16_384, 16 * n);
/** Below 1,024 tokens the most that a dispatch asks is of the chunk's size. */
const hidden: World = {
  llama: { scratch: tiling },
  materialised: { scratch: (n) => tiling(n) + 16 * n ** 2 },
};

/** What is claimed, a world in which it is so or not, and the verdict there. */
const turns: [id: number, what: string, Outcome, World, Partial<Findings>?][] = [
  [1, "vectors of several layers, and scratch", "holds with a condition", {}],
  [1, "one vector and nothing besides", "holds", one(), { models: oneLayer() }],
  [
    1,
    "one vector whose alignment is as long",
    "holds with a condition",
    { ...one(), gru: { state: flat(1024), padding: 1040, scratch: flat(0) } },
    { models: oneLayer() },
  ],
  [1, "a cell of unknown size", "undecided", {}, { models: {} }],
  [1, "a state that grows", "refuted", { gru: { state: (tokens) => 2048 + tokens } }],
  [2, "stored only where one wants to", "holds with a condition", {}],
  [
    2,
    "a tiling kernel whose scratch is quadratic too",
    "holds",
    { llama: { scratch: (n) => 9000 + n ** 2 }, materialised: { scratch: (n) => 9000 + 17 * n ** 2 } },
  ],
  [
    2,
    "a stored matrix that is linear",
    "refuted",
    { materialised: { scratch: (n) => llama.scratch(n) + 64 * n } },
  ],
  [
    2,
    "a stored matrix between the powers",
    "undecided",
    { materialised: { scratch: (n) => llama.scratch(n) + n ** 1.5 } },
  ],
  [
    2,
    "scratch that a whole chunk hides at first",
    "holds with a condition",
    {},
    { rows: rowsOf(hidden, fullSizes.prompts) },
  ],
  [3, "a cache that is linear", "refuted", {}],
  [3, "a cache that is quadratic", "holds", { llama: { kv: (n) => 4 * n ** 2 } }],
  [3, "a cache between the powers", "undecided", { llama: { kv: (n) => 4 * n ** 1.5 } }],
  [4, "scratch that is linear", "refuted", {}],
  [
    4,
    "scratch that is quadratic",
    "holds",
    { llama: { scratch: (n) => 9000 + n ** 2 }, materialised: { scratch: (n) => 9000 + 17 * n ** 2 } },
  ],
  [4, "scratch between the powers", "undecided", { llama: { scratch: (n) => n ** 1.5 } }],
  [5, "powers of the context", "refuted", {}],
  [5, "an exponential", "holds", { llama: { kv: (n) => 1.01 ** n } }],
  [5, "neither", "undecided", { llama: { kv: (n) => n ** (1 + n / 40_000) } }],
  [6, "long prompts and generation faster", "holds with a condition", {}],
  [6, "slower throughout", "holds", whole({ elman: 90, gru: 90, lstm: 90 })],
  [6, "faster throughout", "refuted", whole({ elman: 9000, gru: 9000, lstm: 9000 })],
  [
    6,
    "too noisy to tell",
    "undecided",
    Object.fromEntries(["elman", "gru", "lstm"].map((a) => [a, { noise: 50 }])),
  ],
  [
    6,
    "other sizes",
    "undecided",
    Object.fromEntries(["elman", "gru", "lstm"].map((a) => [a, { parameters: 9e6 }])),
  ],
  [7, "another model, linear", "holds with a condition", {}],
  [
    7,
    "the same weights, linear",
    "holds",
    {},
    { models: Object.fromEntries(Object.entries(models).map(([a, m]) => [a, { ...m, weights: "llama" }])) },
  ],
  [7, "quadratic in time", "refuted", { gla: { prompt: (n) => 3e5 / n } }],
  [7, "a state that grows", "refuted", { gla: { state: (n) => 8 * n } }],
  [7, "too noisy to tell", "undecided", { gla: { noise: 4 } }],
  [8, "some keep less", "holds with a condition", {}],
  [8, "all keep less", "holds", { local: { kv: flat(262_144) }, strided: { kv: flat(262_144) } }],
  [8, "none keeps less", "refuted", { sinks: { kv: llama.kv }, "mistral-window": { kv: llama.kv } }],
  [8, "no subset", "refuted", { local: { pairs: 1 } }],
  [9, "constant, with a parallel scan that is as fast", "holds", {}, { races: [parallelRace] }],
  [9, "constant, with a parallel scan that is slower", "holds with a condition", {}],
  [9, "constant, without a race", "undecided", { mamba: { prompt: flat(600) } }, { races: [] }],
  [9, "constant, prompts read together", "holds with a condition", {}, { races: [] }],
  [
    9,
    "a race of serial scans alone",
    "holds with a condition",
    {},
    { races: [{ ...race, times_ns: { channels: 1, quad: 2 } }] },
  ],
  [9, "a state that grows", "refuted", { mamba: { state: (n) => 10 * n } }],
  [10, "windows are an exception", "holds with a condition", {}],
  [10, "all transformers grow and are slower", "holds", { "mistral-window": { kv: llama.kv } }],
  [
    10,
    "scratch outweighs what grows",
    "holds with a condition",
    { "mistral-window": { kv: llama.kv }, gru: { scratch: flat(3e6) } },
  ],
  [10, "transformers hold as little", "refuted", { llama: { kv: (n) => n } }],
  [10, "recurrent streams grow too", "refuted", { gru: { state: (n) => n } }],
  [11, "memory avoided, time not", "holds with a condition", {}],
  [
    11,
    "neither avoided",
    "holds",
    { llama: { scratch: (n) => 9000 + n ** 2 }, materialised: { scratch: (n) => 9000 + 17 * n ** 2 } },
  ],
  [11, "both avoided", "refuted", { llama: { decode: flat(400), prompt: flat(2000) } }],
  [11, "too noisy to tell", "undecided", { llama: { noise: 30 } }],
];

/** Cells whose only bytes beside weights are one vector. */
function one(): World {
  return Object.fromEntries(
    ["elman", "gru", "lstm"].map((arch) => [arch, { state: flat(1024), padding: 0, scratch: flat(0) }]),
  );
}
function oneLayer(): Findings["models"] {
  return Object.fromEntries(
    (["elman", "gru", "lstm"] as const).map((kind) => [
      kind,
      { layers: [{ kind, layers: 1, hidden: 256 }], weights: kind },
    ]),
  );
}

describe("verdicts follow the rows", () => {
  test.each(turns)("claim %i, %s: %s", (id, _, wanted, changes, more) => {
    const judged = claim(id, found(changes, more));
    expect(judged.verdict, judged.because).toBe(wanted);
    expect(judged.because.length).toBeGreaterThan(20);
    expect(judged.because).not.toMatch(/NaN|undefined|Infinity|\[object/);
    expect(judged.missing.length > 0).toBe(wanted === "undecided");
    for (const evidence of judged.evidence) expect(evidence.value, evidence.what).toSatisfy(Number.isFinite);
  });

  test("every claim is turned at least both ways", () => {
    for (const { id } of claims) {
      const verdicts = new Set(turns.filter(([claim]) => claim === id).map(([, , verdict]) => verdict));
      expect(verdicts.size, `claim ${id}`).toBeGreaterThan(1);
      expect(verdicts.has("refuted") && [...verdicts].some((v) => v.startsWith("holds")), `claim ${id}`).toBe(
        true,
      );
    }
  });
});

describe("sentences follow the rows", () => {
  const because = (id: number, changes: World = {}, more: Partial<Findings> = {}) =>
    claim(id, found(changes, more)).because;

  test("the state is counted by its formula, and alignment beside it", () => {
    expect(because(1)).toContain("here elman 2, gru 2 and lstm 4; alignment adds 128 B (elman)");
    const state = claim(1, found()).evidence.find(({ what }) => what === "state of elman in vectors of 480");
    expect(state && [showValue(state), showBasis(state)]).toEqual([
      "2 vectors",
      "arithmetic: 3,840 B / (480 x 4 B) (closed_state: the literature's formula)",
    ]);
  });

  test("a product of 160 GB is not taken for hundreds", () => {
    expect(because(2)).toContain(
      'at 16 bytes are 160 GB for one head and layer, which is not yet "hundreds of gigabytes"',
    );
  });

  test("the scratch of a chunk is not taken for growth, and the fit says where it begins", () => {
    const judged = claim(4, found({}, { rows: rowsOf(hidden, fullSizes.prompts) }));
    const fit = judged.evidence.find(({ what }) => what === "all scratch of llama");
    expect(fit).toMatchObject({
      kind: "extrapolation",
      value: 2_500_000 + 18.25e6,
      fitted_on: { from: 1024, to: 4096 },
    });
    expect(because(11, {}, { rows: rowsOf(hidden, fullSizes.prompts) })).toContain("that tiles N^1.00,");
  });

  test("attention counts as parallel where prompts are read faster than tokens are generated", () => {
    expect(because(5)).toContain("Parallel it is: a prompt is read 3.31 times as fast");
    expect(because(5, { llama: { prompt: flat(100) } })).toContain("Parallel it is not here: a prompt");
    expect(because(5, { llama: { prompt: flat(400) } })).toContain("Whether it is parallel, repetitions do");
  });

  test("prompts and generation each have their phase, and cells the size from which they are faster", () => {
    const level = llama.prompt(1024);
    const cells = Object.fromEntries(["elman", "gru", "lstm"].map((arch) => [arch, { prompt: flat(level) }]));
    expect(because(6, cells)).toMatch(
      /^Prompts: slower or within the spread\. Generation: faster\. Models within 20% of llama's/,
    );
    const text = because(6, {
      elman: { prompt: (length) => (length < 1000 ? 900 : 1900), decode: flat(1) },
      gru: { prompt: flat(9000), decode: flat(250) },
    });
    expect(text).toMatch(/^Prompts: slower or faster\. Generation: slower or faster\./);
    expect(text).toContain(
      "lengths at which a cell is faster: elman: from between 512 and 1,024 on; gru: all; lstm: ",
    );
    expect(text).toContain(
      "depths at which a cell is faster: elman: none (0.0025 times at 0, 0.00758 times at 2,032); gru: from between 240 and 1,008 on; lstm: all.",
    );
  });

  test("the rank is that of linear attention alone", () => {
    expect(because(7)).toMatch(/the N x N matrix of a head of linear-attention has a rank of at most 32\.$/);
  });

  test("what sparse attention costs in bits a byte is said by the weights that it runs on", () => {
    const priced = (window: number) =>
      claim(
        8,
        found(
          {},
          {
            rows: rowsOf({}).map((row) => ({
              ...row,
              bits_per_byte: { llama: 2.1, sinks: 2.25, "mistral-window": window }[row.arch] ?? null,
            })),
          },
        ),
      );
    const judged = priced(2.05);
    expect(judged.because).toContain(
      "unseen text takes 2.100 bits a byte under llama, and 2.250 (sinks) on the same weights; " +
        "mistral-window, trained with its pattern, takes 2.050 and pays no price.",
    );
    expect(priced(2.2).because).toMatch(/mistral-window, trained with its pattern, takes 2\.200\.$/);
    const bits = judged.evidence.filter(({ unit }) => unit === "bits/byte");
    expect(bits.map(({ value }) => value)).toEqual([2.05, 2.25, 2.1]);
    expect(bits.map(showBasis)).toEqual(["measured", "measured", "measured"]);
    expect(because(8)).not.toContain("bits a byte");
  });

  test("the price or the gain of a parallel scan is said, and which form runs", () => {
    expect(because(9)).toContain(
      "(chunks), which costs 2 times the serial one (channels) here; channels runs.",
    );
    expect(because(9, {}, { races: [parallelRace] })).toContain(
      "(chunks), which is 2 times as fast here as the serial one (channels); chunks runs.",
    );
    const nmse = claim(9, found()).evidence.find(({ unit }) => unit === "NMSE");
    expect(nmse && showBasis(nmse)).toBe("measured");
  });

  test("an error that was not measured is not spoken of", () => {
    const rows = rowsOf({}).map((row) => ({ ...row, nmse_vs_reference: null }));
    expect(claim(9, found({}, { rows })).evidence.map(({ unit }) => unit)).not.toContain("NMSE");
    expect(because(11)).toContain("with the same weights and both within an NMSE of 2.0e-14 of");
    expect(because(11, {}, { rows })).toContain("with the same weights: engineering alone");
  });

  test("a stream more is counted with its scratch, beside what it keeps", () => {
    // bytes: (4 x (kept + scratch) - (kept + scratch)) / 3
    expect(because(10)).toContain(
      "weights and scratch aside, against 524,288; scratch included, a stream more takes 4.30 MiB and 294.97 KiB here. " +
        "4 streams of gru together make 2.51 times as many tokens a second as those of llama.",
    );
    expect(because(10)).toContain("stops growing, at 256.00 KiB a stream.");
    expect(because(10, { gru: { scratch: flat(3e6) } })).toContain(
      "with its scratch a stream more of llama takes only 1.5 times as much as one of gru.",
    );
  });

  test("rates behind a ratio or an exponent have their unit, and shares are per cent", () => {
    const { evidence } = claim(11, found());
    const share = evidence.at(-1)!;
    expect(showValue(share)).toBe("99.8%");
    for (const { what } of evidence.slice(-4)) expect(what).toMatch(/time/);
    for (const e of evidence.slice(-4)) expect(showRows(e)).toMatch(/^llama \w+: [\d,]+ t\/s, /);
    expect(showRows(evidence[0]!)).not.toContain("t/s");
  });
});

describe("missing rows", () => {
  test("without rows nothing is decided, and each verdict names what it lacks", () => {
    const judged = judgeAll({ rows: [], races: [], models: {} });
    expect(judged.map(({ verdict }) => verdict)).toEqual(Array(11).fill("undecided"));
    for (const { missing, evidence, because } of judged) {
      expect(missing.length).toBeGreaterThan(0);
      expect(evidence).toEqual([]);
      for (const what of missing) expect(because).toContain(what);
    }
  });

  test("each architecture that a claim needs is missed where its rows are", () => {
    const { rows, ...rest } = found();
    for (const { id, needs } of claims) {
      for (const { arch } of needs) {
        const judged = claim(id, { ...rest, rows: rows.filter((row) => row.arch !== arch) });
        expect(judged.verdict, `claim ${id} without ${arch}`).toBe("undecided");
        expect(judged.missing.join()).toContain(arch);
      }
    }
  });

  test("a refused row says why it does not count", () => {
    const need = { arch: "materialised", kind: "prompt", least: 3 } as const;
    const rows = rowsOf({}).map((row) =>
      row.arch === "materialised" && row.n_prompt === 1024
        ? { ...row, status: "refused" as const, reason: "asked 3 GiB" }
        : row,
    );
    expect(unmet(need, rows)).toBe(
      "materialised: 2 of 3 prompt lengths at depth 0 (pp1024 refused: asked 3 GiB)",
    );
    expect(select(need, rows).map((row) => row.n_prompt)).toEqual([256, 512]);
  });

  test("figures that a claim needs are missed", () => {
    const rows = rowsOf({ sinks: { pairs: null } });
    expect(claim(8, found({}, { rows })).missing).toEqual([
      "sinks: 0 of 3 depths of generation with theory_pairs",
    ]);
  });
});

describe("the arithmetic", () => {
  test("10^10 pairs and 10^12 pairs, in bytes", () => {
    expect(pairsOf(100_000)).toBe(1e10);
    expect(scores(100_000, 16).value).toBe(160e9);
    expect(scores(100_000, 2).value).toBe(20e9);
    expect([2, 1, 0.5].map((bytes) => scores(1e6, bytes).value)).toEqual([2e12, 1e12, 0.5e12]);
    expect(decimalBytes(160e9)).toBe("160 GB");
    expect(decimalBytes(0.5e12)).toBe("500 GB");
  });

  test("is evidence of the claims about it, with Llama-3-8B's 128 KiB a token", () => {
    const values = (id: number) => claim(id, found()).evidence.map(({ value }) => value);
    expect(values(2)).toEqual(expect.arrayContaining([1e10, 160e9, 20e9]));
    expect(values(4)).toEqual(expect.arrayContaining([1e12, 2e12, 1e12, 0.5e12, 128 * 2 ** 30]));
  });

  test("large counts are shown as powers of ten", () => {
    expect(showValue({ kind: "arithmetic", value: 1e12, unit: "pairs" })).toBe("10^12 pairs");
    expect(showValue({ kind: "arithmetic", value: 160e9, unit: "B" })).toBe("160 GB (149.01 GiB)");
  });
});

describe("growth", () => {
  const points = (y: (n: number) => number) =>
    [256, 512, 1024, 4096].map((tokens) => ({ tokens, y: y(tokens) }));
  test("finds powers above a base, known or not", () => {
    expect(
      growth(
        points((n) => 4096 * n),
        0,
      ),
    ).toEqual({ slope: 4096, exponent: expect.closeTo(1, 12), base: 0, exact: true });
    expect(
      growth(
        points(() => 77),
        null,
      ),
    ).toEqual({ slope: 0, exponent: 0, base: 77, exact: true });
    expect(
      growth(
        points((n) => 5 + 3 * n),
        null,
      ),
    ).toEqual({ slope: 3, exponent: 1, base: 5, exact: true });
    for (const p of [0.5, 1.5, 2, 3]) {
      expect(
        growth(
          points((n) => 1e6 + 16 * n ** p),
          null,
        ).exponent,
      ).toBeCloseTo(p, 9);
      expect(
        growth(
          points((n) => 1e6 + 16 * n ** p),
          1e6,
        ),
      ).toMatchObject({ exponent: expect.closeTo(p, 9), exact: true });
    }
    expect(
      growth(
        points((n) => n ** 2 + 9 * n),
        0,
      ).exact,
    ).toBe(false);
  });

  test("repetitions that overlap tell nothing", () => {
    const { gru, llama } = Object.fromEntries(
      ["gru", "llama"].map((arch) => [
        arch,
        rowsOf({ gru: { decode: flat(405), noise: 1.1 } }).find((row) => row.arch === arch && row.n_gen > 0)!,
      ]),
    ) as { gru: Row; llama: Row };
    expect(side(rateRatio(gru, llama))).toBe(0);
    expect(side(rateRatio({ ...gru, samples_ts: [500, 510] }, llama))).toBe(1);
    expect(side(rateRatio({ ...gru, samples_ts: [300, 310] }, llama))).toBe(-1);
  });

  test("the exponent of time comes with what the ends allow", () => {
    const rows = select(
      { arch: "gla", kind: "prompt" },
      rowsOf({ gla: { prompt: (n) => 3e5 / n, noise: 1.2 } }),
    );
    const { exponent, spread } = timeExponent(rows, (row) => row.n_prompt);
    expect(exponent).toBeCloseTo(2, 9);
    expect(spread[0]).toBeCloseTo(2 - Math.log(1.1) / Math.log(4), 9);
    expect(spread[1]).toBeCloseTo(2 + Math.log(1.1) / Math.log(4), 9);
  });
});
