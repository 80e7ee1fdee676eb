import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GATE_NMSE } from "../bench/gate.ts";
import { dawnInNode } from "../bench/node.ts";
import { fields, type Results, type Row } from "../bench/row.ts";
import { Bench, type BenchEvent, type Host, type Settings } from "../bench/run.ts";
import { benchArchs } from "../bench/shipped.ts";
import { directorySource } from "../models/directory.ts";
import type { Source } from "../models/source.ts";

const project = resolve(import.meta.dirname, "..");
const minutes = 60_000;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-bench-"));
});

afterAll(() => rm(folder, { recursive: true }));

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command line; `interruptAt` sends Ctrl-C when that many lines have come out. */
function bench(args: string[], interruptAt = Number.POSITIVE_INFINITY): Promise<Ran> {
  const child = spawn(process.execPath, ["--import", "tsx", "bench/cli.ts", ...args], { cwd: project });
  const ran: Ran = { code: null, stdout: "", stderr: "" };
  child.stderr.on("data", (text) => {
    ran.stderr += text;
  });
  child.stdout.on("data", (text) => {
    const before = ran.stdout.split("\n").length;
    ran.stdout += text;
    if (before <= interruptAt && ran.stdout.split("\n").length > interruptAt) child.kill("SIGINT");
  });
  return new Promise((done) => child.on("close", (code) => done({ ...ran, code })));
}

const results = async (out: string): Promise<Results> =>
  JSON.parse(await readFile(join(out, "results.json"), "utf8"));

describe("npm run bench -- --quick in Chrome", () => {
  let ran: Ran;
  let found: Results;
  let out: string;

  beforeAll(async () => {
    out = join(folder, "quick");
    const started = performance.now();
    ran = await bench(["--quick", "-o", "jsonl", "-oe", "md", "--out", out]);
    console.log(`bench --quick took ${((performance.now() - started) / 1000).toFixed(0)} s`);
    expect(ran.stderr).not.toBe("");
    found = await results(out);
  }, 5 * minutes);

  test("ends well, and says which browser and which adapter it took", () => {
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stderr).toMatch(/^browser: .+/m);
    expect(ran.stderr).toMatch(/^adapter: .+/m);
    expect(found.environment.adapter).not.toBeNull();
  });

  test("gives every shipped architecture its three rows, on stdout and in the file alike", () => {
    const rows = ran.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Row);
    expect(rows).toEqual(found.rows);
    expect(rows.map(({ arch, test }) => `${arch} ${test}`)).toEqual(
      benchArchs.flatMap((arch) => ["pp64", "tg16", "tg16 @ d512"].map((test) => `${arch} ${test}`)),
    );
    for (const row of rows) expect(Object.keys(row)).toEqual(fields);
  });

  test("every row was checked, then measured", () => {
    for (const row of found.rows) {
      const what = `${row.arch} ${row.test}`;
      expect(row.reason, what).toBeNull();
      expect(row.status, what).toBe("ok");
      expect(row.nmse_vs_reference, what).toBeLessThanOrEqual(GATE_NMSE.f32);
      expect(row.samples_ns, what).toHaveLength(2);
      expect(row.fill, what).toBe("text");
      for (const field of ["avg_ts", "load_ns", "predicted_ns", "roof_fraction"] as const)
        expect(row[field], `${what}: ${field}`).toBeGreaterThan(0);
      // the prompt alone begins with nothing
      if (row.test === "pp64") expect(row.ttft_ns, what).toBeGreaterThan(row.load_ns! + row.avg_ns!);
      else expect(row.ttft_ns, what).toBeNull();
      for (const field of ["dispatches_per_token", "submits_per_token", "bytes_per_token"] as const)
        expect(row[field], `${what}: ${field}`).toBeGreaterThan(0);
      expect(row.software).toBe(found.environment.adapter?.software);
    }
  });

  test("bytes asked are those that theory says, and those that we count, to the byte", () => {
    for (const row of found.rows) {
      const what = `${row.arch} ${row.test}`;
      expect(row.theory_err_pct, what).toBe(0);
      expect(row.mem_live, what).toBe(row.mem_asked);
      expect(row.mem_peak, what).toBeGreaterThanOrEqual(row.mem_live ?? 0);
      for (const kind of ["weights", "state", "kv", "scratch", "other"] as const)
        expect(row[`mem_${kind}`], `${what}: ${kind}`).toBe(row[`theory_${kind}`]);
    }
  });

  /** Those that keep every key and value. */
  const growing = ["llama", "materialised", "local", "strided", "jamba"];
  test("a cache grows with depth, a state and a window do not", () => {
    const held = (arch: string, test: string) => {
      const row = found.rows.find((row) => row.arch === arch && row.test === test)!;
      return { state: row.mem_state!, kv: row.mem_kv! };
    };
    for (const arch of benchArchs) {
      const { state, kv } = held(arch, "tg16");
      const grown = growing.includes(arch) ? 3 * kv : kv;
      expect(held(arch, "tg16 @ d512"), arch).toEqual({ state, kv: grown });
    }
  });

  test("the literature's formulas are below what is held, and the state is theirs where nothing is padded", () => {
    for (const row of found.rows) {
      expect(row.closed_state! + row.closed_kv!, row.arch).toBeLessThanOrEqual(row.mem_state! + row.mem_kv!);
      expect(row.overhead_pct, row.arch).toBeGreaterThan(0);
    }
    const mamba = found.rows.find((row) => row.arch === "mamba");
    expect(mamba?.mem_state).toBe(mamba?.closed_state);
  });

  test("the environment says how to repeat it", () => {
    const { environment } = found;
    expect(found.schema).toBe("longtape/1");
    expect(environment.command).toBe(`npm run bench -- --quick -o jsonl -oe md --out ${out}`);
    expect(environment.runtime).toBe("chrome");
    expect(environment.browser).toMatch(/\d+\.\d+/);
    expect(environment.browser_flags).toContain("--enable-unsafe-webgpu");
    expect(Object.keys(environment.versions)).toContain("webgpu-memory");
    expect(environment.limits.maxBufferSize).toBeGreaterThan(0);
    expect(environment.features.length).toBeGreaterThan(0);
    expect(environment.clock_quantum_ns).toBeGreaterThan(0);
    expect(environment.tab_hidden).toBe(false);
  });

  test("theory's curves pass through the measured points", () => {
    const curves = found.environment.curves ?? [];
    expect(curves.map(({ arch }) => arch)).toEqual(benchArchs);
    const llama = curves.find(({ arch }) => arch === "llama")!.points;
    const at = (context: number) => llama.findLast((point) => point.context <= context)?.bytes;
    const row = found.rows.find(({ arch, n_depth }) => arch === "llama" && n_depth === 512)!;
    expect(at(528)).toBe(row.mem_kv);
    expect(llama.at(-1)!.context).toBeGreaterThan(4096);
    const mamba = curves.find(({ arch }) => arch === "mamba")!.points;
    expect(new Set(mamba.map(({ bytes }) => bytes)).size).toBe(1);
  });

  test("every pair is compared, in speed and in bytes", () => {
    const crossovers = found.crossovers!;
    expect(crossovers).toHaveLength((benchArchs.length * (benchArchs.length - 1)) / 2);
    const gru = crossovers.find(({ models }) => models.join() === "gru,llama")!;
    expect(gru.grows).toEqual([false, true]);
    expect(gru.bytes).toMatchObject({ smaller_first: "gru", smaller_last: "gru", context: null });
    expect(gru.speed).toMatchObject([
      { n_gen: 16, n_parallel: 1, from_depth: 0, to_depth: 512, repetitions: 2 },
    ]);
  });

  test("the other files hold the same rows, and nothing is left half-written", async () => {
    expect((await readdir(out)).sort()).toEqual(["report.html", "results.csv", "results.json", "results.md"]);
    const csv = await readFile(join(out, "results.csv"), "utf8");
    expect(csv.trim().split("\n")).toHaveLength(1 + found.rows.length);
    const markdown = await readFile(join(out, "results.md"), "utf8");
    const [table, ...answers] = markdown.split("\n\n");
    expect(table!.split("\n")).toHaveLength(2 + found.rows.length);
    for (const line of markdown.split("\n").filter((line) => line.startsWith("| ")))
      expect(ran.stderr).toContain(line);
    expect(answers).toContain("Where they cross");
    const report = await readFile(join(out, "report.html"), "utf8");
    for (const arch of benchArchs) expect(report).toContain(arch);
    expect(report).not.toMatch(/<script|<link|src="http/);
  });
});

test(
  "Ctrl-C keeps the finished rows",
  async () => {
    const out = join(folder, "interrupted");
    const args = [
      "--runtime",
      "node",
      "-a",
      "gru,llama",
      "-o",
      "jsonl",
      "-p",
      "0",
      "-n",
      "4",
      "--tune",
      "off",
    ];
    const ran = await bench([...args, "-d", "0,4,8,16", "-r", "50", "--out", out], 1);
    expect(ran.code, ran.stderr).toBe(130);
    const { rows } = await results(out);
    expect(rows.length).toBeGreaterThanOrEqual(1);
    expect(rows.length).toBeLessThan(8);
    expect(rows[0]).toMatchObject({ arch: "gru", test: "tg4", status: "ok" });
    expect(await readdir(out)).toHaveLength(4);
  },
  2 * minutes,
);

test(
  "what does not run gives a row with its reason, and the run goes on",
  async () => {
    const llama = JSON.parse(
      await readFile(join(project, "test/goldens/llama/config.json"), "utf8"),
    ) as Record<string, unknown>;
    const config = async (name: string, change: Record<string, unknown>) => {
      const path = join(folder, name);
      await writeFile(path, JSON.stringify({ ...llama, ...change }));
      return path;
    };
    const scaled = await config("scaled.json", { rope_scaling: { type: "linear", factor: 2 } });
    const huge = await config("huge.json", { vocab_size: 4_000_000, hidden_size: 4096, head_dim: 1024 });
    const seeded = await config("seeded.json", {});
    const out = join(folder, "mixed");
    const models = ["-m", join(folder, "nowhere"), "-m", `${scaled},${huge}`, "-m", seeded];
    const sizes = ["-p", "8", "-n", "3", "-d", "0", "-npl", "1,3", "-r", "1", "--tune", "off"];
    const ran = await bench(["--runtime", "node", ...models, ...sizes, "-o", "none", "--out", out]);
    expect(ran.code, ran.stderr).toBe(1);
    const { rows } = await results(out);
    const of = (model: string) => rows.filter((row) => row.model.startsWith(model));
    for (const [model, status, reason] of [
      ["nowhere", "failed", /nowhere holds no config\.json$/],
      ["scaled", "unsupported", /rope_scaling/],
      ["huge", "refused", /this adapter binds at most/],
    ] as const) {
      expect(of(model)).toHaveLength(4);
      for (const row of of(model)) {
        expect(row.status, model).toBe(status);
        expect(row.reason).toMatch(reason);
        expect(row.avg_ns).toBeNull();
      }
    }
    const [, one, , three] = of("seeded");
    expect(of("seeded").map(({ status }) => status)).toEqual(["ok", "ok", "ok", "ok"]);
    expect(three).toMatchObject({ test: "tg3", n_parallel: 3, theory_err_pct: 0, fill: "random" });
    expect(three!.mem_kv).toBe(3 * one!.mem_kv!);
    expect(three!.avg_ts_stream).toBeCloseTo(three!.avg_ts! / 3, 9);
    expect(three!.bytes_per_stream).toBe(one!.mem_kv);
    expect(three!.streams_per_gib).toBe(2 ** 30 / one!.mem_kv!);
    // two of three ids follow another
    expect(three!.latency_p50_ns).toBeGreaterThan(0);
    expect(three!.latency_p95_ns).toBeGreaterThanOrEqual(three!.latency_p50_ns!);
    expect(three!.latency_p95_ns).toBeLessThan(three!.avg_ns!);
    // streams in lock-step take one step, in which several, who may stand in different pages, append in a dispatch of its own
    expect(three!.dispatches_per_token! - one!.dispatches_per_token!).toBe(llama.num_hidden_layers);
    expect(three!.avg_ts! * three!.avg_ns!).toBeCloseTo(3 * 3e9, -3);
  },
  2 * minutes,
);

test.each(["node", "chrome"])(
  "hybrids are named by their layers, and need no folder: %s",
  async (runtime) => {
    const out = join(folder, `hybrid-${runtime}`);
    const sizes = ["-p", "8", "-n", "3", "-d", "0", "-r", "1", "--tune", "off", "-npl", "3", "-ub", "8"];
    const archs = ["-a", "hybrid:mamba+attn,hybrid:window:16+gla"];
    const ran = await bench(["--runtime", runtime, ...archs, ...sizes, "-o", "none", "--out", out]);
    expect(ran.code, ran.stderr).toBe(0);
    const { rows } = await results(out);
    expect(new Set(rows.map(({ arch }) => arch))).toEqual(
      new Set(["hybrid:mamba+attn", "hybrid:window:16+gla"]),
    );
    expect(rows).toHaveLength(4);
    for (const row of rows)
      expect(row, `${row.arch} ${row.test}`).toMatchObject({
        status: "ok",
        model: `${row.arch} (seeded)`,
        fill: "text",
        theory_err_pct: 0,
      });
  },
  2 * minutes,
);

test(
  "the matrix of scores is held where it fits; where it cannot be bound the row names the longest context that fits",
  async () => {
    const out = join(folder, "materialised");
    const sizes = ["-p", "0", "-n", "2", "-d", "0,262144", "-r", "1", "--tune", "off"];
    const ran = await bench([
      "--runtime",
      "node",
      "-a",
      "materialised",
      ...sizes,
      "-o",
      "none",
      "--out",
      out,
    ]);
    expect(ran.code, ran.stderr).toBe(0);
    const [held, refused] = (await results(out)).rows;
    expect(held).toMatchObject({ status: "ok", arch: "materialised", theory_err_pct: 0 });
    // four heads over a page of 256 slots
    expect(held!.mem_scratch).toBeGreaterThan(4 * 256 * 256 * 4);
    // 1 TiB, past what any adapter binds
    expect(refused!.status).toBe("refused");
    expect(refused!.reason).toMatch(
      /context of 262144 tokens does not fit: .* binds at most .* at once; the longest that fits is \d+ tokens$/,
    );
    expect(refused!.mem_scratch).toBeNull();
  },
  2 * minutes,
);

test(
  "a memory limit refuses what would pass it",
  async () => {
    const out = join(folder, "refused");
    const model = ["-m", join(project, "test/goldens/llama/config.json"), "--max-bytes", "700K"];
    const ran = await bench([
      "--runtime",
      "node",
      ...model,
      "--quick",
      "-p",
      "0",
      "-d",
      "0,4096",
      "-o",
      "none",
      "--out",
      out,
    ]);
    expect(ran.code, ran.stderr).toBe(0);
    const { rows } = await results(out);
    expect(rows.map(({ test, status }) => `${test} ${status}`)).toEqual(["tg16 ok", "tg16 @ d4096 refused"]);
    expect(rows[1]!.reason).toMatch(/^a context of \d+ tokens does not fit/);
    expect(rows[1]!.theory_kv).toBeGreaterThan(rows[0]!.mem_kv!);
  },
  2 * minutes,
);

test("a wrong command line exits with 2, a browser that is not there with 1", async () => {
  const usage = await bench(["--qick"]);
  expect(usage).toEqual({ code: 2, stdout: "", stderr: "unknown flag --qick, did you mean --quick?\n" });
  const browser = await bench(["--browser", join(folder, "nothing"), "--out", join(folder, "none")]);
  expect(browser.code).toBe(1);
  expect(browser.stderr).toMatch(/^--browser: found no executable file at .*\n$/);
});

test("--list-devices prints what WebGPU offers", async () => {
  const ran = await bench(["--list-devices", "--runtime", "node"]);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stdout).toMatch(/^high performance: .+\nlow power: .+\nfallback: .+\n$/);
});

describe("the bench in this process", () => {
  const gru = {
    arch: "gru",
    model: "gru",
    folder: join(project, "test/goldens/gru"),
    seededConfig: null,
    overlay: null,
  };
  const tg4 = { n_prompt: 0, n_gen: 4, n_depth: 0, n_parallel: 1, n_ubatch: 8 };
  const settings: Settings = {
    repetitions: 1,
    delaySeconds: 0,
    warmup: false,
    tune: "off",
    seed: 1,
    maxBytes: null,
    build_commit: null,
    version: null,
  };

  async function host(change: Partial<Host>): Promise<Host> {
    const { gpu } = await dawnInNode();
    const text = async () => "To be, or not to be";
    return { gpu, source: directorySource, text, resident: async () => null, ...change };
  }

  async function run(host: Host, times = 1): Promise<Row[]> {
    const bench = await Bench.open(host, settings);
    const rows: Row[] = [];
    const take = (event: BenchEvent) => {
      if (event.type === "row") rows.push(event.row);
    };
    for (let i = 0; i < times; i++) await bench.run(gru, [tg4, tg4], take);
    bench.close();
    return rows;
  }

  test("nothing is timed whose logits are not the CPU machine's", async () => {
    let openings = 0;
    const source = (path: string): Source => {
      const files = directorySource(path);
      return {
        ...files,
        async read(file, begin = 0, end) {
          const bytes = await files.read(file, begin, end);
          if (file === "config.json") openings++;
          // the third opening is the CPU machine's: a bit of each of its tensors is another
          if (openings === 3 && begin > 8) bytes[2] = bytes[2]! ^ 64;
          return bytes;
        },
      };
    };
    const rows = await run(await host({ source }));
    expect(rows.map(({ status }) => status)).toEqual(["failed", "failed"]);
    expect(rows[0]!.reason).toMatch(/^the logits differ from the CPU machine's by an NMSE of \S+, at most/);
    expect(rows[0]!.nmse_vs_reference).toBeGreaterThan(GATE_NMSE.f32);
    expect(rows[0]!.avg_ns).toBeNull();
  });

  test("a lost device costs the rows of its model, and no more", async () => {
    const { gpu } = await dawnInNode();
    let device: GPUDevice | null = null;
    const requestAdapter = async (options?: GPURequestAdapterOptions) => {
      const adapter = (await gpu.requestAdapter(options))!;
      const requestDevice = adapter.requestDevice.bind(adapter);
      adapter.requestDevice = async (descriptor) => {
        device = await requestDevice(descriptor);
        return device;
      };
      return adapter;
    };
    let calls = 0;
    // called when a model is about to be loaded, and in each test's run for memory: the first of these loses the device
    const resident = async () => {
      if (++calls === 2) device!.destroy();
      return null;
    };
    const rows = await run(await host({ gpu: { requestAdapter } as GPU, resident }), 2);
    expect(rows.map(({ status }) => status)).toEqual(["failed", "failed", "ok", "ok"]);
    for (const row of rows.slice(0, 2)) expect(row.reason).toMatch(/the GPU device was lost/);
  });
});
