import { expect, test } from "vitest";
import { createPrinter, formatResults, formats } from "../bench/printers/index.ts";
import {
  type Alternation,
  type Environment,
  emptyQuality,
  emptyRow,
  fields,
  type Quality,
  type Results,
  type Row,
} from "../bench/row.ts";
import { formatBytes, formatNs, formatParameters, parseBytes } from "../bench/units.ts";

const environment: Environment = {
  command: "npm run bench -- --quick",
  started: "2026-01-02T03:04:05Z",
  build_commit: "abc1234",
  versions: { longtape: "0.1.0" },
  runtime: "chrome",
  browser: "Chrome 147",
  browser_flags: ["--enable-unsafe-webgpu"],
  os: "Linux",
  cpu: "a CPU",
  cpu_cores: 2,
  node: "v20.20.2",
  adapter: {
    vendor: "google",
    architecture: "swiftshader",
    device: "",
    description: "SwiftShader",
    software: true,
  },
  limits: { maxBufferSize: 268435456 },
  features: ["subgroups"],
  verdicts: [],
  tuned: [],
  clock_quantum_ns: 100000,
  tab_hidden: false,
  seed: 1337,
};

const measured = emptyRow({
  build_commit: "abc1234",
  arch: "llama",
  model: "llama",
  model_n_params: 857_216,
  backend: "webgpu",
  software: true,
  test: "tg16 @ d512",
  n_gen: 16,
  n_depth: 512,
  avg_ns: 250e6,
  stddev_ns: 1e6,
  samples_ns: [249e6, 251e6],
  avg_ts: 64.001,
  stddev_ts: 0.256,
  samples_ts: [64.257, 63.745],
  mem_weights: 3_500_000,
  mem_state: 0,
  mem_kv: 3_145_728,
  theory_state: 0,
  theory_kv: 3_145_728,
  theory_err_pct: 0,
  closed_weights: 3_428_864,
});
const refused = emptyRow({
  arch: "hybrid:mamba*3+attn",
  model: 'a|b "quoted", it\'s <b>',
  status: "refused",
  reason: "asked 3 GiB, held 1 GiB,\nlongest context that fits is 8192",
  test: "tg16 @ d65536",
  n_gen: 16,
  n_depth: 65_536,
});
const rows = [measured, refused];
const results: Results = { schema: "longtape/1", environment, rows };

test("fields are those of DESIGN section 7, in its order, then those of streams, latency, pairs, quality, narrow types and loading", () => {
  expect(fields.join(" ")).toBe(
    "build_commit test_time peer peer_version arch model model_n_params dtype type_k type_v backend adapter software " +
      "status reason test n_prompt n_gen n_depth n_parallel n_ubatch fill avg_ns stddev_ns samples_ns avg_ts stddev_ts " +
      "samples_ts ttft_ns gpu_ns predicted_ns dispatches_per_token submits_per_token roof_gbs roof_fraction mem_weights " +
      "mem_state mem_kv mem_scratch mem_other mem_live mem_peak mem_asked mem_resident mem_resident_method theory_weights " +
      "theory_state theory_kv theory_scratch theory_other theory_err_pct closed_weights closed_state closed_kv " +
      "closed_scores overhead_pct bytes_per_token nmse_vs_reference avg_ts_stream latency_p50_ns latency_p95_ns " +
      "bytes_per_stream streams_per_gib theory_pairs bits_per_byte nmse_vs_f32 bits_vs_f32 load_ns " +
      "mem_own mem_left remark",
  );
  expect(Object.keys(emptyRow())).toEqual(fields);
});

test("md is llama-bench's table, a reason in place of t/s, and a build line", () => {
  expect(formatResults("md", results)).toMatchInlineSnapshot(`
    "| model                    | arch             |       size |     params | backend           |            test |   state+kv |     theory |  err % |                  t/s |
    | ------------------------ | ---------------- | ---------: | ---------: | ----------------- | --------------: | ---------: | ---------: | -----: | -------------------: |
    | llama                    | llama            |   3.27 MiB |     0.86 M | webgpu (software) |     tg16 @ d512 |   3.00 MiB |   3.00 MiB |   0.00 |         64.00 ± 0.26 |
    | a\\|b "quoted", it's \\<b> | hybrid:mamba\\*3+attn |            |            |                   |   tg16 @ d65536 |            |            |        | refused: asked 3 GiB, held 1 GiB, longest context that fits is 8192 |

    build: abc1234 (longtape 0.1.0), adapter: SwiftShader (software)
    "
  `);
});

test("md shows the fields it is told of", () => {
  const printer = createPrinter("md", ["n_parallel"]);
  const row = printer.row({ ...measured, n_parallel: 4 });
  expect(row).toContain("| n_parallel |");
  expect(row).toContain("|          4 |");
});

test("md says figures of streams, latency and quality as they read best", () => {
  const extra = ["avg_ts_stream", "latency_p95_ns", "bytes_per_stream", "streams_per_gib"] as const;
  const row = {
    avg_ts_stream: 16,
    latency_p95_ns: 2.5e6,
    bytes_per_stream: 1536,
    streams_per_gib: 699_050.67,
  };
  const [, , line] = createPrinter("md", extra)
    .row({ ...measured, ...row })
    .split("\n");
  for (const cell of ["16.00", "2.50 ms", "1.50 KiB", "699050.7"]) expect(line).toContain(` ${cell} |`);
});

const quality = [
  {
    arch: "llama",
    model: "llama",
    status: "refused",
    reason: "asked 3 GiB",
    bits_per_byte: 2.06,
    theory_bytes_at_4096: 2 ** 24,
    points: [
      { context: 256, bits_per_byte: 2.1 },
      { context: 512, bits_per_byte: 3.4 },
    ],
  },
  { ...emptyQuality({ arch: "gru", model: "gru" }), bits_per_byte: 2.0765, theory_bytes_at_4096: 2048 },
  { ...emptyQuality({ arch: "mamba", model: "m|x" }), status: "unsupported", reason: "no text" },
] as const satisfies Quality[];
const alternation: Alternation = {
  arch: "gru",
  model: "gru",
  status: "ok",
  n_parallel: 1,
  n_ubatch: 512,
  n_gen: 64,
  from: 1,
  to: 1_048_576,
  ratios: Array.from({ length: 20 }, () => 1.003),
  ratio: 1.003,
  low: 0.9912,
  high: 1.0118,
  method: "snapshots of 2.50 KiB restored into one session",
};
const none = { ...alternation, n_parallel: 4, ratio: null, low: null, high: null, method: "out of memory" };

test("md: bits a byte beside bytes of state, and both ends of a stream", () => {
  const text = formatResults("md", { ...results, rows: [], quality, alternations: [alternation, none] });
  const lines = text.split("\n").filter((line) => line.startsWith("| "));
  expect(lines.slice(0, 5)).toEqual([
    "| model | bits a byte | state + kv at 4,096 tokens | at the end of one stream |",
    "| --- | ---: | ---: | --- |",
    "| llama | 2.0600 | 16.00 MiB | 3.4000 from token 257 to 512; refused: asked 3 GiB |",
    "| gru | 2.0765 | 2.00 KiB |  |",
    "| m\\|x | – | – | unsupported: no text |",
  ]);
  expect(text).toContain(
    "gru, read in chunks of 512: generation at 1,048,576 runs at 1.003 [0.991, 1.012] of its speed at the beginning, 20 rounds: within 2%",
  );
  expect(text).toContain(
    "| gru in 4 streams, read in chunks of 512: generation at 1,048,576 was not set beside the beginning | out of memory |",
  );
});

test("json keeps what was found beside the rows, streamed or whole", () => {
  const all = { ...results, quality, alternations: [alternation] };
  const printer = createPrinter("json");
  const streamed = printer.header(environment) + rows.map((row) => printer.row(row)).join("");
  expect(JSON.parse(streamed + printer.footer(all))).toEqual(all);
  expect(JSON.parse(formatResults("json", all))).toEqual(all);
});

test("csv quotes every value and gives back every row", () => {
  const [header, first, second, ...rest] = parseCsv(formatResults("csv", results));
  expect(rest).toEqual([]);
  expect(header).toEqual(fields);
  const cell = (line: string[] | undefined, field: keyof Row) => line?.[fields.indexOf(field)];
  expect(cell(first, "avg_ns")).toBe("250000000");
  expect(cell(first, "samples_ns")).toBe("[249000000,251000000]");
  expect(cell(first, "software")).toBe("true");
  expect(cell(first, "ttft_ns")).toBe("");
  expect(cell(second, "model")).toBe(refused.model);
  expect(cell(second, "reason")).toBe(refused.reason);
});

test("csv gives a spreadsheet no formula", () => {
  const text = createPrinter("csv").row({ ...measured, model: "=HYPERLINK(1)", avg_ts: -1 });
  expect(text).toContain(`"'=HYPERLINK(1)"`);
  expect(text).toContain('"-1"');
});

test("json is results.json, streamed or whole", () => {
  const printer = createPrinter("json");
  const streamed =
    printer.header(environment) + rows.map((row) => printer.row(row)).join("") + printer.footer(results);
  expect(JSON.parse(streamed)).toEqual(results);
  const whole = formatResults("json", results);
  expect(JSON.parse(whole)).toEqual(results);
  expect(Object.keys(JSON.parse(whole))).toEqual(["schema", "environment", "rows"]);
});

test("json without rows is still json", () => {
  const empty = { ...results, rows: [] };
  const printer = createPrinter("json");
  expect(JSON.parse(printer.header(environment) + printer.footer(empty))).toEqual(empty);
  expect(JSON.parse(formatResults("json", empty))).toEqual(empty);
});

test("jsonl is one row a line", () => {
  const lines = formatResults("jsonl", results).trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toEqual(rows);
});

test("sql escapes quotes and states types", () => {
  const text = formatResults("sql", results);
  expect(text).toContain("CREATE TABLE IF NOT EXISTS longtape (\n  build_commit TEXT,\n");
  expect(text).toContain("  model_n_params INTEGER,\n");
  expect(text).toContain("  remark TEXT\n);");
  expect(text).toContain(`'a|b "quoted", it''s <b>'`);
  expect(text).toContain("'[249000000,251000000]'");
  expect(text.match(/^INSERT INTO longtape \(build_commit, .*\);$/gm)).toHaveLength(1);
  expect(text.match(/NULL/g)?.length).toBeGreaterThan(50);
});

test("numbers that are none become null", () => {
  const row = { ...measured, overhead_pct: Number.POSITIVE_INFINITY, nmse_vs_reference: Number.NaN };
  expect(createPrinter("sql").row(row)).not.toMatch(/Infinity|NaN/);
  expect(createPrinter("csv").row(row)).not.toMatch(/Infinity|NaN/);
  expect(createPrinter("jsonl").row(row)).not.toMatch(/Infinity|NaN/);
});

test("none prints nothing", () => {
  expect(formatResults("none", results)).toBe("");
  expect(formats).toEqual(["md", "csv", "json", "jsonl", "sql", "none"]);
});

test("units", () => {
  expect([896, 1024, 14.25 * 2 ** 20, 2 ** 30 - 1, 128 * 2 ** 30].map(formatBytes)).toEqual([
    "896 B",
    "1.00 KiB",
    "14.25 MiB",
    "1.00 GiB",
    "128.00 GiB",
  ]);
  expect([857_216, 6_738_415_616].map(formatParameters)).toEqual(["0.86 M", "6.74 B"]);
  expect([12, 3500, 2.5e6, 1.5e9].map(formatNs)).toEqual(["12 ns", "3.50 µs", "2.50 ms", "1.50 s"]);
  expect(["1024", "2k", "1.5 MiB", "2GiB", "3G", "lots", "-1", ""].map(parseBytes)).toEqual([
    1024,
    2048,
    1.5 * 2 ** 20,
    2 * 2 ** 30,
    3 * 2 ** 30,
    null,
    null,
    null,
  ]);
});

/** Every value quoted, quotes doubled, newlines allowed inside. */
function parseCsv(text: string): string[][] {
  const lines: string[][] = [[]];
  for (const [, value, end] of text.matchAll(/"((?:[^"]|"")*)"(,|\n)/g)) {
    lines.at(-1)?.push((value as string).replaceAll('""', '"'));
    if (end === "\n") lines.push([]);
  }
  expect(lines.pop()).toEqual([]);
  return lines;
}
