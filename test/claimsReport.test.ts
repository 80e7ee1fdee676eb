import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseHTML } from "linkedom";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Judged } from "../bench/claims/claim.ts";
import { claimsJson, claimsMarkdown, verdictTable } from "../bench/claims/documents.ts";
import { showRows } from "../bench/claims/evidence.ts";
import { claims, judgeAll } from "../bench/claims/index.ts";
import { shippedModels } from "../bench/claims/models.ts";
import { unmet } from "../bench/claims/needs.ts";
import { fullSizes, planOf, quickSizes } from "../bench/claims/plan.ts";
import { reportHtml } from "../bench/report.ts";
import { type Environment, emptyRow, type Results } from "../bench/row.ts";
import { shipped } from "../bench/shipped.ts";
import { testName } from "../bench/tests.ts";
import { found, models, race, rowsOf } from "./tools/claimsWorld.ts";
import { ended, project, run, start } from "./tools/command.ts";

describe("the plan", () => {
  const at = join(project, "models/checkpoints");
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
  tuned: [],
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
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "longtape-claims-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("runs every row, refused as they may be, writes its files, and says what is missing", {
    timeout: 300_000,
  }, async () => {
    const out = join(folder, "refused");
    const ran = await run("claims", ["--quick", "--runtime", "node", "--max-bytes", "1M", "--out", out]);
    expect(ran.code, ran.err).toBe(0);
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
    expect(ran.out).toBe(verdictTable(document.claims));
    // rows go to stderr as they finish
    expect(ran.err).toContain("| llama ");
  });

  test("Ctrl-C keeps and judges what is there", { timeout: 300_000 }, async () => {
    const out = join(folder, "stopped");
    const child = start("claims", ["--quick", "--runtime", "node", "--out", out]);
    let rows = "";
    child.stderr!.on("data", (text) => {
      rows += text;
      if (/^\| elman /m.test(rows) && !child.killed) child.kill("SIGINT");
    });
    const ran = await ended(child);
    expect(ran.code).toBe(130);
    const results = JSON.parse(await readFile(join(out, "results.json"), "utf8")) as Results;
    expect(results.rows[0]!.arch).toBe("elman");
    const document = JSON.parse(await readFile(join(out, "claims.json"), "utf8"));
    expect(document.claims.map(({ verdict }: Judged) => verdict)).toEqual(Array(11).fill("undecided"));
    expect(ran.out).toBe(verdictTable(document.claims));
  });

  test("says in a sentence what is wrong with a flag, and runs nothing", { timeout: 60_000 }, async () => {
    for (const [args, message] of [
      [["--nope"], /^unknown option '--nope'/],
      [["--max-bytes", "much"], /^--max-bytes: found "much", wanted a size as .*\n$/],
      [["--seed", "-1"], /^--seed: found "-1", wanted a whole number from 0 .*\n$/],
    ] as const) {
      const ran = await run("claims", [...args]);
      expect(ran.code, ran.err).toBe(2);
      expect(ran.err).toMatch(message);
      expect(ran.out).toBe("");
    }
  });
});
