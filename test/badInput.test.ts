// What people hand in by mistake, through the real commands: each mistake is one sentence and the right exit code, and
// leaves nothing behind.

import { existsSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dawnInNode } from "../bench/node.ts";
import type { Results } from "../bench/row.ts";
import { total } from "../engine/memory.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine } from "../models/engine.ts";
import { project, run } from "./tools/command.ts";

const good = join(project, "test/goldens/llama");
const norm = "model.layers.0.input_layernorm.weight";
const other = "model.layers.1.input_layernorm.weight";

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** What was done to a good folder, and what is to be said of it; `unsupported`: we know what it is, and cannot. */
interface Mistake {
  spoil(folder: string): Promise<void>;
  sentence: RegExp;
  unsupported?: true;
}

const weights = (folder: string) => join(folder, "model.safetensors");

/** Another header over the same bytes of data; `length` may lie. */
const header =
  (change: (header: Header) => unknown, length?: number): Mistake["spoil"] =>
  async (folder) => {
    const bytes = await readFile(weights(folder));
    const end = 8 + Number(bytes.readBigUInt64LE());
    const found = JSON.parse(bytes.subarray(8, end).toString()) as Header;
    const changed = change(found) ?? found;
    const text = Buffer.from(typeof changed === "string" ? changed : JSON.stringify(changed));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(length ?? text.length));
    await writeFile(weights(folder), Buffer.concat([prefix, text, bytes.subarray(end)]));
  };

const config =
  (change: Record<string, unknown>): Mistake["spoil"] =>
  async (folder) => {
    const path = join(folder, "config.json");
    const found = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
    await writeFile(path, JSON.stringify({ ...found, ...change }));
  };

const without =
  (file: string): Mistake["spoil"] =>
  (folder) =>
    rm(join(folder, file));

const mistakes: Record<string, Mistake> = {
  "no-weights": {
    spoil: without("model.safetensors"),
    sentence: /no-weights holds neither model\.safetensors nor model\.safetensors\.index\.json$/,
  },
  "no-config": { spoil: without("config.json"), sentence: /no-config holds no config\.json$/ },
  truncated: {
    spoil: (folder) => truncate(weights(folder), 20_000),
    sentence: /^model\.safetensors: tensor \S+ ends at byte \d+, the file holds 20000$/,
  },
  empty: {
    spoil: (folder) => truncate(weights(folder), 0),
    sentence: /^model\.safetensors: found 0 bytes, wanted at least the 8/,
  },
  "long-header": {
    spoil: header(() => {}, 1e15),
    sentence: /the header claims 1000000000000000 bytes, wanted at most 100000000$/,
  },
  "header-past-end": {
    spoil: header(() => {}, 9e7),
    sentence: /the header claims 90000000 bytes, the file holds \d+ after the length$/,
  },
  "short-header": { spoil: header(() => {}, 10), sentence: /the header is not JSON in UTF-8$/ },
  overlapping: {
    spoil: header((tensors) => {
      tensors[other]!.data_offsets = [...tensors[norm]!.data_offsets];
    }),
    sentence: /tensor \S+ begins at byte \d+ and overlaps another that ends at \d+$/,
  },
  "out-of-range": {
    spoil: header((tensors) => {
      tensors[norm]!.data_offsets = [1e9, 1e9 + 128];
    }),
    sentence: /tensor \S+ ends at byte 1000\d+, the file holds \d+$/,
  },
  "wrong-size": {
    spoil: header((tensors) => {
      tensors[norm]!.shape = [9999];
    }),
    sentence: /tensor \S+ holds 128 bytes, F32 \[9999\] needs 39996$/,
  },
  "integer-weights": {
    spoil: header((tensors) => {
      tensors[norm]!.dtype = "I32";
    }),
    sentence: /input_layernorm\.weight.*I32/,
  },
  "missing-tensor": {
    spoil: header((tensors) => {
      tensors.renamed = tensors[norm]!;
      delete tensors[norm];
    }),
    sentence: /^model\.layers\.0\.input_layernorm\.weight is missing from \S+missing-tensor/,
  },
  "more-tensors": {
    spoil: config({ num_hidden_layers: 1 }),
    sentence: /^model\.layers\.1\.\S+ and 8 more in \S+: found a tensor that its config gives no place to$/,
  },
  "another-shape": {
    spoil: config({ intermediate_size: 100 }),
    sentence: /gate_proj\.weight: shape \[88, 32\] found, \[100, 32\] wanted$/,
  },
  "config-not-json": {
    spoil: (folder) => writeFile(join(folder, "config.json"), "{ model_type: llama"),
    sentence: /^config\.json in \S+ is not JSON \(/,
  },
  "unknown-type": {
    spoil: config({ model_type: "rwkv" }),
    sentence: /^config\.json: model_type is "rwkv"; longtape supports .*llama/,
    unsupported: true,
  },
  "rope-scaling": {
    spoil: config({ rope_parameters: { rope_type: "yarn", factor: 4, rope_theta: 1e4 } }),
    sentence: /rope_parameters\.rope_type is "yarn"; llama supports "default"$/,
    unsupported: true,
  },
  "another-activation": {
    spoil: config({ hidden_act: "gelu" }),
    sentence: /hidden_act is "gelu"; llama supports "silu" or "swish"$/,
    unsupported: true,
  },
  "impossible-size": {
    spoil: config({ hidden_size: 1e12 }),
    sentence: /hidden_size is 1000000000000; llama needs a whole number from 1 to \d+$/,
    unsupported: true,
  },
  "shard-outside": {
    spoil: async (folder) => {
      await rm(weights(folder));
      const index = { weight_map: { [norm]: "../other/model.safetensors" } };
      await writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
    },
    sentence: /is said to lie in "\.\.\/other\/model\.safetensors", wanted a \.safetensors file beside/,
  },
  "shard-missing": {
    spoil: async (folder) => {
      await rm(weights(folder));
      const index = { weight_map: { [norm]: "model-00001-of-00002.safetensors" } };
      await writeFile(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
    },
    sentence: /shard-missing holds no model-00001-of-00002\.safetensors$/,
  },
};

const names = Object.keys(mistakes);
let folder: string;
let folders: string[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-bad-"));
  folders = await Promise.all(
    names.map(async (name) => {
      const path = join(folder, name);
      await cp(good, path, { recursive: true });
      await mistakes[name]!.spoil(path);
      return path;
    }),
  );
});

afterAll(() => rm(folder, { recursive: true }));

test("the library refuses each, and holds nothing afterwards", async () => {
  const { gpu } = await dawnInNode({ software: true });
  const engine = await createEngine({ gpu });
  for (const [i, name] of names.entries()) {
    await expect(engine.load(directorySource(folders[i]!), { tune: "off" }), name).rejects.toThrow(
      mistakes[name]!.sentence,
    );
    expect(total(engine.memory()), name).toBe(0);
  }
  engine.destroy();
});

test("verify fails each with its sentence", async () => {
  const { code, out, err } = await run("verify", ["--software", "--json", ...folders]);
  expect(code, err).toBe(1);
  expect(err).not.toContain("    at ");
  const verdicts = (JSON.parse(out) as { folders: { ok: boolean; reason: string }[] }).folders;
  expect(verdicts).toHaveLength(names.length);
  for (const [i, name] of names.entries()) {
    expect(verdicts[i]!.ok, name).toBe(false);
    expect(verdicts[i]!.reason).toMatch(mistakes[name]!.sentence);
  }
});

test("bench gives each a row with its sentence, and writes whole files", async () => {
  const out = join(folder, "out");
  const sizes = ["-p", "1", "-n", "0", "-r", "1", "--tune", "off"];
  const models = ["-m", folders.join(",")];
  const ran = await run("cli", ["--runtime", "node", "--software", ...models, ...sizes, "--out", out]);
  expect(ran.code, ran.err).toBe(1);
  expect(ran.err).not.toContain("    at ");
  expect((await readdir(out)).sort()).toEqual(["report.html", "results.csv", "results.json", "results.md"]);
  const { rows } = JSON.parse(await readFile(join(out, "results.json"), "utf8")) as Results;
  expect(rows).toHaveLength(names.length);
  for (const [i, name] of names.entries()) {
    const { sentence, unsupported } = mistakes[name]!;
    expect(rows[i]!.reason).toMatch(sentence);
    expect(rows[i]!.status, name).toBe(unsupported ? "unsupported" : "failed");
    expect(rows[i]!.avg_ns).toBeNull();
  }
});

test("generate says it in one line; with --verbose it says where", async () => {
  const spoilt = folders[names.indexOf("rope-scaling")]!;
  const plain = await run("generate", ["-m", spoilt, "--ids", "1", "--software"]);
  expect([plain.code, plain.out]).toEqual([1, ""]);
  expect(plain.err.trimEnd()).toMatch(mistakes["rope-scaling"]!.sentence);
  expect(plain.err.trimEnd()).not.toContain("\n");
  const verbose = await run("generate", ["-m", spoilt, "--ids", "1", "--software", "--verbose"]);
  expect(verbose.code).toBe(1);
  expect(verbose.err).toContain("    at ");
});

describe("what cannot be asked of the bench", () => {
  const asked = (...args: string[]) => run("cli", [...args, "--out", join(folder, "none")]);

  test.each([
    [["--frob"], /^unknown flag --frob, /],
    [["-d", "9999999999"], /^-d: found "9999999999", wanted a whole number from 0 to /],
  ])("%j is wrong usage", async (args, sentence) => {
    const { code, out, err } = await asked(...args);
    expect([code, out], err).toEqual([2, ""]);
    expect(err.trimEnd()).toMatch(sentence);
    expect(err.trimEnd()).not.toContain("\n");
    expect(existsSync(join(folder, "none"))).toBe(false);
  });

  test("a browser that does not start leaves no empty folder", async () => {
    const { code, err } = await asked("--browser", join(folder, "no-browser"));
    expect([code, err.split("\n").length], err).toEqual([1, 2]);
    expect(existsSync(join(folder, "none"))).toBe(false);
  });

  test("a context past a model's reach is refused in its own row; the others run", async () => {
    const out = join(folder, "deep");
    const { code, err } = await run("cli", [
      ...["--runtime", "node", "--software", "--tune", "off", "-o", "none", "--out", out],
      ...["-m", good, "-p", "0", "-n", "2", "-r", "1", "-d", "0,1000000000", "--max-bytes", "8M"],
    ]);
    expect(code, err).toBe(0);
    const { rows } = JSON.parse(await readFile(join(out, "results.json"), "utf8")) as Results;
    expect(rows.map(({ status }) => status)).toEqual(["ok", "refused"]);
    expect(rows[1]!.reason).toMatch(/^a context of 1000000000 tokens/);
  });
});
