// npm run bench -- --kernels: which sizes, what a row says, and what is printed.

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { isReached, type KernelTime, type Target } from "../bench/kernels/kernelTime.ts";
import { presetSubjects } from "../bench/kernels/models.ts";
import { shapesOf } from "../bench/kernels/shapes.ts";
import { kernelAnswer, targetAnswer } from "../bench/kernels/table.ts";
import type { Results } from "../bench/row.ts";
import { deepStep, kernelTests } from "../bench/tests.ts";
import { VariantTable } from "../engine/machine.ts";
import { allKernels } from "../kernels/index.ts";
import { openConfig } from "../models/load.ts";
import { run } from "./tools/command.ts";

const config = {
  model_type: "llama",
  vocab_size: 64,
  hidden_size: 32,
  intermediate_size: 88,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const variants = () => new VariantTable("cpu", new Set(["subgroups"]));

test("shapes: every case once, and what a model's step and prompt run, with a cache as long as they are deep", async () => {
  const models = [
    { model: "small", ...openConfig(config), tests: kernelTests },
    { model: "same", ...openConfig(config), tests: [kernelTests[0]!] },
    { model: "deep", ...openConfig(config), tests: [deepStep] },
  ];
  const shapes = await shapesOf(allKernels, variants(), models);
  const cases = allKernels.flatMap(({ cases }) => cases);
  expect(shapes.filter(({ usedBy }) => usedBy.includes("case"))).toHaveLength(cases.length);
  const of = (name: string) =>
    shapes.filter(({ kernel, usedBy }) => kernel.name === name && !usedBy.includes("case"));
  expect(of("gatedLinear").map(({ sizes, usedBy }) => [sizes.M, sizes.O, usedBy])).toEqual([
    [1, 88, ["small tg @ d1024", "same tg @ d1024", "deep tg @ d4096"]],
    [512, 88, ["small pp512"]],
  ]);
  expect(of("attention[full]").map(({ sizes, usedBy }) => [sizes.T, sizes.N, usedBy])).toEqual([
    [1, 1025, ["small tg @ d1024", "same tg @ d1024"]],
    [512, 512, ["small pp512"]],
    [1, 4097, ["deep tg @ d4096"]],
  ]);
});

test("presets: those of families that are run", () => {
  const names = presetSubjects().map(({ model }) => model);
  expect(names).toContain("llama-3-8b");
  expect(names).toContain("mamba-130m");
  expect(names).not.toContain("mixtral-8x7b");
});

test("a run gives each variant's figures, its error and the winner, and roofs that they lie under", async () => {
  const out = await mkdtemp(join(tmpdir(), "longtape-kernels-"));
  onTestFinished(() => rm(out, { recursive: true }));
  const flags = ["--kernels", "--kernel", "rmsNorm,linear", "-a", "llama", "--quick"];
  const ended = await run("cli", [...flags, "--runtime", "node", "--software", "--progress", "--out", out]);
  expect(ended.err).toMatch(/\[1\/\d+\] kernels .*of the roof/);
  expect(ended.code).toBe(0);
  const { kernels, roofs, rows, targets }: Results = JSON.parse(
    await readFile(join(out, "results.json"), "utf8"),
  );
  expect(rows).toEqual([]);
  expect(targets).toBeUndefined();
  expect(Object.values(roofs!).every((roof) => roof > 0)).toBe(true);
  expect(new Set(kernels!.map(({ kernel }) => kernel.split("[")[0]))).toEqual(new Set(["rmsNorm", "linear"]));
  for (const time of kernels!) {
    const what = `${time.kernel} ${time.variant} ${time.sizes}`;
    expect(time.status, what).toBe("ok");
    expect(time.nmse, what).toBeLessThan(1e-11);
    expect(time.rounds, what).toBe(9);
    expect(time.min_ns, what).toBeGreaterThan(0);
    expect(time.median_ns, what).toBeGreaterThanOrEqual(time.min_ns!);
    expect(time.gbs, what).toBeCloseTo(time.bytes / time.min_ns!, 9);
    expect(time.used_by.join(), what).toContain("llama");
    expect(time.suits, what).not.toBe("gpu");
  }
  const shapes = new Map<string, KernelTime[]>();
  for (const time of kernels!) {
    const key = `${time.kernel} ${time.sizes}`;
    shapes.set(key, [...(shapes.get(key) ?? []), time]);
  }
  for (const [shape, times] of shapes)
    expect(
      times.filter(({ won }) => won),
      shape,
    ).toHaveLength(1);
  expect([...shapes.values()].some((times) => times.length > 1)).toBe(true);
  expect(ended.out).toContain("Kernels by themselves");
  expect(ended.out).toContain("| linear[residual] | M=1 I=128 O=128");
  expect(await readFile(join(out, "report.html"), "utf8")).toContain("Kernels under the roofs");
});

test("a kernel that there is not is named, with those that there are", async () => {
  const ended = await run("cli", ["--kernels", "--kernel", "linaer", "--runtime", "node"]);
  expect(ended.code).toBe(2);
  expect(ended.err).toContain('--kernel: found "linaer", wanted one of advance, argmax, attention');
});

test("models whose sizes cannot be had are named, and nothing is left behind", async () => {
  const out = join(tmpdir(), `longtape-kernels-${process.pid}`);
  const flags = ["--kernels", "--kernel", "linear", "-m", "nowhere", "--runtime", "node", "--software"];
  const ended = await run("cli", [...flags, "--out", out]);
  expect(ended.code).toBe(1);
  expect(ended.err).toMatch(/kernels: .*nowhere/);
  await expect(readFile(join(out, "results.json"))).rejects.toThrow("ENOENT");
});

const time: KernelTime = {
  kernel: "linear",
  sizes: "M=1",
  used_by: ["case", "llama pp512"],
  variant: "tiles",
  suits: "cpu",
  status: "ok",
  reason: null,
  nmse: 2e-14,
  bytes: 4e6,
  flops: 2e6,
  dispatches: 1,
  rounds: 9,
  min_ns: 1e6,
  median_ns: 1.2e6,
  gbs: 4,
  gflops: 2,
  roof_ns: 8e5,
  of_roof: 0.8,
  won: true,
};

test("a variant that did not run says why in its line", () => {
  const roofs = { read_gbs: 5, gflops: 10, dispatch_ns: 15_000 };
  const refused = { ...time, status: "refused" as const, reason: "no room", min_ns: null, median_ns: null };
  const bare = { gbs: null, gflops: null, roof_ns: null, of_roof: null, dispatches: null, won: false };
  const answer = kernelAnswer([time, { ...refused, ...bare, rounds: 0 }], roofs)!;
  expect(answer.note).toContain("5 GB/s read, 10 GF/s of multiply-adds, 15.00 µs for an empty dispatch");
  expect(answer.rows.map((cells) => cells.join(" | "))).toEqual([
    "linear | M=1 | case, llama pp512 | tiles (cpu) | 1.00 ms | 1.20 ms | 9 | 1 | 4 | 2 | 80% | 2.0e-14 | won",
    "linear | M=1 | case, llama pp512 | tiles (cpu) | – | – | 0 | – | – | – | – | 2.0e-14 | refused: no room",
  ]);
  expect(kernelAnswer([], roofs)).toBeNull();
});

test("a figure is reached, missed or not found", () => {
  const target = (found: number | null, most = false): Target => ({
    figure: "f",
    wanted: 2,
    most,
    found,
    how: "h",
  });
  expect([target(2), target(1.9), target(null)].map(isReached)).toEqual([true, false, false]);
  expect([target(2, true), target(2.1, true)].map(isReached)).toEqual([true, false]);
  expect(targetAnswer([target(1.9), target(null), target(1, true)])!.rows.map((cells) => cells[3])).toEqual([
    "missed",
    "not found",
    "reached",
  ]);
});
