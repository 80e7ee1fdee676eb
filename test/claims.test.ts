import { describe, expect, test } from "vitest";
import { pairsOf, scores } from "../bench/claims/arithmetic.ts";
import type { Findings, Outcome } from "../bench/claims/claim.ts";
import { decimalBytes, showValue } from "../bench/claims/evidence.ts";
import { growth, rateRatio, side, timeExponent } from "../bench/claims/growth.ts";
import { claims, judgeAll } from "../bench/claims/index.ts";
import { select, unmet } from "../bench/claims/needs.ts";
import type { Row } from "../bench/row.ts";
import { claim, flat, found, llama, models, race, rowsOf, type World, whole } from "./tools/claimsWorld.ts";

/** What is claimed, a world in which it is so or not, and the verdict there. */
const turns: [id: number, what: string, Outcome, World, Partial<Findings>?][] = [
  [1, "vectors of several layers, and scratch", "holds with a condition", {}],
  [1, "one vector and nothing besides", "holds", one(), { models: oneLayer() }],
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
  [6, "prompts slower, generation faster", "holds with a condition", {}],
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
  [9, "constant, with a parallel scan", "holds", {}],
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
    ["elman", "gru", "lstm"].map((arch) => [arch, { state: flat(1024), scratch: flat(0) }]),
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

test("what sparse attention costs in bits a byte is said where it was measured", () => {
  const rows = rowsOf({}).map((row) => ({
    ...row,
    bits_per_byte: row.arch === "llama" ? 2.1 : row.arch === "sinks" ? 2.25 : null,
  }));
  const judged = claim(8, found({}, { rows }));
  expect(judged.because).toContain("unseen text takes 2.100 (llama) and 2.250 (sinks) bits a byte");
  expect(judged.evidence.filter(({ unit }) => unit === "bits/byte").map(({ value }) => value)).toEqual([
    2.25, 2.1,
  ]);
  expect(claim(8, found()).because).not.toContain("bits a byte");
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
