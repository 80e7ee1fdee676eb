// The estimator against what others have published, and the command as a person runs it.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type EstimateOptions, estimate, withLedger } from "../bench/estimateModel.ts";
import { type EstimateDocument, estimateMarkdown, listMarkdown } from "../bench/estimateTable.ts";
import { presets } from "../bench/presets.ts";
import { shapeOf } from "../bench/shape.ts";
import { openCheckpoint } from "../models/checkpoint.ts";
import type { Config } from "../models/config.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine } from "../models/engine.ts";
import { namedHybrid } from "../models/hybridConfig.ts";
import { type Ended, project, run } from "./tools/command.ts";
import { checkpoints, goldens } from "./tools/folders.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

const half: EstimateOptions = {
  depths: [0],
  streams: [1],
  dtype: "f16",
  typeK: "f16",
  typeV: "f16",
  typeState: "f32",
  convColumns: "past",
};

/** The one row of a preset, or of a config. */
function rowOf(model: string | Config, tokens = 0, options: Partial<EstimateOptions> = {}) {
  const config = typeof model === "string" ? presets[model]! : model;
  return estimate("it", config, { ...half, depths: [tokens], ...options }).rows[0]!;
}

describe("parameters, by formula from the shapes", () => {
  // safetensors' own totals on Hugging Face
  test.each([
    ["llama-3-8b", 8_030_261_248],
    ["llama-2-7b", 6_738_415_616],
    ["mistral-7b", 7_241_732_096],
    ["mixtral-8x7b", 46_702_792_704],
    ["pythia-2.8b", 2_775_208_960],
    ["mamba-130m", 129_135_360],
    ["mamba-370m", 371_516_416],
    ["mamba-790m", 793_204_224],
    ["mamba-1.4b", 1_372_178_432],
    ["mamba-2.8b", 2_768_345_600],
    ["qwen2.5-1.5b", 1_543_714_304],
    ["smollm2-135m", 134_515_008],
  ])("%s has %d", (name, parameters) => expect(shapeOf(presets[name]!).parameters).toBe(parameters));

  // published to so many digits
  test.each([
    ["falcon-mamba-7b", 7.27],
    ["jamba-v0.1", 51.57],
    ["opt-13b", 12.85],
  ])("%s has %d billion", (name, billions) =>
    expect(shapeOf(presets[name]!).parameters / 1e9).toBeCloseTo(billions, 2),
  );

  test.each([
    ...checkpoints.map((name) => `models/checkpoints/${name}`),
    ...goldens.map((name) => `test/goldens/${name}`),
  ])("%s has as many as its file holds", async (folder) => {
    const engine = await createEngine({ machine: "cpu" });
    const source = directorySource(join(project, folder));
    const model = await engine.load(source);
    expect(shapeOf((await openCheckpoint(source)).config).parameters).toBe(model.parameters);
    model.destroy();
  });

  test.each(["hybrid:mamba*3+attn", "hybrid:window:64+linear+gla"])(
    "%s has as many as its seeded weights",
    async (name) => {
      const { config } = namedHybrid(name);
      const engine = await createEngine({ machine: "cpu" });
      const model = await engine.random(config);
      expect(shapeOf(config).parameters).toBe(model.parameters);
      model.destroy();
    },
  );

  test("one expert is an MLP without a router", () => {
    const sizes = { ...presets["mixtral-8x7b"]!, vocab_size: 1 };
    const of = (num_local_experts: number) => shapeOf({ ...sizes, num_local_experts }).parameters;
    expect(of(2) - of(1)).toBe(32 * (3 * 4096 * 14336 + 2 * 4096));
    expect(of(1)).toBe(shapeOf({ ...presets["mistral-7b"]!, vocab_size: 1 }).parameters);
  });
});

describe("published figures", () => {
  // Jamba's Table 1, arXiv 2403.19887: 256K tokens, 16 bit; its Mistral is counted without the window
  test.each<[string, Config, number]>([
    ["Llama-2-7B", presets["llama-2-7b"]!, 128],
    ["Mistral-7B", { ...presets["mistral-7b"]!, sliding_window: null }, 32],
    ["Mixtral", presets["mixtral-8x7b"]!, 32],
    ["Jamba", presets["jamba-v0.1"]!, 4],
  ])("%s's keys and values at 262,144 tokens", (_, config, gib) => {
    expect(rowOf(config, 262_144).kv).toBe(gib * GiB);
  });

  test("Mamba-1.4B's state: 14.25 MiB in llama.cpp, 15 MiB in mamba_ssm, at any length", () => {
    for (const tokens of [0, 32_768, 1_048_576]) {
      expect(rowOf("mamba-1.4b", tokens).state).toBe(14.25 * MiB);
      expect(rowOf("mamba-1.4b", tokens, { convColumns: "all" }).state).toBe(15 * MiB);
    }
  });

  test("Qwen2.5-1.5B at 32K: 896 MiB, 63 times Mamba-1.4B's state", () => {
    const { kv } = rowOf("qwen2.5-1.5b", 32_768);
    expect(kv).toBe(896 * MiB);
    expect(kv / rowOf("mamba-1.4b").state).toBeCloseTo(63, 0);
  });

  test.each([
    ["llama-3-8b", 128 * KiB],
    ["pythia-2.8b", 320 * KiB],
    ["smollm2-135m", 22.5 * KiB],
    ["opt-13b", 819_200],
    ["qwen2.5-1.5b", 28_672],
    ["mamba-2.8b", 0],
  ])("%s takes %d bytes a token", (name, bytes) => {
    expect(rowOf(name, 0).bytes_per_token).toBe(bytes);
    expect(rowOf(name, 1000).bytes_per_token).toBe(bytes);
  });

  test("Llama-3-8B: 0.5 GiB at 4K, 4 at 32K, 16 at 128K", () => {
    const { rows } = estimate("it", presets["llama-3-8b"]!, {
      ...half,
      depths: [4096, 32_768, 131_072],
    });
    expect(rows.map(({ kv }) => kv / GiB)).toEqual([0.5, 4, 16]);
  });

  test("Mistral-7B ends at 512 MiB, and then a token costs nothing", () => {
    expect(rowOf("mistral-7b", 4095)).toMatchObject({
      kv: 4095 * 128 * KiB,
      bytes_per_token: 128 * KiB,
    });
    for (const tokens of [4096, 131_072])
      expect(rowOf("mistral-7b", tokens)).toMatchObject({ kv: 512 * MiB, bytes_per_token: 0 });
  });

  test.each([
    ["mamba-130m", 2.8125],
    ["mamba-370m", 7.5],
    ["mamba-790m", 11.25],
    ["mamba-1.4b", 15],
    ["mamba-2.8b", 25],
  ])("%s carries %d MiB in f32 with 4 columns", (name, mib) => {
    expect(rowOf(name, 0, { convColumns: "all" }).state).toBe(mib * MiB);
  });

  test("Jamba's 28 Mamba layers carry 8.75 MiB in f16 with 4 columns", () => {
    const { state } = rowOf("jamba-v0.1", 0, { convColumns: "all", typeState: "f16" });
    expect(state).toBe(8.75 * MiB);
  });

  test("Mamba-2.8B's f16 state is 40 tokens of Pythia-2.8B, 100 of Llama-3-8B", () => {
    const { state } = rowOf("mamba-2.8b", 0, { convColumns: "all", typeState: "f16" });
    expect(state).toBe(12.5 * MiB);
    expect(rowOf("pythia-2.8b", 40).kv).toBe(state);
    expect(rowOf("llama-3-8b", 100).kv).toBe(state);
  });

  test("WebGPU's walls: one head passes 128 MiB at 5,793 tokens, 1 GiB at 16,384, 2 GiB after 23,170", () => {
    const oneHead = {
      ...presets["llama-2-7b"]!,
      hidden_size: 128,
      num_attention_heads: 1,
      num_key_value_heads: 1,
    };
    const at = (tokens: number) => rowOf(oneHead, tokens).scores;
    expect(at(5792)).toBeLessThan(128 * MiB);
    expect(at(5793)).toBeGreaterThan(128 * MiB);
    expect(at(16_384)).toBe(GiB);
    expect(at(23_170)).toBeLessThan(2 * GiB);
    expect(at(23_171)).toBeGreaterThan(2 * GiB);
    expect(rowOf("llama-2-7b", 8192).scores).toBe(8 * GiB);
  });
});

describe("an estimate", () => {
  test("multiplies streams, and weights not", () => {
    const one = rowOf("jamba-v0.1", 1000);
    const eight = rowOf("jamba-v0.1", 1000, { streams: [8] });
    expect(eight).toMatchObject({
      weights: one.weights,
      kv: 8 * one.kv,
      state: 8 * one.state,
      scores: 8 * one.scores,
      bytes_per_token: one.bytes_per_token,
      total: one.weights + 8 * (one.kv + one.state),
    });
  });

  test.each([
    ["f32", 4],
    ["f16", 2],
    ["bf16", 2],
    ["int8", 1],
    ["q8_0", 8.5 / 8],
    ["q4", 0.5],
    ["q4_0", 4.5 / 8],
  ] as const)("%s takes %d bytes", (dtype, bytes) => {
    const found = rowOf("llama-3-8b", 64, { dtype, typeK: dtype, typeV: "f16" });
    expect(found.weights).toBe(8_030_261_248 * bytes);
    expect(found.kv).toBe(64 * 32 * 8 * 128 * (bytes + 2));
  });

  test("scores are in the total where they are held", () => {
    const materialised = { ...presets["smollm2-135m"]!, longtape_attention: { pattern: "materialised" } };
    const found = rowOf(materialised, 512);
    expect(found.scores).toBe(9 * 512 * 512 * 4);
    expect(found.total).toBe(found.weights + found.kv + found.scores);
  });

  test("is what longtape then holds, where longtape runs the model", async () => {
    const engine = await createEngine({ machine: "cpu" });
    const { config } = await openCheckpoint(directorySource(join(project, "models/checkpoints/llama")));
    const model = await engine.random(config);
    // the same defaults on a machine that allocates: references need no scratch, so what variants decide is left out
    const session = await model.session({ streams: 2, chunk: 512 });
    await session.reserve(1000);
    const { weights, kv, state, staging } = session.memory();
    const one = estimate("it", config, { ...half, depths: [1000], streams: [2] });
    const { rows } = await withLedger(one, config);
    expect(rows[0]!.longtape).toMatchObject({ weights, kv, state, staging });
    session.destroy();
    model.destroy();
    engine.destroy();
  });

  test("a context past what longtape's positions reach costs its own figure only", async () => {
    const config = presets["smollm2-135m"]!;
    const one = estimate("deep", config, { ...half, depths: [2 ** 21, 256] });
    const found = await withLedger(one, config);
    expect(found.models[0]!.reason).toMatch(/2097152 tokens is asked for; llama reaches 1048576/);
    expect(found.rows.map(({ longtape }) => longtape === null)).toEqual([true, false]);
    expect(found.rows[0]!.kv).toBe(2 ** 21 * 22.5 * KiB);
  });

  test("scaled rotary angles change no byte; longtape says that it does not run them", async () => {
    const scaled = { ...presets["smollm2-135m"]!, rope_scaling: { rope_type: "yarn", factor: 4 } };
    const { models, rows } = await withLedger(estimate("scaled", scaled, half), scaled);
    expect(models[0]).toMatchObject({ parameters: 134_515_008, reason: expect.stringMatching(/rope_type/) });
    expect(rows[0]!.longtape).toBeNull();
  });

  test("a family without a formula, and keys that change the sizes, are refused", () => {
    expect(() => estimate("it", { model_type: "rwkv" }, half)).toThrow(
      /model_type is "rwkv"; there are formulas for rnn, /,
    );
    const narrow = { ...presets["opt-13b"]!, word_embed_proj_dim: 512 };
    expect(() => estimate("it", narrow, half)).toThrow(/word_embed_proj_dim is 512/);
    const some = { ...presets["qwen2.5-1.5b"]!, use_sliding_window: true };
    expect(() => estimate("it", some, half)).toThrow(/use_sliding_window is true/);
  });
});

describe("the table", () => {
  const models = ["llama-3-8b", "mamba-2.8b"];
  const found = (options: Partial<EstimateOptions> = {}) => {
    const all = models.map((name) =>
      estimate(name, presets[name]!, { ...half, depths: [4096, 131_072], ...options }),
    );
    return { models: all.flatMap((one) => one.models), rows: all.flatMap((one) => one.rows) };
  };

  test("has a row a model and depth, and says what its words mean", () => {
    const text = estimateMarkdown(found(), half);
    const [head, rule, ...rows] = text.split("\n\n")[0]!.split("\n");
    expect(head).toMatch(/^\| model +\| +tokens \| +weights \| +kv \| +state \| +total \| +a token \| /);
    expect(rule).toMatch(/^\| -+ \|( -+: \|)+$/);
    expect(rows).toHaveLength(4);
    expect(rows[1]).toMatch(
      /^\| llama-3-8b +\| 131,072 \| 14\.96 GiB \| +16\.00 GiB \| +0 B \| +30\.96 GiB \|/,
    );
    expect(text).toContain("state f32 (whatever the weights are)");
    expect(text).toContain("a convolution keeps d_conv - 1 columns");
    expect(estimateMarkdown(found(), { ...half, convColumns: "all" })).toContain("keeps d_conv columns");
  });

  test("shows streams where there are several", () => {
    expect(estimateMarkdown(found(), half)).not.toContain("streams |");
    expect(estimateMarkdown(found({ streams: [1, 8] }), half)).toMatch(/\| +streams \|/);
  });

  test.each([40, 80, 120])("fits a terminal of %d columns", (width) => {
    for (const line of estimateMarkdown(found({ streams: [1, 8] }), half, width).split("\n"))
      expect(line.length, line).toBeLessThanOrEqual(width);
  });

  test("the list of presets fits a terminal of 80 columns", () => {
    const shapes = Object.entries(presets).map(([model, config]) => ({
      model,
      ...shapeOf(config),
      reason: null,
    }));
    for (const line of listMarkdown(shapes, 80).split("\n"))
      expect(line.length, line).toBeLessThanOrEqual(80);
  });

  test("a name from a folder ends no cell", () => {
    expect(listMarkdown([{ model: "a|b", ...shapeOf(presets["mamba-130m"]!), reason: null }])).toContain(
      "| a\\|b ",
    );
  });
});

describe("npm run estimate", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "longtape-estimate-"));
    await writeFile(join(folder, "config.json"), JSON.stringify(presets["smollm2-135m"]));
    await writeFile(join(folder, "other.json"), "{ not JSON");
    await writeFile(join(folder, "gpt2.json"), JSON.stringify({ model_type: "gpt2" }));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const command = (...args: string[]): Promise<Ended> => run("estimate", args);
  const rows = ({ out }: Ended) => (JSON.parse(out) as EstimateDocument).rows;

  test("prints a preset, a folder, a file and a shipped architecture in one table", async () => {
    const { code, out, err } = await command(
      "smollm2-135m",
      folder,
      join(folder, "config.json"),
      "mamba",
      "-d",
      "1024-4096*2",
      "-npl",
      "8",
    );
    expect(err).toBe("");
    expect(code).toBe(0);
    const lines = out.split("\n").filter((line) => line.startsWith("|"));
    expect(lines).toHaveLength(2 + 4 * 3);
    expect(lines[4]).toMatch(/^\| smollm2-135m +\| +4,096 \| +8 \| 256\.57 MiB \| +720\.00 MiB \| /);
  });

  test("prints one JSON document, types and conventions named", async () => {
    const ended = await command(
      "jamba-v0.1",
      "-d=131072,262144",
      "--dtype",
      "q4_0",
      "-ctv",
      "q8_0",
      "--conv-columns",
      "all",
      "-o",
      "json",
    );
    expect(ended.code).toBe(0);
    const document = JSON.parse(ended.out) as EstimateDocument;
    expect(document).toMatchObject({
      schema: "longtape-estimate/1",
      dtype: "q4_0",
      type_k: "f16",
      type_v: "q8_0",
      type_state: "f32",
      conv_columns: "d_conv",
      models: [{ model: "jamba-v0.1", reason: expect.any(String) }],
    });
    expect(rows(ended).map(({ n_depth }) => n_depth)).toEqual([131_072, 262_144]);
    expect(rows(ended)[0]).toMatchObject({ longtape: null, state: 17.5 * MiB });
  });

  test("lists the presets", async () => {
    const { code, out } = await command("--list");
    expect(code).toBe(0);
    for (const name of Object.keys(presets)) expect(out).toContain(`| ${name} `);
  });

  test("says what it can do", async () => {
    const { code, out } = await command("--help");
    expect(code).toBe(0);
    expect(out).toContain("-npl, --n-parallel <n>");
    for (const line of out.split("\n")) expect(line.length, line).toBeLessThanOrEqual(80);
  });

  test.each<[string, string[], RegExp]>([
    ["no model", [], /^found no model, wanted a folder/],
    ["a name that is nearly right", ["llama3-8b"], /^"llama3-8b" is no .*did you mean llama-3-8b/],
    ["a name that is nothing", ["zzzzzzzz"], /^"zzzzzzzz" is no file, folder or preset; --list names/],
    ["a range backwards", ["llama-3-8b", "-d", "8-4"], /^-d: range 8-4 ends before it starts/],
    ["no streams", ["llama-3-8b", "-npl", "0"], /^-npl: found "0", wanted a whole number from 1/],
    ["a width that is none", ["llama-3-8b", "--dtype", "f8"], /'f8' is invalid\. Wanted f32, f16/],
    ["an unknown flag", ["llama-3-8b", "--dept", "8"], /unknown option '--dept'/],
  ])("%s: one sentence, exit code 2", async (_, args, sentence) => {
    const { code, out, err } = await command(...args);
    expect(err.trimEnd()).toMatch(sentence);
    expect(err.trimEnd()).not.toContain("\n");
    expect({ code, out }).toEqual({ code: 2, out: "" });
  });

  test.each<[string, string, RegExp]>([
    ["a folder that is not there", "nowhere/at-all", /nowhere\/at-all holds no config\.json$/],
    ["a file that is no JSON", "other.json", /^other\.json in .* is not JSON/],
    ["a family without a formula", "gpt2.json", /model_type is "gpt2"; there are formulas for /],
  ])("%s: one sentence, exit code 1", async (_, path, sentence) => {
    const { code, out, err } = await command("mamba-130m", join(folder, path));
    expect(err.trimEnd()).toMatch(sentence);
    expect({ code, out }).toEqual({ code: 1, out: "" });
  });
});
