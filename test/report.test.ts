import { parseHTML } from "linkedom";
import { describe, expect, test } from "vitest";
import { colours, palette } from "../bench/charts.ts";
import { html } from "../bench/html.ts";
import { reportHtml } from "../bench/report.ts";
import { type Environment, emptyQuality, emptyRow, fields, type Results, type Row } from "../bench/row.ts";
import { timing } from "../bench/stats.ts";
import { testName } from "../bench/tests.ts";

/** Made-up figures in the shape of a real run: bytes are the formulas', rates are invented. */
const models: {
  arch: string;
  state: number;
  kvPerToken: number;
  window: number;
  params: number;
  rate: number;
}[] = [
  { arch: "elman", state: 3840, kvPerToken: 0, window: 0, params: 910_464, rate: 410 },
  { arch: "gru", state: 2048, kvPerToken: 0, window: 0, params: 789_760, rate: 388 },
  { arch: "lstm", state: 3584, kvPerToken: 0, window: 0, params: 810_752, rate: 395 },
  { arch: "llama", state: 0, kvPerToken: 4096, window: 1e9, params: 857_216, rate: 120 },
  { arch: "mistral-window", state: 0, kvPerToken: 4096, window: 64, params: 857_216, rate: 125 },
  { arch: "linear-attention", state: 67_584, kvPerToken: 0, window: 0, params: 857_344, rate: 141 },
  { arch: "gla", state: 32_768, kvPerToken: 0, window: 0, params: 869_888, rate: 118 },
  { arch: "mamba", state: 116_736, kvPerToken: 0, window: 0, params: 765_312, rate: 97 },
];

const environment: Environment = {
  command: "npm run bench -- -d 0,1024,4096",
  started: "2026-01-02T03:04:05Z",
  build_commit: "abc1234",
  versions: { longtape: "0.1.0" },
  runtime: "chrome",
  browser: "Chrome 147.0.7727.0",
  browser_flags: ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
  os: "Linux 6.8 x64",
  cpu: "A processor",
  cpu_cores: 2,
  node: "v20.20.2",
  adapter: {
    vendor: "google",
    architecture: "swiftshader",
    device: "",
    description: "SwiftShader Device (Subzero)",
    software: true,
  },
  limits: { maxBufferSize: 1_073_741_824, maxStorageBufferBindingSize: 1_073_741_820 },
  features: ["subgroups", "timestamp-query"],
  verdicts: [
    {
      kernel: "matvec",
      sizes: "O=384 I=128",
      variant: "tiled",
      times_ns: { tiled: 21_000, subgroup: 52_000 },
      kept: true,
    },
  ],
  tuned: [{ model: "llama", tune: "cached", kept: 1, raced: 0, race_ns: 2e6 }],
  clock_quantum_ns: 100_000,
  tab_hidden: false,
  seed: 1337,
  curves: [
    {
      arch: "llama",
      model: "llama",
      points: Array.from({ length: 17 }, (_, i) => 256 * (i + 1)).map((context) => ({
        context,
        bytes: context * 4096,
      })),
    },
  ],
};

const rows: Row[] = models.flatMap(({ arch, state, kvPerToken, window, params, rate }) => {
  const row = (n_prompt: number, n_gen: number, n_depth: number) => {
    const context = n_prompt + n_gen + n_depth;
    const tokens = n_prompt + n_gen;
    const slots = window > context ? Math.ceil(context / 256) * 256 : window;
    const speed = (n_prompt > 0 ? rate * 6 : rate) / (1 + (kvPerToken && window > 64 ? n_depth / 2500 : 0));
    return emptyRow({
      build_commit: "abc1234",
      arch,
      model: arch,
      model_n_params: params,
      backend: "webgpu",
      adapter: "SwiftShader Device (Subzero)",
      software: true,
      test: testName({ n_prompt, n_gen, n_depth }),
      n_prompt,
      n_gen,
      n_depth,
      ...timing(
        [0.98, 1, 1.03].map((noise) => (noise * tokens * 1e9) / speed),
        tokens,
      ),
      mem_weights: params * 4,
      mem_state: state,
      mem_kv: slots * kvPerToken,
      mem_asked: params * 4 + state + slots * kvPerToken + 30_000,
      theory_state: state,
      theory_kv: slots * kvPerToken,
      theory_err_pct: 0,
      overhead_pct: 3.2,
      dispatches_per_token: 31,
      nmse_vs_reference: 3.1e-14,
    });
  };
  return [row(512, 0, 0), row(0, 128, 0), row(0, 128, 1024), row(0, 128, 4096)];
});
const hostile = emptyRow({
  arch: "hybrid:mamba*3+attn",
  model: `<script>alert("x")</script>&'`,
  status: "refused",
  reason: "asked 3 GiB, held 1 GiB, longest context that fits is 8192 <tokens>",
  test: "tg128 @ d65536",
  n_gen: 128,
  n_depth: 65_536,
});
const results: Results = { schema: "longtape/1", environment, rows: [...rows, hostile] };

const text = reportHtml(results);
const { document } = parseHTML(text);
const notices = (changed: Partial<Environment>) =>
  [
    ...parseHTML(
      reportHtml({ ...results, environment: { ...environment, ...changed } }),
    ).document.querySelectorAll(".notice"),
  ]
    .map((notice) => notice.textContent)
    .join("\n");

describe("report", () => {
  test("a folder that could not be opened is a row, not an architecture", () => {
    const unopened = emptyRow({ model: "typo", status: "failed", reason: "typo holds no config.json" });
    const report = (rows: Row[]) => parseHTML(reportHtml({ ...results, rows })).document;
    const mixed = report([...rows, unopened]);
    expect(mixed.querySelector(".lead")?.textContent).toMatch(/^8 architectures \(.*mamba\), 33 rows: /);
    expect(mixed.querySelectorAll(".legend li")).toHaveLength(8);
    const alone = report([unopened]);
    expect(alone.querySelector(".lead")?.textContent).toBe("1 row: 1 failed.");
    expect(alone.title).toBe("longtape: no model");
  });

  test("holds every row, readably and in full", () => {
    const [readable, full] = [...document.querySelectorAll(".tall tbody")];
    expect(readable?.querySelectorAll("tr")).toHaveLength(results.rows.length);
    expect(full?.querySelectorAll("tr")).toHaveLength(results.rows.length);
    for (const [i, row] of results.rows.entries()) {
      const line = readable?.querySelectorAll("tr")[i]?.textContent ?? "";
      expect(line).toContain(row.test);
      expect(line).toContain(row.model);
      expect(line).toContain(row.avg_ts?.toFixed(2) ?? row.reason);
      const cells = [...(full?.querySelectorAll("tr")[i]?.querySelectorAll("td") ?? [])];
      expect(cells.map((cell) => cell.textContent)).toEqual(
        fields.map((field) => {
          const value = row[field];
          return value === null ? "" : Array.isArray(value) ? JSON.stringify(value) : String(value);
        }),
      );
    }
  });

  test("escapes names, in tables and in charts", () => {
    expect(text).not.toContain("<script");
    expect(text).toContain("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;&#39;");
    const timed = { ...(rows[1] as Row), model: "<img src=x>", arch: "<b>" };
    expect(reportHtml({ ...results, rows: [timed, { ...timed, n_depth: 8 }, ...rows] })).not.toMatch(
      /<img|<b>/,
    );
  });

  test("opens with no network: no script, no address to fetch", () => {
    expect(text).not.toMatch(/https?:/);
    expect(text).not.toMatch(/\b(src|href)=|url\(|@import|<link|<iframe/);
    expect(text).toContain("default-src 'none'");
  });

  test("says plainly what it ran on", () => {
    expect(notices({})).toContain("SwiftShader Device (Subzero), a software adapter");
    expect(notices({})).toContain(
      "A software adapter penalises barriers; nothing is known of a GPU that was not measured.",
    );
    const gpu = { vendor: "nvidia", architecture: "hopper", device: "", description: "", software: false };
    expect(notices({ adapter: gpu })).toContain("nvidia hopper");
    expect(notices({ adapter: gpu })).not.toContain("software adapter");
    expect(notices({ tab_hidden: true })).toContain("The tab was hidden");
  });

  test("draws a line and points for each architecture", () => {
    const charts = [...document.querySelectorAll("figure svg")];
    expect(charts.map((chart) => chart.getAttribute("aria-label"))).toEqual([
      "Bytes against context",
      "Generation: tokens a second against depth",
      "Prompt: tokens a second",
    ]);
    for (const { arch } of models) {
      const colour = colours(results.rows.map((row) => row.arch)).get(arch);
      for (const chart of charts) expect(chart.innerHTML).toContain(`${colour}`);
      expect(charts[0]?.textContent).toContain(arch);
      expect(charts[1]?.textContent).toContain(arch);
    }
    expect(charts[0]?.innerHTML).not.toContain("NaN");
    expect(charts[1]?.innerHTML).not.toContain("NaN");
  });

  test("draws pairs where a pattern scores some, and the context grows", () => {
    const withPairs = results.rows.map((row) => {
      const most = { llama: Number.POSITIVE_INFINITY, "mistral-window": 64 }[row.arch] ?? 0;
      return { ...row, theory_pairs: 16 * row.n_gen * Math.min(most, row.n_depth + 64) };
    });
    const label = `svg[aria-label="Pairs scored for a generated token"]`;
    const chart = (rows: Row[]) => parseHTML(reportHtml({ ...results, rows })).document.querySelector(label);
    const { textContent, innerHTML } = chart(withPairs)!;
    for (const arch of ["llama", "mistral-window"]) expect(textContent).toContain(arch);
    expect(textContent).not.toContain("mamba");
    expect(innerHTML).toContain("mistral-window, tg128 @ d4096: 1,024 pairs a token");
    expect(innerHTML).not.toContain("NaN");
    expect(chart(withPairs.filter(({ n_depth }) => n_depth === 0))).toBeNull();
  });

  test("shows bits a byte as a table and against the position, and both ends of a stream, with no rows at all", () => {
    const points = [16, 32, 64, 100].map((context) => ({ context, bits_per_byte: 2 + 1 / context }));
    const about = { arch: "gru", model: "<gru>" };
    const quality = [{ ...emptyQuality(about), bits_per_byte: 2.0765, theory_bytes_at_4096: 2048, points }];
    const ends = {
      status: "ok" as const,
      n_ubatch: 512,
      from: 1,
      to: 512,
      ratios: [1],
      ratio: 1,
      low: 1,
      high: 1,
      method: "snapshots",
    };
    const alternations = [{ ...about, n_parallel: 1, n_gen: 64, ...ends }];
    const shown = reportHtml({ ...results, rows: [], quality, alternations });
    const page = parseHTML(shown).document;
    const chart = page.querySelector('svg[aria-label="Bits a byte against position in one stream"]');
    expect(chart?.querySelectorAll("circle")).toHaveLength(4);
    expect(shown).not.toMatch(/NaN|<gru>/);
    expect(page.querySelectorAll("table.answer")).toHaveLength(2);
    expect(page.querySelector("table.answer tbody")?.textContent).toContain("2.0765");
    expect(page.querySelectorAll(".legend li")).toHaveLength(1);
  });

  test("stands without rows, and with one", () => {
    expect(reportHtml({ ...results, rows: [] })).toContain("0 rows");
    for (const row of results.rows.slice(0, 2))
      expect(reportHtml({ ...results, rows: [row] })).not.toContain("NaN");
    expect(reportHtml({ ...results, rows: [hostile] })).not.toContain("<figure");
  });
});

describe("colours", () => {
  const archs =
    `elman gru lstm llama mistral-window sinks strided local materialised linear-attention gla mamba jamba
    hybrid:mamba*3+attn`.split(/\s+/);

  test("an architecture keeps its own whatever runs beside it", () => {
    const all = colours(archs);
    expect(new Set(all.values()).size).toBe(archs.length);
    for (const arch of archs) expect(colours([arch]).get(arch)).toBe(all.get(arch));
  });

  test("a second hybrid and a stranger get free ones; ink where none is left", () => {
    const some = ["mamba", "hybrid:attn", "hybrid:mamba", "rwkv"];
    expect(new Set(colours(some).values()).size).toBe(some.length);
    expect(colours([...archs, "rwkv"]).get("rwkv")).toBe("currentColor");
  });

  test.each(["light", "dark"] as const)("no two are the same where it is %s", (scheme) => {
    expect(new Set(palette[scheme]).size).toBe(archs.length);
  });
});

test("html escapes every value but html", () => {
  expect(
    html`<p title="${'"'}">${"<&>"}${html`<b>${1}</b>`}${[html`<i></i>`, "'"]}${null}${false}</p>`.text,
  ).toBe('<p title="&quot;">&lt;&amp;&gt;<b>1</b><i></i>&#39;</p>');
});
