import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseHTML } from "linkedom";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pairsOf, scores } from "../bench/claims/arithmetic.ts";
import type { Findings, Judged, Outcome } from "../bench/claims/claim.ts";
import { claimsJson, claimsMarkdown, verdictTable } from "../bench/claims/documents.ts";
import { decimalBytes, showRows, showValue } from "../bench/claims/evidence.ts";
import { growth, rateRatio, side, timeExponent } from "../bench/claims/growth.ts";
import { claims, judgeAll } from "../bench/claims/index.ts";
import { shippedModels } from "../bench/claims/models.ts";
import { select, unmet } from "../bench/claims/needs.ts";
import { fullSizes, planOf, quickSizes } from "../bench/claims/plan.ts";
import { reportHtml } from "../bench/report.ts";
import { type Environment, emptyRow, type Results, type Row } from "../bench/row.ts";
import { shipped } from "../bench/shipped.ts";
import { timing } from "../bench/stats.ts";
import { testName } from "../bench/tests.ts";

/** How a made-up architecture behaves: bytes over the tokens in its context, tokens a second over depth or length. */
interface Behaviour {
  parameters: number;
  state(tokens: number): number;
  kv(tokens: number): number;
  scratch(tokens: number): number;
  /** Tokens a second of one stream. */
  decode(depth: number): number;
  prompt(length: number): number;
  /** Share of full attention's pairs. */
  pairs: number | null;
  /** Slowest repetition over the fastest. */
  noise: number;
}

const flat = (value: number) => () => value;
const cell: Behaviour = {
  parameters: 850_000,
  state: flat(2048),
  kv: flat(0),
  scratch: flat(300_000),
  decode: flat(500),
  prompt: flat(1400),
  pairs: null,
  noise: 1.02,
};
const llama: Behaviour = {
  ...cell,
  parameters: 857_216,
  state: flat(0),
  kv: (tokens) => 4096 * tokens,
  scratch: (tokens) => 300_000 + 18.25 * tokens,
  decode: (depth) => 400 / (1 + depth / 1000),
  prompt: (length) => 2000 / (1 + length / 2000),
  pairs: 1,
};
const window: Behaviour = { ...llama, kv: flat(262_144), scratch: flat(300_000), pairs: 0.06 };
const usual: Record<string, Behaviour> = {
  elman: { ...cell, state: flat(3840) },
  gru: cell,
  lstm: { ...cell, state: flat(3584) },
  llama,
  materialised: { ...llama, scratch: (tokens) => llama.scratch(tokens) + 16 * tokens ** 2 },
  "mistral-window": window,
  sinks: window,
  local: { ...llama, pairs: 0.06 },
  strided: { ...llama, pairs: 0.07 },
  "linear-attention": { ...cell, state: flat(67_584), prompt: flat(3000) },
  gla: { ...cell, state: flat(32_768), prompt: flat(3000) },
  mamba: { ...cell, state: flat(116_736), prompt: flat(3000) },
};

type World = Record<string, Partial<Behaviour>>;

function rowsOf(changes: World): Row[] {
  return Object.entries(usual).flatMap(([arch, behaviour]) => {
    const b = { ...behaviour, ...changes[arch] };
    const row = (n_prompt: number, n_gen: number, n_depth: number, n_parallel = 1): Row => {
      const context = n_prompt + n_gen + n_depth;
      const rate = n_parallel * (n_prompt > 0 ? b.prompt(n_prompt) : b.decode(n_depth));
      const tokens = n_parallel * (n_prompt + n_gen);
      const figures = {
        mem_weights: 4 * b.parameters,
        mem_state: n_parallel * b.state(context),
        mem_kv: n_parallel * b.kv(context),
        mem_scratch: n_parallel * b.scratch(context),
      };
      return emptyRow({
        arch,
        model: arch,
        model_n_params: b.parameters,
        test: testName({ n_prompt, n_gen, n_depth }),
        n_prompt,
        n_gen,
        n_depth,
        n_parallel,
        ...timing(
          [1, (1 + b.noise) / 2, b.noise].map((slower) => (slower * tokens * 1e9) / rate),
          tokens,
        ),
        ...figures,
        mem_live: Object.values(figures).reduce((a, b) => a + b),
        closed_kv: figures.mem_kv,
        theory_pairs: b.pairs === null ? null : Math.round(b.pairs * n_gen * 16 * context),
        nmse_vs_reference: 2e-14,
      });
    };
    return [
      ...[256, 512, 1024].map((length) => row(length, 0, 0)),
      ...[0, 240, 1008, 2032].map((depth) => row(0, 16, depth)),
      ...[2, 4].map((streams) => row(0, 16, 1008, streams)),
    ];
  });
}

const models: Findings["models"] = {
  elman: { layers: [{ kind: "elman", layers: 2, hidden: 480 }], weights: "elman" },
  gru: { layers: [{ kind: "gru", layers: 2, hidden: 256 }], weights: "gru" },
  lstm: { layers: [{ kind: "lstm", layers: 2, hidden: 224 }], weights: "lstm" },
  llama: { layers: [], weights: "llama" },
  "linear-attention": {
    layers: [{ kind: "linear", layers: 4, heads: 4, keyDim: 32, valueDim: 32, normaliser: true }],
    weights: "linear-attention",
  },
  gla: {
    layers: [{ kind: "linear", layers: 4, heads: 4, keyDim: 16, valueDim: 32, normaliser: false }],
    weights: "gla",
  },
};
const race = {
  kernel: "selectiveScan",
  sizes: "B=1 T=64 E=256 N=16 R=8",
  variant: "channels",
  times_ns: { channels: 1.9e6, quad: 3e6, chunks: 2.2e6 },
};

const found = (changes: World = {}, more: Partial<Findings> = {}): Findings => ({
  rows: rowsOf(changes),
  races: [race],
  models,
  ...more,
});
const claim = (id: number, findings: Findings): Judged =>
  judgeAll(findings).find((judged) => judged.id === id)!;
const whole = (all: Record<string, number>): World =>
  Object.fromEntries(
    Object.entries(all).map(([arch, rate]) => [arch, { decode: flat(rate), prompt: flat(rate) }]),
  );

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

describe("the plan", () => {
  const at = join(resolve(import.meta.dirname, ".."), "models/checkpoints");
  test.each([
    ["quick", quickSizes],
    ["full", fullSizes],
  ])("%s: meets every need of every claim whose architectures are shipped", (_, sizes) => {
    const planned = planOf(sizes, at).flatMap(({ subject, tests }) =>
      tests.map((test) =>
        emptyRow({
          arch: subject.arch,
          ...test,
          test: testName(test),
          avg_ns: 1,
          mem_live: 1,
          theory_pairs: 1,
        }),
      ),
    );
    for (const { needs } of claims) {
      for (const need of needs) expect(unmet(need, planned) === null, need.arch).toBe(need.arch in shipped);
    }
    const tests = planned.map(({ arch, test, n_parallel }) => `${arch} ${test} ${n_parallel}`);
    expect(new Set(tests).size).toBe(tests.length);
  });

  test("knows the shipped models' layers and weights", () => {
    const known = shippedModels(at);
    expect(Object.keys(known)).toEqual(Object.keys(shipped));
    expect(known.lstm).toEqual({ layers: [{ kind: "lstm", layers: 2, hidden: 224 }], weights: "lstm" });
  });
});

const environment: Environment = {
  command: "npm run claims -- --quick",
  started: "2026-01-02T03:04:05Z",
  build_commit: "abc1234",
  versions: { longtape: "0.1.0" },
  runtime: "chrome",
  browser: "Chrome 147",
  browser_flags: [],
  os: "Linux",
  cpu: "a <CPU> | b",
  cpu_cores: 2,
  node: "v20.20.2",
  adapter: { vendor: "", architecture: "", device: "", description: "Soft <b>Device</b>", software: true },
  limits: {},
  features: [],
  verdicts: [race],
  clock_quantum_ns: 1e5,
  tab_hidden: false,
  seed: 1337,
};
const judged = judgeAll(found());

describe("documents", () => {
  test("quotations are the article's", () => {
    expect(claims.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    for (const { quote } of claims) expect(quote).toMatch(/".+"/);
    expect(claims[2]!.quote).toBe(
      '"The KV cache required during decoding similarly scales quadratically with context".',
    );
  });

  test("claims.json holds every claim, its verdict and where it was measured", () => {
    const document = JSON.parse(claimsJson(judged, environment));
    expect(document.schema).toBe("longtape-claims/1");
    expect(document.build_commit).toBe("abc1234");
    expect(document.adapter.software).toBe(true);
    expect(document.claims).toHaveLength(11);
    for (const claim of document.claims) {
      expect(Object.keys(claim).sort()).toEqual([
        "because",
        "evidence",
        "id",
        "missing",
        "quote",
        "title",
        "verdict",
      ]);
      for (const evidence of claim.evidence)
        expect(evidence.kind).toMatch(/^(measurement|arithmetic|extrapolation)$/);
    }
    const cache = document.claims[2].evidence[0];
    expect(cache).toMatchObject({ unit: "exponent", exact: true });
    expect(cache.rows[0]).toEqual({ arch: "llama", test: "tg16", streams: 1, value: 65_536 });
    const far = document.claims[3].evidence.find((e: { kind: string }) => e.kind === "extrapolation");
    expect(far).toMatchObject({ tokens: 1e6, fitted_on: { from: 256, to: 1024 } });
  });

  test("claims.md quotes, judges and cites, and no name breaks out of it", () => {
    const text = claimsMarkdown(judged, environment);
    for (const { id, title, quote, verdict } of judged) {
      expect(text).toContain(`## ${id}. ${title}: ${verdict}`);
      expect(text).toContain(`> ${quote}`);
    }
    expect(text).toContain("a \\<CPU> \\| b");
    expect(text).not.toMatch(/[^\\]<b>/);
    for (const line of text.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| no")))
      expect(line.replaceAll("\\|", "").split("|").length, line).toBeGreaterThan(3);
    expect(claimsMarkdown(judgeAll({ rows: [], races: [], models: {} }), environment)).toContain(
      "llama: 0 of 3",
    );
  });

  test("the table on the terminal has a line a claim", () => {
    const lines = verdictTable(judged).trimEnd().split("\n");
    expect(lines).toHaveLength(2 + 11);
    expect(lines[4]).toMatch(/^\| {2}3 \| The KV cache grows quadratically +\| refuted +\|$/);
    expect(new Set(lines.map((line) => line.length)).size).toBe(1);
  });

  test("rows behind a figure are named once an architecture", () => {
    const [first] = judged[2]!.evidence;
    expect(showRows(first!)).toBe(
      "llama tg16: 65,536, tg16 @ d240: 1,048,576, tg16 @ d1008: 4,194,304, tg16 @ d2032: 8,388,608",
    );
  });
});

describe("the report's section", () => {
  const results: Results = { schema: "longtape/1", environment, rows: rowsOf({}) };
  const { document } = parseHTML(reportHtml(results, judged));

  test("has a badge, the quotation, the reason and folded evidence for each claim", () => {
    const articles = [...document.querySelectorAll("section.claims article")];
    expect(articles).toHaveLength(11);
    for (const [i, article] of articles.entries()) {
      const { quote, verdict, because, evidence } = judged[i]!;
      expect(article.querySelector(".badge")?.textContent).toBe(verdict);
      expect(article.querySelector("blockquote")?.textContent).toBe(quote);
      expect(article.textContent).toContain(because);
      expect(article.querySelectorAll("details tbody tr")).toHaveLength(evidence.length);
    }
  });

  test("stands beside charts of what is kept, worked in and timed", () => {
    const charts = [...document.querySelectorAll("figure svg")].map((svg) => svg.getAttribute("aria-label"));
    for (const wanted of [
      "Bytes against context",
      "Scratch against context, prompts",
      "Generation: tokens a second against depth",
      "Prompt: tokens a second",
    ])
      expect(charts).toContain(wanted);
    expect(document.toString()).not.toMatch(/NaN|undefined/);
  });

  test("escapes all that comes from rows", () => {
    const hostile = '<img src=x onerror="alert(1)">';
    const rows = rowsOf({}).map((row) =>
      row.arch === "gru" ? { ...row, status: "failed" as const, reason: hostile } : row,
    );
    const text = reportHtml({ ...results, rows }, judgeAll({ rows, races: [], models }));
    expect(text).not.toContain("<img");
    expect(text).toContain("&lt;img src=x");
    expect(claimsMarkdown(judgeAll({ rows, races: [], models }), environment)).not.toMatch(/[^\\]<img/);
  });

  test("is not there where nothing was judged", () => {
    expect(reportHtml(results).includes("<article")).toBe(false);
  });
});

describe("npm run claims", () => {
  const project = resolve(import.meta.dirname, "..");
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "longtape-claims-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("runs every row, refused as they may be, writes its files, and says what is missing", {
    timeout: 300_000,
  }, async () => {
    const out = join(folder, "refused");
    const ran = await claimsCommand(project, [
      "--quick",
      "--runtime",
      "node",
      "--max-bytes",
      "1M",
      "--out",
      out,
    ]);
    expect(ran.code, ran.stderr).toBe(0);
    const files = await readdir(out);
    expect(files.sort()).toEqual(
      ["claims.json", "claims.md", "report.html", "results.csv", "results.json", "results.md"].sort(),
    );
    const { rows, environment } = JSON.parse(await readFile(join(out, "results.json"), "utf8")) as Results;
    const planned = planOf(quickSizes, "").flatMap(({ subject, tests }) => tests.map(() => subject.arch));
    expect(rows.map(({ arch }) => arch)).toEqual(planned);
    expect(new Set(rows.map(({ status }) => status))).toEqual(new Set(["refused"]));
    expect(environment.command).toBe(`npm run claims -- --quick --runtime node --max-bytes 1M --out ${out}`);
    const document = JSON.parse(await readFile(join(out, "claims.json"), "utf8"));
    expect(document.claims.map(({ verdict }: Judged) => verdict)).toEqual(Array(11).fill("undecided"));
    expect(document.claims[2].because).toMatch(
      /^Rows are missing: llama: 0 of 4 depths of generation \(tg32 refused: /,
    );
    expect(ran.stdout).toBe(verdictTable(document.claims));
    // rows go to stderr as they finish
    expect(ran.stderr).toContain("| llama ");
  });

  test("says in a sentence what is wrong with a flag, and runs nothing", { timeout: 60_000 }, async () => {
    for (const [args, message] of [
      [["--nope"], /^unknown option '--nope'/],
      [["--max-bytes", "much"], /^--max-bytes: found "much", wanted a size as .*\n$/],
      [["--seed", "-1"], /^--seed: found "-1", wanted a whole number from 0 .*\n$/],
    ] as const) {
      const ran = await claimsCommand(project, [...args]);
      expect(ran.code, ran.stderr).toBe(2);
      expect(ran.stderr).toMatch(message);
      expect(ran.stdout).toBe("");
    }
  });
});

function claimsCommand(
  cwd: string,
  args: string[],
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, ["--import", "tsx", "bench/claims.ts", ...args], { cwd });
  const ran = { code: null as number | null, stdout: "", stderr: "" };
  child.stdout.on("data", (text) => {
    ran.stdout += text;
  });
  child.stderr.on("data", (text) => {
    ran.stderr += text;
  });
  return new Promise((done) => child.on("close", (code) => done({ ...ran, code })));
}
