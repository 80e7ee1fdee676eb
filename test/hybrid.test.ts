// Jamba and lists of layers: what they may say, and what is refused by name.

import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { ROPE_POSITIONS } from "../kernels/rope.ts";
import { type Config, ConfigError } from "../models/config.ts";
import { createEngine } from "../models/engine.ts";
import { hybridConfig, jambaConfig, namedHybrid } from "../models/hybridConfig.ts";
import { formatLayers, parseLayers } from "../models/layerList.ts";
import { openConfig } from "../models/load.ts";

const jamba: Config = JSON.parse(
  await readFile(new URL("goldens/jamba/config.json", import.meta.url), "utf8"),
);
const without = (config: Config, ...keys: string[]): Config =>
  Object.fromEntries(Object.entries(config).filter(([key]) => !keys.includes(key)));
const kinds = (config: Config) => jambaConfig(config).layers.map(({ kind }) => kind);
const { config: hybrid } = namedHybrid("hybrid:mamba*3+attn");

describe("a list of layers", () => {
  test.each([
    ["attn", [{ kind: "attn" }]],
    ["mamba*2+attn", [{ kind: "mamba" }, { kind: "mamba" }, { kind: "attn" }]],
    ["window:256*2+gla", [{ kind: "window", size: 256 }, { kind: "window", size: 256 }, { kind: "gla" }]],
    ["linear+window:1", [{ kind: "linear" }, { kind: "window", size: 1 }]],
  ])("%s", (text, layers) => {
    expect(parseLayers(text, "x")).toEqual(layers);
    expect(formatLayers(parseLayers(text, "x"))).toBe(text);
  });

  test("is named by its shortest form", () => {
    expect(namedHybrid("hybrid:attn+attn*2+mamba*1+window:064").name).toBe("hybrid:attn*3+mamba+window:64");
  });

  const wanted =
    'layers such as mamba*3+attn: kind[:size][*count] joined by "+", of attn, window:TOKENS, mamba, linear, gla';
  test.each([
    ["", `found "", wanted ${wanted}`],
    ["mamba+", `found "", wanted ${wanted}`],
    ["mamba*3+att", `found "att", wanted ${wanted}`],
    ["Mamba", `found "Mamba", wanted ${wanted}`],
    ["mamba*3*2", `found "mamba*3*2", wanted ${wanted}`],
    ["mamba:8", 'found "mamba:8", wanted mamba without a size'],
    ["window*2", 'found "window*2", wanted the window\'s tokens, as window:256'],
    ["window:", 'found "window:", wanted a window\'s tokens from 1 to 1048576'],
    ["window:0", 'found "window:0", wanted a window\'s tokens from 1 to 1048576'],
    ["window:2e3", 'found "window:2e3", wanted a window\'s tokens from 1 to 1048576'],
    ["attn*0", 'found "attn*0", wanted a count from 1 to 4096'],
    ["attn*x", 'found "attn*x", wanted a count from 1 to 4096'],
    ["attn*4096+mamba", "found 4097 layers, wanted at most 4096"],
  ])("%j is refused", (text, message) => {
    expect(() => parseLayers(text, "-a")).toThrow(new ConfigError(`-a: ${message}`));
  });
});

describe("jamba's config", () => {
  test("says the golden's sizes", () => {
    const config = jambaConfig(jamba);
    expect(config).toMatchObject({ vocab: 64, hidden: 32, eps: 1e-6, ffn: 88, tied: false });
    const mamba = {
      hidden: 32,
      inner: 64,
      state: 16,
      conv: 4,
      convBias: true,
      timeStepRank: 2,
      eps: 1e-6,
      mixerNorm: { eps: 1e-6, weights: true },
    };
    const attention = {
      hidden: 32,
      heads: 4,
      kvHeads: 2,
      headDim: 8,
      eps: 1e-6,
      ropeTheta: null,
      pattern: { kind: "full" },
    };
    expect(config.layers).toEqual([
      { kind: "mamba", sizes: mamba },
      { kind: "mamba", sizes: mamba },
      { kind: "attn", sizes: attention },
      { kind: "mamba", sizes: mamba },
    ]);
  });

  test("has transformers' defaults", () => {
    const bare = jambaConfig({
      model_type: "jamba",
      vocab_size: 65_536,
      hidden_size: 4096,
      intermediate_size: 14_336,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_experts: 1,
    });
    expect(bare.layers.flatMap(({ kind }, i) => (kind === "attn" ? [i] : []))).toEqual([4, 12, 20, 28]);
    expect(bare.layers[4]!.sizes).toMatchObject({ heads: 32, kvHeads: 8, headDim: 128, eps: 1e-6 });
    expect(bare.layers[0]!.sizes).toMatchObject({
      inner: 8192,
      state: 16,
      conv: 4,
      convBias: true,
      timeStepRank: 256,
    });
    expect(bare.tied).toBe(false);
  });

  test("varies as real ones do", () => {
    expect(kinds({ ...jamba, attn_layer_period: 2, attn_layer_offset: 0 })).toEqual([
      "attn",
      "mamba",
      "attn",
      "mamba",
    ]);
    expect(kinds({ ...jamba, attn_layer_period: 8, attn_layer_offset: 4 })).not.toContain("attn");
    const heads = (change: Config) => jambaConfig({ ...jamba, ...change }).layers[2]!.sizes;
    expect(heads({ num_key_value_heads: null })).toMatchObject({ kvHeads: 4 });
    expect(heads({ mamba_dt_rank: "auto", head_dim: 8 })).toMatchObject({ headDim: 8 });
    const real = {
      num_logits_to_keep: 1,
      num_experts_per_tok: 2,
      expert_layer_period: 1,
      expert_layer_offset: 0,
      sliding_window: null,
      calc_logits_for_entire_prompt: false,
      mamba_inner_layernorms: true,
      tie_word_embeddings: true,
    };
    expect(jambaConfig({ ...jamba, ...real })).toEqual({ ...jambaConfig(jamba), tied: true });
  });

  test.each<[change: Config, message: string]>([
    [
      { num_experts: 16 },
      "config.json: num_experts is 16; experts are not supported, jamba needs num_experts 1",
    ],
    [
      { num_experts: null },
      "config.json: num_experts is absent, which means 16; experts are not supported, jamba needs num_experts 1",
    ],
    [{ mamba_proj_bias: true }, "config.json: mamba_proj_bias is true; jamba supports false"],
    [{ hidden_act: "gelu" }, 'config.json: hidden_act is "gelu"; jamba supports "silu" or "swish"'],
    [{ sliding_window: 4096 }, "config.json: sliding_window is 4096; jamba supports null"],
    [{ mamba_inner_layernorms: false }, "config.json: mamba_inner_layernorms is false; jamba supports true"],
    [
      { attn_layer_offset: 4 },
      "config.json: attn_layer_offset is 4; jamba needs a whole number from 0 to attn_layer_period - 1 (3)",
    ],
    [{ head_dim: 16 }, "config.json: head_dim is 16; jamba needs hidden_size / num_attention_heads (8)"],
    [
      { mamba_dt_rank: "full" },
      'config.json: mamba_dt_rank is "full"; jamba needs a whole number from 1 to 1048576',
    ],
    [{ mamba_d_state: 0 }, "config.json: mamba_d_state is 0; jamba needs a whole number from 1 to 1024"],
    [
      { rope_theta: 10_000 },
      'config.json: unknown key "rope_theta" (10000); longtape cannot tell whether it changes the mathematics',
    ],
  ])("%j is refused", (change, message) => {
    expect(() => jambaConfig({ ...jamba, ...change })).toThrow(new ConfigError(message));
  });

  test("num_key_value_heads absent means 8", () => {
    expect(() => jambaConfig(without(jamba, "num_key_value_heads"))).toThrow(
      "jamba needs a divisor of num_attention_heads (4), not 8",
    );
  });
});

describe("a hybrid's config", () => {
  test("is that of its name: four layers of the shipped models' sizes", () => {
    const { architecture, config } = openConfig(hybrid);
    expect(architecture.name).toBe("hybrid:mamba*3+attn");
    expect(config).toMatchObject({ vocab: 256, hidden: 128, ffn: 256, tied: false });
    expect(config.layers[3].sizes).toMatchObject({ heads: 4, kvHeads: 4, headDim: 32, ropeTheta: 10_000 });
  });

  test("may be written by hand", () => {
    const change = {
      layers: ["window:16*2", "gla", "linear"],
      num_key_value_heads: 2,
      rope_theta: null,
      intermediate_size: null,
      tie_word_embeddings: true,
    };
    const config = hybridConfig({ ...hybrid, ...change });
    expect(config).toMatchObject({ ffn: null, tied: true });
    expect(config.layers[1]).toMatchObject({
      kind: "window",
      size: 16,
      sizes: { kvHeads: 2, ropeTheta: null, pattern: { kind: "window", window: 16 } },
    });
    expect(config.layers[2]!.sizes).toMatchObject({ kvHeads: 2, keyDim: 16, valueDim: 32 });
    expect(config.layers[3]!.sizes).toMatchObject({ keyDim: 32, featureMap: "elu", normalized: true });
  });

  test.each<[change: Config, message: RegExp]>([
    [{ layers: "mamba*3+attn" }, /layers is "mamba\*3\+attn"; hybrid needs a list such as/],
    [{ layers: [] }, /layers is \[\]; hybrid needs a list such as/],
    [{ layers: ["mamba", "rwkv"] }, /^config\.json: layers: found "rwkv", wanted layers such as/],
    [{ mamba_proj_bias: true }, /mamba_proj_bias is true; hybrid supports false/],
    [{ rope_scaling: { factor: 2 } }, /unknown key "rope_scaling"/],
    [{ num_hidden_layers: 4 }, /unknown key "num_hidden_layers"/],
    [{ num_attention_heads: 3 }, /hidden_size is 128; hybrid needs a multiple of num_attention_heads \(3\)/],
  ])("%j is refused", (change, message) => {
    expect(() => hybridConfig({ ...hybrid, ...change })).toThrow(message);
    expect(() => hybridConfig({ ...hybrid, ...change })).toThrow(ConfigError);
  });
});

test("positions end where rotary tables do; without them nothing ends", () => {
  const longest = (change: Config) => {
    const { architecture, config } = openConfig({ ...hybrid, ...change });
    return architecture.longest?.(config);
  };
  expect(longest({})).toBe(ROPE_POSITIONS);
  expect(longest({ rope_theta: null })).toBe(Number.POSITIVE_INFINITY);
  expect(longest({ layers: ["mamba", "gla"] })).toBe(Number.POSITIVE_INFINITY);
});

test("a hybrid's logits depend on the order of its layers, and on positions", async () => {
  const cpu = await createEngine({ machine: "cpu" });
  const logitsOf = async (change: Config) => {
    const model = await cpu.random({ ...hybrid, vocab_size: 32, hidden_size: 32, ...change }, 3);
    const session = await model.session({ chunk: 8 });
    await session.prefill([1, 2, 3, 4, 5]);
    const logits = await session.logits();
    session.destroy();
    model.destroy();
    return [...logits];
  };
  const first = await logitsOf({});
  expect(first.every(Number.isFinite)).toBe(true);
  expect(await logitsOf({ layers: ["attn", "mamba*3"] })).not.toEqual(first);
  expect(await logitsOf({ rope_theta: null })).not.toEqual(first);
  expect(await logitsOf({ layers: ["mamba", "mamba*2", "attn"] })).toEqual(first);
});
