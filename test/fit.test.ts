import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { answersOf } from "../bench/answers.ts";
import { type FitRequest, findFit } from "../bench/fit.ts";
import { budgetOf } from "../bench/fits.ts";
import { dawnInNode } from "../bench/node.ts";
import { reportHtml } from "../bench/report.ts";
import type { Results } from "../bench/row.ts";
import { Bench, type BenchEvent } from "../bench/run.ts";
import { shippedSubject } from "../bench/subject.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { total } from "../engine/memory.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine, type Engine, type Model } from "../models/engine.ts";

const project = resolve(import.meta.dirname, "..");
const minutes = 60_000;
const MiB = 2 ** 20;

describe("what may be held", () => {
  const there = { heapBytes: 8000, software: false, freeBytes: 5000 };

  test("is what the user says, else half of what there is", () => {
    expect(budgetOf(123, there)).toEqual({ bytes: 123, from: "--max-bytes" });
    expect(budgetOf(null, there)).toEqual({ bytes: 4000, from: "half of the adapter's largest heap" });
    const free = { bytes: 2500, from: "half of the machine's free memory" };
    expect(budgetOf(null, { ...there, heapBytes: null })).toEqual(free);
    expect(budgetOf(null, { ...there, software: true })).toEqual(free);
    expect(budgetOf(null, { ...there, software: true, heapBytes: 2000 }).bytes).toBe(1000);
  });
});

describe("a search on this adapter", () => {
  let engine: Engine;
  let model: Model;
  const opened: Engine[] = [];

  async function open(name: string, maxBytes?: number): Promise<[Engine, Model]> {
    const { gpu } = await dawnInNode();
    const engine = await createEngine({ gpu, ...(maxBytes ? { maxBytes } : {}) });
    opened.push(engine);
    const model = await engine.load(directorySource(join(project, "models/checkpoints", name)), {
      tune: "off",
    });
    return [engine, model];
  }

  /** Speed ends nothing unless it is asked for: what else ends a search is the same on every machine. */
  const find = (change: Partial<FitRequest>, on = engine, of = model) =>
    findFit({
      model: of,
      machine: on.machine as GpuMachine,
      budget: { bytes: 16 * MiB, from: "a test" },
      seed: 1,
      searched: "context",
      context: 512,
      leastSpeed: 0,
      mostSeconds: 600,
      onProbe: async () => {},
      ...change,
    });

  beforeAll(async () => {
    [engine, model] = await open("llama");
  }, minutes);
  afterAll(() => {
    for (const engine of opened) engine.destroy();
  });

  test(
    "goes to the last page that the budget holds",
    async () => {
      const before = total(engine.memory());
      const asked: string[] = [];
      const fit = await find({
        onProbe: async (what) => {
          asked.push(what);
        },
      });
      expect(fit).toMatchObject({ arch: "llama", ended_by: "budget", n_parallel: 1, small_context: 256 });
      const longest = fit.n_context!;
      expect(longest % 256).toBe(0);
      expect(fit.reason).toContain(`${(longest + 1).toLocaleString("en-US")} tokens ask`);
      const predict = async (tokens: number) => total(await model.predict({ chunk: 1 }, tokens));
      expect(fit.mem_live).toBe(await predict(longest));
      expect(await predict(longest)).toBeLessThanOrEqual(16 * MiB);
      expect(await predict(longest + 1)).toBeGreaterThan(15 * MiB);
      const doubled = ["256 tokens", "512 tokens", "1,024 tokens", "2,048 tokens"];
      expect(asked).toEqual([...doubled, `${longest.toLocaleString("en-US")} tokens`]);
      expect(fit.probes).toBe(asked.length);
      expect(fit.avg_ts).toBeGreaterThan(0);
      expect(total(engine.memory())).toBe(before);
    },
    2 * minutes,
  );

  test(
    "finds the streams that the budget holds",
    async () => {
      const fit = await find({ searched: "streams" });
      expect(fit).toMatchObject({ ended_by: "budget", n_context: 512 });
      const bytes = async (streams: number) => total(await model.predict({ streams, chunk: 1 }, 512));
      expect(fit.mem_live).toBe(await bytes(fit.n_parallel!));
      expect(fit.mem_kv).toBe(fit.n_parallel! * 512 * 4096);
      expect([fit.small_context, fit.small_ts! > 0]).toEqual([256, true]);
      expect(await bytes(fit.n_parallel! + 1)).toBeGreaterThan(15 * MiB);
    },
    2 * minutes,
  );

  test(
    "ends where it is too slow, or where its seconds are used up",
    async () => {
      const slow = await find({ leastSpeed: Number.POSITIVE_INFINITY });
      expect(slow).toMatchObject({ ended_by: "speed", n_context: 256 });
      const said = /^2\d\d tokens: [\d.]+ t\/s, less than half of ([\d.]+) t\/s at 256 tokens$/.exec(
        slow.reason,
      );
      expect(said, slow.reason).not.toBeNull();
      // the fastest of all that was seen there
      expect(slow.small_ts).toBeGreaterThanOrEqual(Number(said![1]) - 0.1);
      expect(slow.avg_ts).toBe(slow.small_ts);
      const alone = await find({ searched: "streams", leastSpeed: Number.POSITIVE_INFINITY });
      expect(alone).toMatchObject({ ended_by: "speed", n_parallel: null, small_context: 256 });
      expect(alone.reason).toMatch(/^512 tokens: [\d.]+ t\/s, less than half of [\d.]+ t\/s at 256 tokens$/);
      const late = await find({ mostSeconds: 0 });
      expect(late).toMatchObject({ ended_by: "time", n_context: 256, n_parallel: 1 });
      expect(late.reason).toBe("another probe would pass 0 s (--fit-seconds)");
    },
    4 * minutes,
  );

  test(
    "what the adapter refuses is an answer with its message, and leaves nothing",
    async () => {
      const [small, own] = await open("llama", 12 * MiB);
      const before = total(small.memory());
      const fit = await find({}, small, own);
      expect(fit.ended_by).toBe("adapter");
      expect(fit.reason).toMatch(/^a context of [\d]+ tokens does not fit: .* \(maxBytes\)/);
      expect(fit.mem_live).toBeLessThanOrEqual(12 * MiB);
      expect(fit.mem_live).toBeGreaterThan(10 * MiB);
      expect(total(small.memory())).toBe(before);
      const none = await find({ budget: { bytes: MiB, from: "a test" } });
      expect(none).toMatchObject({ ended_by: "budget", n_context: null, probes: 0 });
      expect(none.reason).toMatch(/^1 token ask .* of 1\.00 MiB \(a test\)$/);
    },
    4 * minutes,
  );

  test(
    "a fixed state finds no end",
    async () => {
      const [own, gru] = await open("gru");
      const fit = await find({}, own, gru);
      expect(fit).toMatchObject({
        ended_by: "end",
        n_context: 2 ** 24,
        mem_state: 2048,
        mem_kv: 0,
        probes: 2,
      });
      expect(fit.reason).toBe("no end found up to 16,777,216");
    },
    2 * minutes,
  );
});

test(
  "a device that is lost on the way is an answer, and what follows gets another",
  async () => {
    const { gpu } = await dawnInNode();
    const devices: GPUDevice[] = [];
    const watched = {
      async requestAdapter(options?: GPURequestAdapterOptions) {
        const adapter = (await gpu.requestAdapter(options))!;
        const request = adapter.requestDevice.bind(adapter);
        adapter.requestDevice = async (descriptor) => {
          const device = await request(descriptor);
          devices.push(device);
          return device;
        };
        return adapter;
      },
    };
    const bench = await Bench.open(
      {
        gpu: watched as GPU,
        source: directorySource,
        text: async () => "To be, or not to be",
        resident: async () => null,
      },
      {
        repetitions: 1,
        delaySeconds: 0,
        warmup: false,
        tune: "off",
        seed: 1,
        maxBytes: null,
        fit: { context: 256, mostSeconds: 60, freeBytes: 16 * MiB },
        build_commit: null,
        version: null,
      },
    );
    const subject = shippedSubject("llama", join(project, "models/checkpoints"));
    const tg4 = { n_prompt: 0, n_gen: 4, n_depth: 0, n_parallel: 1, n_ubatch: 8 };
    const events: BenchEvent[] = [];
    await bench.run(subject, [tg4], (event) => {
      events.push(event);
      if (event.type === "step" && event.what.endsWith("512 tokens")) devices[0]!.destroy();
    });
    bench.close();
    const fits = events.flatMap((event) => (event.type === "fit" ? [event.fit] : []));
    expect(fits).toMatchObject([
      { searched: "context", ended_by: "adapter", n_context: 256, budget_bytes: 8 * MiB },
      { searched: "streams", n_context: 256 },
    ]);
    expect(fits[0]!.reason).toContain("the GPU device was lost");
    const rows = events.flatMap((event) => (event.type === "row" ? [event.row] : []));
    expect(rows).toMatchObject([{ test: "tg4", status: "ok", theory_err_pct: 0 }]);
    expect(devices).toHaveLength(2);
  },
  3 * minutes,
);

describe("npm run bench -- --fit", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "longtape-fit-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test(
    "gives two fits a model, and then its rows",
    async () => {
      const out = join(folder, "out");
      const what = ["--fit", "-a", "llama,gru", "-p", "0", "-n", "4", "-d", "256", "-r", "1"];
      const where = ["--runtime", "node", "--max-bytes", "64M", "--fit-seconds", "9", "--out", out];
      const ran = spawnSync(process.execPath, ["--import", "tsx", "bench/cli.ts", ...what, ...where], {
        cwd: project,
        encoding: "utf8",
      });
      expect(ran.status, ran.stderr).toBe(0);
      const results = JSON.parse(await readFile(join(out, "results.json"), "utf8")) as Results;
      expect(results.fits!.map(({ model, searched }) => `${model} ${searched}`)).toEqual([
        "llama context",
        "llama streams",
        "gru context",
        "gru streams",
      ]);
      for (const fit of results.fits!) {
        expect(fit, fit.reason).toMatchObject({ budget_bytes: 64 * MiB, budget_from: "--max-bytes" });
        expect(fit.mem_live).toBeLessThanOrEqual(64 * MiB);
        expect(ran.stderr).toContain(fit.reason);
      }
      expect(results.rows.map(({ model, test, status }) => `${model} ${test} ${status}`)).toEqual([
        "llama tg4 @ d256 ok",
        "gru tg4 @ d256 ok",
      ]);
      for (const row of results.rows) expect(row.theory_err_pct).toBe(0);
      const titles = ["The longest context", "The most streams of 256 tokens"];
      expect(answersOf(results).map(({ title }) => title)).toEqual(titles);
      for (const title of titles) {
        expect(ran.stdout).toContain(title);
        expect(await readFile(join(out, "report.html"), "utf8")).toContain(title);
      }
    },
    5 * minutes,
  );

  test(
    "alone gives no row, and says what could not be run",
    async () => {
      const out = join(folder, "alone");
      const where = ["--runtime", "node", "--out", out];
      const args = ["--import", "tsx", "bench/cli.ts", "--fit", "-m", join(folder, "nowhere"), ...where];
      const ran = spawnSync(process.execPath, args, { cwd: project, encoding: "utf8" });
      expect(ran.status, ran.stderr).toBe(1);
      const results = JSON.parse(await readFile(join(out, "results.json"), "utf8")) as Results;
      expect(results.rows).toEqual([]);
      expect(results.fits).toMatchObject([
        { searched: "context", ended_by: "failed", n_context: null },
        { searched: "streams", ended_by: "failed", n_parallel: null },
      ]);
      expect(results.fits![0]!.reason).toContain("holds no config.json");
      expect(ran.stdout).not.toContain("| test |");
      expect(reportHtml(results)).toContain("holds no config.json");
      expect(reportHtml(results)).not.toContain("Every row");
    },
    minutes,
  );
});
