import { describe, expect, test } from "vitest";
import { answersOf } from "../bench/answers.ts";
import { type Crossover, crossoversOf } from "../bench/crossover.ts";
import { formatResults } from "../bench/printers/index.ts";
import { reportHtml } from "../bench/report.ts";
import { type Curve, emptyRow, type Results, type Row } from "../bench/row.ts";
import { uniform } from "../models/random.ts";

const depths = [0, 1024, 4096];
/** Repetitions above and below their mean, which is kept. */
const still = [1, 1, 1];
const shaky = [0.98, 0.99, 1, 1.01, 1.02];

interface Made {
  model: string;
  /** Nanoseconds a token: at depth 0, and for each token of depth. */
  base: number;
  slope: number;
  kv?: number;
  noise?: number[];
  at?: number[];
  streams?: number;
}

const rowsOf = ({ model, base, slope, kv = slope, noise = still, at = depths, streams = 1 }: Made): Row[] =>
  at.map((n_depth) =>
    emptyRow({
      model,
      arch: model,
      n_gen: 16,
      n_depth,
      n_parallel: streams,
      theory_kv: kv,
      samples_ns: noise.map((factor) => factor * 16 * (base + slope * n_depth)),
    }),
  );

const flatCurve = (model: string, bytes: number, to = 8192): Curve => ({
  model,
  arch: model,
  points: [
    { context: 1, bytes },
    { context: to, bytes },
  ],
});
/** Pages of 256 tokens of 100 bytes. */
const pagedCurve = (model: string, to = 8192): Curve => ({
  model,
  arch: model,
  points: Array.from({ length: to / 256 }, (_, page) => [
    { context: 256 * page + 1, bytes: 25_600 * (page + 1) },
    { context: 256 * (page + 1), bytes: 25_600 * (page + 1) },
  ]).flat(),
});

const one = (made: Made[], curves: Curve[] = []): Crossover => {
  const found = crossoversOf(made.flatMap(rowsOf), curves);
  expect(found).toHaveLength(1);
  return found[0]!;
};

describe("speed", () => {
  const flat: Made = { model: "flat", base: 300, slope: 0 };

  test("two lines cross where they do, without spread at that depth alone", () => {
    const [speed] = one([flat, { model: "grows", base: 100, slope: 0.1 }]).speed;
    expect(speed).toMatchObject({
      n_gen: 16,
      n_parallel: 1,
      from_depth: 0,
      to_depth: 4096,
      faster_first: "grows",
      faster_last: "flat",
      extrapolated_depth: null,
      agreement: 1,
      repetitions: 3,
    });
    for (const key of ["depth", "depth_low", "depth_high"] as const) expect(speed![key]).toBeCloseTo(2000, 6);
  });

  test("noise widens the interval around the depth, the same way every time", () => {
    const made: Made[] = [
      { ...flat, noise: shaky },
      { model: "grows", base: 100, slope: 0.1, noise: shaky },
    ];
    const [speed] = one(made).speed;
    expect(speed!.depth).toBeCloseTo(2000, 6);
    expect(speed!.depth_low).toBeLessThan(1995);
    expect(speed!.depth_low).toBeGreaterThan(1800);
    expect(speed!.depth_high).toBeGreaterThan(2005);
    expect(speed!.depth_high).toBeLessThan(2200);
    expect(one(made).speed).toEqual([speed]);
  });

  test("the interval holds the truth about as often as it says", () => {
    const random = uniform(7);
    const normal = () => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
    const noisy = () => Array.from({ length: 20 }, () => 1 + 0.05 * normal());
    const runs = Array.from({ length: 20 }, () => {
      const rows = depths.flatMap((depth) => [
        ...rowsOf({ ...flat, at: [depth], noise: noisy() }),
        ...rowsOf({ model: "grows", base: 100, slope: 0.1, at: [depth], noise: noisy() }),
      ]);
      const { depth_low, depth_high } = crossoversOf(rows, [])[0]!.speed[0]!;
      return depth_low! <= 2000 && depth_high! >= 2000;
    });
    expect(runs.filter(Boolean).length).toBeGreaterThan(15);
  });

  test("no crossing within the range is an answer, and the line's is marked as an extrapolation", () => {
    const [later] = one([flat, { model: "grows", base: 100, slope: 0.01 }]).speed;
    expect(later).toMatchObject({
      depth: null,
      depth_low: null,
      faster_first: "grows",
      faster_last: "grows",
    });
    expect(later!.extrapolated_depth).toBeCloseTo(20_000, 3);
    const [never] = one([flat, { model: "grows", base: 400, slope: 0.1 }]).speed;
    expect(never).toMatchObject({
      depth: null,
      faster_first: "flat",
      extrapolated_depth: null,
      agreement: 1,
    });
  });

  test("a doubtful order says so", () => {
    const [speed] = one([
      { ...flat, noise: shaky },
      { ...flat, model: "twin", base: 300.5, noise: [...shaky].reverse() },
    ]).speed;
    expect(speed!.depth).toBeNull();
    expect(speed!.agreement).toBeLessThan(0.95);
  });

  test("a fixed state has no slope, and nothing has one below 0", () => {
    // 5% slower at depth 0: noise of the machine
    const cold = depths.map((at) =>
      rowsOf({ model: "cold", base: at === 0 ? 315 : 300, slope: 0, at: [at] }),
    );
    const grows = rowsOf({ model: "grows", base: 304, slope: 0.001, kv: 1 });
    const [{ speed }] = crossoversOf([...cold.flat(), ...grows], []) as [Crossover];
    expect(speed[0]!.faster_first).toBe("grows");
    expect(speed[0]!.depth).toBeCloseTo(1000, 3);
  });

  test("only depths that both were measured at count, and tests of other streams stand apart", () => {
    const grows: Made = { model: "grows", base: 100, slope: 0.1, at: [512, 1024] };
    const [speed] = one([flat, grows]).speed;
    expect(speed).toMatchObject({ from_depth: 512, to_depth: 1024, depth: null, faster_last: "grows" });
    expect(crossoversOf([flat, { ...grows, at: [512] }].flatMap(rowsOf), [])).toEqual([]);
    const both = [flat, { ...grows, at: depths }];
    const streams = both.map((made) => ({ ...made, streams: 4 }));
    const found = one([...both, ...streams]);
    expect(found.speed.map(({ n_parallel }) => n_parallel)).toEqual([1, 4]);
  });

  test("rows that failed, and prompts, say nothing", () => {
    const failed = rowsOf(flat).map((row): Row => ({ ...row, status: "failed", samples_ns: null }));
    const prompts = rowsOf(flat).map((row) => ({ ...row, n_prompt: 16, n_gen: 0 }));
    const other = rowsOf({ ...flat, model: "other" });
    expect(crossoversOf([...failed, ...prompts, ...other], [])).toEqual([]);
  });
});

describe("bytes", () => {
  const made: Made[] = [
    { model: "grows", base: 100, slope: 0.1 },
    { model: "flat", base: 300, slope: 0 },
  ];

  test("cross exactly at a page's edge, the fixed state first in the pair", () => {
    const found = one(made, [pagedCurve("grows"), flatCurve("flat", 60_000)]);
    expect(found.models).toEqual(["flat", "grows"]);
    expect(found.grows).toEqual([false, true]);
    expect(found.bytes).toEqual({
      smaller_first: "grows",
      smaller_last: "flat",
      context: 513,
      to_context: 8192,
    });
  });

  test("never within the curves, from the start, and equal for a while", () => {
    const bytes = (flat: number, to?: number) =>
      one(made, [pagedCurve("grows"), flatCurve("flat", flat, to)]).bytes;
    expect(bytes(1e9, 4096)).toEqual({
      smaller_first: "grows",
      smaller_last: "grows",
      context: null,
      to_context: 4096,
    });
    expect(bytes(10)).toMatchObject({ smaller_first: "flat", smaller_last: "flat", context: null });
    expect(bytes(25_600)).toMatchObject({ smaller_first: null, smaller_last: "flat", context: 257 });
    expect(bytes(25_600, 256)).toMatchObject({ smaller_first: null, smaller_last: null, context: null });
  });

  test("without a curve nothing is said of them", () => {
    expect(one(made)).toMatchObject({ grows: [null, null], bytes: null });
  });
});

describe("in words", () => {
  const curves = [pagedCurve("grows"), flatCurve("flat", 60_000), flatCurve("other", 10)];
  const rows = [
    { model: "grows", base: 100, slope: 0.1 },
    { model: "flat", base: 300, slope: 0 },
    { model: "other", base: 900, slope: 0 },
  ].flatMap(rowsOf);
  const results = {
    schema: "longtape/1",
    environment: {
      command: "npm run bench",
      started: "2026-01-02T03:04:05Z",
      versions: {},
      verdicts: [],
      tuned: [],
      features: [],
      limits: {},
      browser_flags: [],
      adapter: null,
      curves,
    },
    rows,
    crossovers: crossoversOf(rows, curves),
  } as unknown as Results;

  test("only what is fixed beside what grows", () => {
    const [answer] = answersOf(results);
    expect(answer!.rows).toEqual([
      ["flat", "grows", "flat from depth 2,000 on [2,000 to 2,000]", "flat from 513 tokens on (to 8,192)"],
      [
        "other",
        "grows",
        "no crossing: grows at every depth from 0 to 4,096; extrapolated, other from about 8,000",
        "other, 1 to 8,192 tokens",
      ],
    ]);
    expect(answer!.note).toContain("as few as 3 repetitions");
  });

  test("an interval that reaches past what was measured says so", () => {
    const speed = { ...results.crossovers![0]!.speed[0]!, depth: 900, depth_low: null, depth_high: null };
    const said = (change: object) => {
      const crossovers = [{ ...results.crossovers![0]!, speed: [{ ...speed, ...change }] }] as Crossover[];
      return answersOf({ ...results, crossovers })[0]!.rows[0]![2];
    };
    const first = speed.faster_last;
    expect(said({})).toBe(`${first} from depth 900 on [the start to past 4,096]: undecided`);
    expect(said({ from_depth: 16 })).toBe(`${first} from depth 900 on [before 16 to past 4,096]: undecided`);
    const doubtful = { depth: null, agreement: 0.604, extrapolated_depth: null };
    expect(said(doubtful)).toContain("in 60% of the resampled runs: undecided");
  });

  test("stand in Markdown, in the report and in results.json", () => {
    for (const text of [formatResults("md", results), reportHtml(results)]) {
      expect(text).toContain("Where they cross");
      expect(text).toContain("flat from 513 tokens on (to 8,192)");
    }
    expect(JSON.parse(formatResults("json", results)).crossovers).toEqual(results.crossovers);
    expect(answersOf({ ...results, crossovers: [] })).toEqual([]);
  });
});
