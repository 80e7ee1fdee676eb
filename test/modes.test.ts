// The modes beside tests: one long stream with a row for every stretch, depth that is made up, bits a byte.

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { dawnInNode } from "../bench/node.ts";
import { measureQuality, ValidationText, windowBits } from "../bench/quality.ts";
import type { Alternation, Quality, Row } from "../bench/row.ts";
import { Bench, type BenchEvent, type Settings } from "../bench/run.ts";
import { shipped } from "../bench/shipped.ts";
import { checkpoint, type Subject, shippedSubject } from "../bench/subject.ts";
import { curveTests, type Test } from "../bench/tests.ts";
import { latenciesNs } from "../bench/timed.ts";
import { Session } from "../engine/session.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine } from "../models/engine.ts";

const project = resolve(import.meta.dirname, "..");
const checkpoints = join(project, "models/checkpoints");
const minutes = 60_000;
const shippedText = () => readFile(join(checkpoints, "tinyshakespeare.txt"), "utf8");

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

interface Found {
  rows: Row[];
  alternations: Alternation[];
  quality: Quality[];
}

async function run(subject: Subject, tests: readonly Test[], change: Partial<Settings>): Promise<Found> {
  const { gpu } = await dawnInNode();
  const host = { gpu, source: directorySource, text: shippedText, resident: async () => null };
  const bench = await Bench.open(host, { ...settings, ...change });
  const found: Found = { rows: [], alternations: [], quality: [] };
  const take = (event: BenchEvent) => {
    if (event.type === "row") found.rows.push(event.row);
    if (event.type === "alternation") found.alternations.push(event.alternation);
    if (event.type === "quality") found.quality.push(event.quality);
  };
  await bench.run(subject, tests, take);
  bench.close();
  return found;
}

const golden = (arch: string): Subject => checkpoint(arch, join(project, "test/goldens", arch));
const carried = (row: Row) => row.mem_state! + row.mem_kv!;

afterEach(() => vi.restoreAllMocks());

test("results that come together share the time since those before", () => {
  expect(latenciesNs(10, [])).toEqual([]);
  expect(latenciesNs(10, [12, 13])).toEqual([2e6, 1e6]);
  const [first, second, third, fourth] = latenciesNs(10, [12, 12.01, 12.02, 14]);
  expect([first, second, third].map((ns) => Math.round(ns! / 1e3))).toEqual([673, 673, 673]);
  expect(fourth).toBeCloseTo(1.98e6, 3);
});

describe("a curve", () => {
  const stretches = (streams: number) => curveTests(64, 512, { streams: [streams], ubatches: [32] });

  test.each([
    ["gru", 1],
    ["llama", 1],
    ["llama", 2],
  ] as const)(
    "%s in %i streams: a row every 64 tokens of one session, then both ends by turns",
    async (arch, streams) => {
      const { rows, alternations } = await run(golden(arch), stretches(streams), { curve: true });
      expect(rows.map(({ test }) => test)).toEqual(
        Array.from({ length: 8 }, (_, i) => (i === 0 ? "pp64" : `pp64 @ d${64 * i}`)),
      );
      for (const row of rows) {
        expect(row.reason).toBeNull();
        expect(row.status).toBe("ok");
        expect(row.theory_err_pct).toBe(0);
        expect(row.mem_live).toBe(row.mem_asked);
        for (const kind of ["weights", "state", "kv", "scratch", "other"] as const)
          expect(row[`mem_${kind}`], kind).toBe(row[`theory_${kind}`]);
        expect(row.samples_ns).toHaveLength(1);
        expect(row.latency_p95_ns).toBeGreaterThanOrEqual(row.latency_p50_ns!);
        // two chunks, one after the other
        expect((row.latency_p50_ns! * 2) / row.avg_ns!).toBeCloseTo(1, 6);
        expect(row.avg_ts_stream).toBeCloseTo(row.avg_ts! / streams, 9);
      }
      const growth = carried(rows.at(-1)!) / carried(rows[0]!);
      expect(growth).toBe(arch === "gru" ? 1 : 2);
      const [alternation] = alternations;
      expect(alternations).toHaveLength(1);
      expect(alternation).toMatchObject({ model: arch, n_parallel: streams, from: 1, to: 512, n_gen: 64 });
      expect(alternation!.ratios).toHaveLength(20);
      expect(alternation!.low).toBeLessThanOrEqual(alternation!.ratio!);
      expect(alternation!.high).toBeGreaterThanOrEqual(alternation!.ratio!);
      expect(alternation!.method).toMatch(arch === "gru" ? /^snapshots/ : /^two sessions/);
    },
    5 * minutes,
  );

  test("a logit that is not finite fails its row, which says where", { timeout: 2 * minutes }, async () => {
    const logits = Session.prototype.logits;
    const spoiled = vi.spyOn(Session.prototype, "logits");
    spoiled.mockImplementation(async function (this: Session) {
      const found = await logits.call(this);
      if (this.positions[0] === 128) found[3] = Number.NaN;
      return found;
    });
    const { rows } = await run(golden("gru"), curveTests(64, 192, { streams: [1], ubatches: [64] }), {
      curve: true,
    });
    expect(rows.map(({ status }) => status)).toEqual(["ok", "failed", "ok"]);
    expect(rows[1]!.reason).toBe("logit 3 of stream 0 is NaN after 128 tokens");
  });

  test("a stream that does not fit ends with one row that says so", async () => {
    const long = curveTests(512, 4096, { streams: [1], ubatches: [64] });
    const { rows, alternations } = await run(golden("llama"), long, { curve: true, maxBytes: 700 * 1024 });
    expect(rows[0]!.status).toBe("ok");
    expect(rows.at(-1)!.status).toBe("refused");
    expect(rows.filter(({ status }) => status === "refused")).toHaveLength(1);
    expect(alternations).toEqual([]);
  });
});

describe("--fill random", () => {
  const deep = { n_prompt: 0, n_gen: 4, n_depth: 700, n_parallel: 2, n_ubatch: 32 };

  test("makes the depth of a cache, and the row says so; its bytes are those of a depth that was fed", async () => {
    const { rows: made } = await run(golden("llama"), [deep, { ...deep, n_depth: 0 }], { fill: "random" });
    const { rows: fed } = await run(golden("llama"), [deep], {});
    expect(made.map(({ status, fill }) => `${status} ${fill}`)).toEqual(["ok random cache", "ok random"]);
    expect(fed[0]!.fill).toBe("random");
    for (const field of ["mem_live", "mem_asked", "mem_kv", "bytes_per_stream"] as const)
      expect(made[0]![field], field).toBe(fed[0]![field]);
    expect(made[0]!.theory_err_pct).toBe(0);
  });

  test("a model without a cache is streamed", async () => {
    const { rows } = await run(golden("gru"), [deep], { fill: "random" });
    expect(rows[0]).toMatchObject({ status: "ok", fill: "random", theory_err_pct: 0 });
  });
});

test("a depth of small state is made once", async () => {
  const prefill = vi.spyOn(Session.prototype, "prefill");
  const deep = { n_prompt: 0, n_gen: 1, n_depth: 300, n_parallel: 1, n_ubatch: 64 };
  const deeper = { ...deep, n_depth: 400 };
  const { rows } = await run(golden("gru"), [deep, deep, deeper], {});
  expect(rows.map(({ status, theory_err_pct }) => `${status} ${theory_err_pct}`)).toEqual(
    new Array(3).fill("ok 0"),
  );
  const onGpu = prefill.mock.contexts.map((session, i) => ({ session, call: prefill.mock.calls[i]! }));
  const fed = onGpu
    .filter(({ session }) => (session as Session).model.machine.kind === "gpu")
    .map(({ call: [ids] }) => (ids[0] as number[]).length);
  expect(fed).toEqual([300, 0, 100].filter((n) => n > 0));
});

describe("--quality", () => {
  const trained = Object.entries(shipped).filter(([, { overlay }]) => overlay === null);

  test.each(trained)(
    "%s: bits a byte are those of its training.json",
    async (_arch, { folder }) => {
      const { gpu } = await dawnInNode();
      const engine = await createEngine({ gpu });
      const source = directorySource(join(checkpoints, folder));
      const model = await engine.load(source, { tune: "off" });
      const told = JSON.parse(await readFile(join(checkpoints, folder, "training.json"), "utf8"));
      const validation = await ValidationText.open(model, await shippedText(), 0);
      const bits = await windowBits(model, validation);
      engine.destroy();
      expect(bits).toBeCloseTo(told.validation.bits_per_byte, 4);
    },
    5 * minutes,
  );

  test(
    "over one stream: a point at every power of two and at the end; rows carry the figure",
    async () => {
      const pp = { n_prompt: 8, n_gen: 0, n_depth: 0, n_parallel: 1, n_ubatch: 8 };
      const { quality, rows } = await run(shippedSubject("gru", checkpoints), [pp], { quality: 600 });
      const [found] = quality;
      expect(found).toMatchObject({ arch: "gru", status: "ok", reason: null, theory_bytes_at_4096: 2048 });
      expect(found!.points.map(({ context }) => context)).toEqual([16, 32, 64, 128, 256, 512, 600]);
      for (const { bits_per_byte } of found!.points) {
        expect(bits_per_byte).toBeGreaterThan(0.5);
        expect(bits_per_byte).toBeLessThan(4);
      }
      expect(rows[0]!.bits_per_byte).toBe(found!.bits_per_byte);
    },
    5 * minutes,
  );

  test("tokens that spell no text have no bits a byte, and say why", async () => {
    const { quality } = await run(golden("gru"), [], { quality: 600 });
    expect(quality).toMatchObject([{ status: "unsupported", bits_per_byte: null, points: [] }]);
    expect(quality[0]!.reason).toMatch(/it takes token ids, not text$/);
  });

  test("a text too short is said", async () => {
    const { gpu } = await dawnInNode();
    const engine = await createEngine({ gpu });
    const model = await engine.load(directorySource(join(checkpoints, "gru")), { tune: "off" });
    const subject = shippedSubject("gru", checkpoints);
    const found = await measureQuality({ model, subject }, "To be, or not to be", 16, async () => {});
    engine.destroy();
    expect(found.reason).toBe("the validation text is 2 tokens, 16385 are wanted");
  });
});
