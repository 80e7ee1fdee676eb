import { readdir, readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { type Config, ConfigError, modelType } from "../models/config.ts";
import {
  glaConfig,
  linearAttentionConfig,
  mambaConfig,
  rnnConfig,
  transformerConfig,
} from "../models/configs.ts";
import { hybridConfig, jambaConfig } from "../models/hybridConfig.ts";

const GOLDENS = new URL("goldens/", import.meta.url);
const CHECKPOINTS = new URL("../models/checkpoints/", import.meta.url);
const SHIPPED = (await readdir(CHECKPOINTS, { withFileTypes: true }))
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);
const load = async (root: URL, name: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(new URL(`${name}/config.json`, root), "utf8"));
const golden = (name: string) => load(GOLDENS, name);

const READERS: Record<string, (config: Config) => unknown> = {
  rnn: rnnConfig,
  gru: rnnConfig,
  lstm: rnnConfig,
  llama: transformerConfig,
  mistral: transformerConfig,
  mamba: mambaConfig,
  falcon_mamba: mambaConfig,
  linear_attn: linearAttentionConfig,
  gla: glaConfig,
  jamba: jambaConfig,
  hybrid: hybridConfig,
};
const read = (config: Config): unknown => READERS[modelType(config, Object.keys(READERS))]!(config);
const without = (config: Config, ...keys: string[]): Config =>
  Object.fromEntries(Object.entries(config).filter(([key]) => !keys.includes(key)));

const llama = await golden("llama");
const mistral = await golden("mistral-window");
const mamba = await golden("mamba");
const linear = await golden("linear-attention");
const gla = await golden("gla");
const gru = await golden("gru");
const falcon = without(
  { ...mamba, model_type: "falcon_mamba", use_falcon_mambapy: false, mixer_rms_eps: 1e-5 },
  "use_mambapy",
);

describe("what the families say", () => {
  test("rnn, gru, lstm", async () => {
    const sizes = { vocab: 64, embedding: 24, hidden: 32, layers: 2 };
    expect(rnnConfig(await golden("elman"))).toEqual({ cell: "rnn", ...sizes });
    expect(rnnConfig(gru)).toEqual({ cell: "gru", ...sizes });
    expect(rnnConfig(await golden("lstm"))).toEqual({ cell: "lstm", ...sizes });
  });

  test("llama, mistral", () => {
    const sizes = {
      vocab: 64,
      hidden: 32,
      layers: 2,
      heads: 4,
      kvHeads: 2,
      headDim: 8,
      ffn: 88,
      ropeTheta: 10000,
      tied: false,
    };
    expect(transformerConfig(llama)).toEqual({ ...sizes, eps: 1e-5, pattern: { kind: "full" } });
    expect(transformerConfig(mistral)).toEqual({
      ...sizes,
      eps: 1e-6,
      pattern: { kind: "window", window: 8 },
    });
  });

  test("mamba, falcon_mamba", () => {
    const sizes = {
      vocab: 64,
      hidden: 32,
      layers: 2,
      inner: 64,
      state: 16,
      conv: 4,
      convBias: true,
      timeStepRank: 2,
      eps: 1e-5,
    };
    expect(mambaConfig(mamba)).toEqual({ ...sizes, mixerNorm: null, tied: true });
    expect(mambaConfig(falcon)).toEqual({ ...sizes, mixerNorm: { eps: 1e-5, weights: false }, tied: true });
    expect(mambaConfig(without(falcon, "mixer_rms_eps")).mixerNorm).toEqual({ eps: 1e-6, weights: false });
  });

  test("linear_attn, gla", () => {
    const sizes = {
      vocab: 64,
      hidden: 32,
      layers: 2,
      heads: 2,
      kvHeads: 2,
      valueDim: 16,
      ffn: 88,
      eps: 1e-6,
      affine: true,
      tied: false,
    };
    expect(linearAttentionConfig(linear)).toEqual({
      ...sizes,
      keyDim: 16,
      featureMap: "elu",
      normalized: true,
    });
    expect(glaConfig(gla)).toEqual({
      ...sizes,
      keyDim: 8,
      gateRank: 16,
      gateNormalizer: 16,
      outputGate: true,
    });
  });

  test.each(SHIPPED)("the shipped %s", async (name) => {
    expect(read(await load(CHECKPOINTS, name))).toMatchObject({ vocab: 256 });
  });
});

describe("what real configs vary", () => {
  test("rope_theta at the top, in rope_parameters, in neither, in both", () => {
    const bare = without(llama, "rope_parameters");
    expect(transformerConfig(bare).ropeTheta).toBe(10_000);
    expect(transformerConfig({ ...bare, rope_theta: 500_000.0, rope_scaling: null }).ropeTheta).toBe(500_000);
    expect(transformerConfig({ ...bare, rope_theta: 1e6, rope_scaling: { type: "default" } }).ropeTheta).toBe(
      1e6,
    );
    expect(transformerConfig({ ...llama, rope_parameters: { rope_theta: 7 } }).ropeTheta).toBe(7);
    expect(transformerConfig({ ...llama, rope_theta: 10_000 }).ropeTheta).toBe(10_000);
    expect(() => transformerConfig({ ...llama, rope_theta: 7 })).toThrow(
      /rope_theta is 7; llama needs what rope_parameters says \(10000\)/,
    );
  });

  test("heads given or derived", () => {
    expect(transformerConfig(without(llama, "head_dim")).headDim).toBe(8);
    expect(transformerConfig({ ...llama, head_dim: null }).headDim).toBe(8);
    expect(transformerConfig({ ...llama, head_dim: 16 }).headDim).toBe(16);
    expect(transformerConfig(without(llama, "num_key_value_heads")).kvHeads).toBe(4);
    expect(transformerConfig({ ...llama, num_key_value_heads: null }).kvHeads).toBe(4);
    expect(transformerConfig(without(mistral, "num_key_value_heads")).kvHeads).toBe(4);
    expect(
      transformerConfig(without({ ...mistral, num_attention_heads: 16 }, "num_key_value_heads")).kvHeads,
    ).toBe(8);
    expect(glaConfig({ ...gla, num_kv_heads: 1 }).kvHeads).toBe(1);
    expect(linearAttentionConfig({ ...linear, num_kv_heads: null }).kvHeads).toBe(2);
  });

  test("longtape's own key: the same weights, run to see less", () => {
    const patternOf = (longtape_attention: object | null) =>
      transformerConfig({ ...llama, longtape_attention }).pattern;
    expect(patternOf(null)).toEqual({ kind: "full" });
    expect(patternOf({ pattern: "materialised" })).toEqual({ kind: "materialised" });
    expect(patternOf({ pattern: "sinks", sinks: 4, window: 60 })).toEqual({
      kind: "sinks",
      sinks: 4,
      window: 60,
    });
    expect(patternOf({ pattern: "local", window: 64 })).toEqual({ kind: "local", window: 64 });
    expect(patternOf({ pattern: "strided", stride: 64 })).toEqual({ kind: "strided", stride: 64 });
    // a mistral that was trained to see everything
    const mixed = { ...mistral, sliding_window: null, longtape_attention: { pattern: "local", window: 9 } };
    expect(transformerConfig(mixed).pattern).toEqual({ kind: "local", window: 9 });
  });

  test.each<[Config, object, RegExp]>([
    [
      mistral,
      { pattern: "local", window: 4 },
      /longtape_attention .* mistral needs a model without a sliding_window/,
    ],
    [llama, { pattern: "dilated" }, /longtape_attention\.pattern is "dilated"/],
    [llama, { window: 4 }, /longtape_attention\.pattern is absent/],
    [
      llama,
      { pattern: "strided" },
      /longtape_attention\.stride is absent; llama needs a whole number from 1/,
    ],
    [
      llama,
      { pattern: "strided", stride: 0 },
      /longtape_attention\.stride is 0; llama needs a whole number from 1/,
    ],
    [llama, { pattern: "local", window: 1.5 }, /longtape_attention\.window is 1\.5/],
    [llama, { pattern: "local", window: 2 ** 31 }, /longtape_attention\.window is 2147483648/],
    [llama, { pattern: "sinks", window: 4 }, /longtape_attention\.sinks is absent/],
    [llama, { pattern: "sinks", sinks: 0, window: 4 }, /longtape_attention\.sinks is 0/],
    [llama, { pattern: "local", window: 4, stride: 2 }, /unknown key "longtape_attention\.stride" \(2\)/],
  ])("longtape_attention that cannot be: %#", (base, longtape_attention, message) => {
    expect(() => transformerConfig({ ...base, longtape_attention })).toThrow(message);
    expect(() => transformerConfig({ ...base, longtape_attention })).toThrow(ConfigError);
  });

  test("mistral's window: null is full attention, absent is 4,096", () => {
    expect(transformerConfig({ ...mistral, sliding_window: null }).pattern).toEqual({ kind: "full" });
    expect(transformerConfig(without(mistral, "sliding_window")).pattern).toEqual({
      kind: "window",
      window: 4096,
    });
  });

  test("tied embeddings by default in mamba only", () => {
    expect(transformerConfig(without(llama, "tie_word_embeddings")).tied).toBe(false);
    expect(transformerConfig({ ...llama, tie_word_embeddings: true }).tied).toBe(true);
    expect(mambaConfig(without(mamba, "tie_word_embeddings")).tied).toBe(true);
    expect(mambaConfig({ ...falcon, tie_word_embeddings: false }).tied).toBe(false);
    expect(glaConfig(without(gla, "tie_word_embeddings")).tied).toBe(false);
  });

  test("mamba's rank and inner width", () => {
    expect(mambaConfig({ ...mamba, time_step_rank: "auto" }).timeStepRank).toBe(2);
    expect(mambaConfig({ ...mamba, hidden_size: 33, time_step_rank: "auto" }).timeStepRank).toBe(3);
    expect(mambaConfig(without(mamba, "time_step_rank")).timeStepRank).toBe(2);
    expect(mambaConfig(without(mamba, "intermediate_size")).inner).toBe(64);
    // falcon-mamba-7b.
    expect(mambaConfig({ ...falcon, hidden_size: 4096, expand: 16, intermediate_size: 8192 }).inner).toBe(
      8192,
    );
    expect(mambaConfig({ ...mamba, use_conv_bias: false }).convBias).toBe(false);
  });

  test("what the conversion of mamba-ssm's checkpoints left behind", () => {
    const left = {
      d_model: 32,
      d_inner: 64,
      n_layer: 2,
      fused_add_norm: true,
      rms_norm: true,
      pad_vocab_size_multiple: 8,
      ssm_cfg: {},
    };
    expect(mambaConfig({ ...mamba, ...left })).toEqual(mambaConfig(mamba));
    expect(() => mambaConfig({ ...mamba, ...left, ssm_cfg: { layer: "Mamba2" } })).toThrow(
      /unknown key "ssm_cfg"/,
    );
    expect(() => mambaConfig({ ...mamba, ...left, n_layer: 3 })).toThrow(/n_layer is 3; mamba supports 2/);
  });

  test("fla's inner width, from the ratio", () => {
    const ratio = (hidden_ratio: number | null, hidden_size: number) =>
      glaConfig({ ...gla, intermediate_size: null, hidden_ratio, hidden_size }).ffn;
    expect(ratio(4, 2048)).toBe(5632);
    expect(ratio(null, 2048)).toBe(5632);
    expect(ratio(4, 32)).toBe(256);
    expect(ratio(4, 1024)).toBe(2816);
    expect(ratio(4, 96)).toBe(256);
    expect(ratio(4, 384)).toBe(1024);
    expect(ratio(4, 392)).toBe(1280);
  });

  test("fla's fusions do not change what is computed", () => {
    expect(
      glaConfig({ ...gla, fuse_norm: true, fuse_swiglu: true, attn_mode: "chunk", hidden_act: "silu" }),
    ).toEqual(glaConfig(gla));
    expect(linearAttentionConfig({ ...linear, feature_map: "relu", norm_feature_map: false })).toMatchObject({
      featureMap: "relu",
      normalized: false,
    });
    expect(glaConfig({ ...gla, use_output_gate: false, elementwise_affine: false })).toMatchObject({
      outputGate: false,
      affine: false,
    });
  });

  test("bookkeeping is let through", () => {
    const real = {
      _name_or_path: "x",
      torch_dtype: "bfloat16",
      pad_token_id: 0,
      is_llama_config: true,
      rope_interleaved: false,
      hidden_dropout: 0.1,
      attention_dropout: 0.1,
      qk_layernorm: false,
      layer_types: null,
      pruned_heads: {},
      "transformers.js_config": { dtype: "q4" },
    };
    expect(transformerConfig({ ...llama, ...real })).toEqual(transformerConfig(llama));
  });
});

describe("mathematics that is not implemented", () => {
  test.each<[base: Config, change: Record<string, unknown>, message: string]>([
    [llama, { hidden_act: "gelu" }, 'config.json: hidden_act is "gelu"; llama supports "silu" or "swish"'],
    [
      llama,
      { rope_scaling: { rope_type: "llama3", factor: 8 } },
      'config.json: rope_scaling.rope_type is "llama3"; llama supports "default"',
    ],
    [
      llama,
      { rope_scaling: { type: "linear", factor: 2 } },
      'config.json: rope_scaling.type is "linear"; llama supports "default"',
    ],
    [llama, { rope_scaling: { factor: 2 } }, "config.json: rope_scaling.factor is 2; llama supports 1"],
    [llama, { rope_scaling: "yarn" }, 'config.json: rope_scaling is "yarn"; llama needs an object'],
    [
      llama,
      { rope_parameters: { rope_theta: 1e4, rope_type: "yarn" } },
      'config.json: rope_parameters.rope_type is "yarn"; llama supports "default"',
    ],
    [
      llama,
      { rope_parameters: { rope_theta: 1e4, mscale: 2 } },
      'config.json: unknown key "rope_parameters.mscale" (2); longtape cannot tell whether it changes the mathematics',
    ],
    [llama, { attention_bias: true }, "config.json: attention_bias is true; llama supports false"],
    [llama, { mlp_bias: true }, "config.json: mlp_bias is true; llama supports false"],
    [llama, { pretraining_tp: 2 }, "config.json: pretraining_tp is 2; llama supports 1"],
    [llama, { partial_rotary_factor: 0.5 }, "config.json: partial_rotary_factor is 0.5; llama supports 1"],
    [llama, { is_encoder_decoder: true }, "config.json: is_encoder_decoder is true; llama supports false"],
    [
      llama,
      { sliding_window: 64 },
      'config.json: unknown key "sliding_window" (64); longtape cannot tell whether it changes the mathematics',
    ],
    [
      llama,
      { quantization_config: { bits: 4 } },
      'config.json: unknown key "quantization_config" ({"bits":4}); longtape cannot tell whether it changes the mathematics',
    ],
    [
      llama,
      { logit_scale: 0 },
      'config.json: unknown key "logit_scale" (0); longtape cannot tell whether it changes the mathematics',
    ],
    [mamba, { use_bias: true }, "config.json: use_bias is true; mamba supports false"],
    [mamba, { hidden_act: "relu" }, 'config.json: hidden_act is "relu"; mamba supports "silu" or "swish"'],
    [mamba, { rms_norm: false }, "config.json: rms_norm is false; mamba supports true"],
    [
      mamba,
      { mixer_rms_eps: 1e-6 },
      'config.json: unknown key "mixer_rms_eps" (0.000001); longtape cannot tell whether it changes the mathematics',
    ],
    [gru, { bidirectional: true }, "config.json: bidirectional is true; gru supports false"],
    [gru, { proj_size: 8 }, "config.json: proj_size is 8; gru supports 0"],
    [gru, { bias: false }, "config.json: bias is false; gru supports true"],
    [gru, { nonlinearity: "relu" }, 'config.json: nonlinearity is "relu"; gru supports "tanh"'],
    [
      linear,
      { feature_map: "hedgehog" },
      'config.json: feature_map is "hedgehog"; linear_attn supports "elu" or "relu" or "identity"',
    ],
    [
      linear,
      { feature_map: null },
      'config.json: feature_map is absent, which means "elementwise_product"; linear_attn supports "elu" or "relu" or "identity"',
    ],
    [linear, { norm_q: true }, "config.json: norm_q is true; linear_attn supports false"],
    [
      linear,
      { attn: { layers: [0], num_heads: 2 } },
      'config.json: attn is {"layers":[0],"num_heads":2}; linear_attn supports null',
    ],
    [gla, { use_short_conv: true }, "config.json: use_short_conv is true; gla supports false"],
    [gla, { use_gv: true }, "config.json: use_gv is true; gla supports false"],
    [gla, { use_gk: false }, "config.json: use_gk is false; gla supports true"],
    [gla, { clamp_min: -1 }, "config.json: clamp_min is -1; gla supports null"],
    [gla, { feature_map: "relu" }, 'config.json: feature_map is "relu"; gla supports null'],
    [gla, { gate_logit_normalizer: 8 }, "config.json: gate_logit_normalizer is 8; gla supports 16"],
    [gla, { gate_fn: "sigmoid" }, 'config.json: gate_fn is "sigmoid"; gla supports "swish" or "silu"'],
    [gla, { rms_norm_eps: 1e-5 }, "config.json: rms_norm_eps is 0.00001; gla supports 0.000001"],
  ])("%#", (base, change, message) => {
    expect(() => read({ ...base, ...change })).toThrow(new ConfigError(message));
  });
});

describe("numbers that never reach WGSL", () => {
  test.each<[base: Config, key: string, value: unknown, message: RegExp]>([
    [llama, "hidden_size", undefined, /hidden_size is absent; llama needs a whole number from 1 to 1048576/],
    [llama, "hidden_size", null, /hidden_size is absent/],
    [llama, "hidden_size", "32", /hidden_size is "32"/],
    [llama, "hidden_size", 0, /hidden_size is 0/],
    [llama, "hidden_size", -32, /hidden_size is -32/],
    [llama, "hidden_size", 32.5, /hidden_size is 32\.5/],
    [llama, "hidden_size", 2 ** 40, /hidden_size is 1099511627776/],
    [llama, "hidden_size", "); var<private> x: u32", /hidden_size is "\); var/],
    [
      without(llama, "head_dim"),
      "hidden_size",
      30,
      /hidden_size is 30; llama needs a multiple of num_attention_heads \(4\), a whole head, not 7\.5/,
    ],
    [
      without(llama, "head_dim"),
      "hidden_size",
      28,
      /head_dim is absent; llama needs an even number, .* not 7/,
    ],
    [llama, "head_dim", 7, /head_dim is 7; llama needs an even number/],
    [llama, "head_dim", 2 ** 20, /head_dim is 1048576; llama needs .* at most 1048576/],
    [
      llama,
      "num_key_value_heads",
      3,
      /num_key_value_heads is 3; llama needs a divisor of num_attention_heads \(4\), not 3/,
    ],
    [
      llama,
      "num_hidden_layers",
      5000,
      /num_hidden_layers is 5000; llama needs a whole number from 1 to 4096/,
    ],
    [llama, "vocab_size", 2 ** 23, /vocab_size is 8388608; llama needs a whole number from 1 to 4194304/],
    [llama, "rms_norm_eps", "1e-5", /rms_norm_eps is "1e-5"; llama needs a number from 0 to 1/],
    [llama, "rms_norm_eps", -1e-5, /rms_norm_eps is -0\.00001/],
    [llama, "rms_norm_eps", Number.POSITIVE_INFINITY, /rms_norm_eps is null; llama needs a number/],
    [
      llama,
      "rope_parameters",
      { rope_theta: 0 },
      /rope_parameters\.rope_theta is 0; llama needs a number from 1/,
    ],
    [llama, "rope_parameters", [1], /rope_parameters is \[1\]; llama needs an object/],
    [llama, "tie_word_embeddings", "yes", /tie_word_embeddings is "yes"; llama needs true or false/],
    [mistral, "sliding_window", 0, /sliding_window is 0; mistral needs a whole number/],
    [mamba, "time_step_rank", "big", /time_step_rank is "big"; mamba needs a whole number/],
    [mamba, "conv_kernel", 0, /conv_kernel is 0/],
    [mamba, "state_size", 1e6, /state_size is 1000000; mamba needs a whole number from 1 to 1024/],
    [
      without(mamba, "intermediate_size"),
      "expand",
      0.01,
      /expand is 0\.01; mamba needs hidden_size \* expand to be from 1/,
    ],
    [
      gla,
      "num_heads",
      3,
      /expand_k is 0\.5; gla needs hidden_size \* expand_k \(16\) to be a multiple of num_heads \(3\), not 5\.3/,
    ],
    [gla, "num_kv_heads", 3, /num_kv_heads is 3; gla needs a divisor of num_heads \(2\)/],
    [gla, "expand_v", 0, /expand_v is 0; gla needs hidden_size \* expand_v to be from 1/],
    [
      without(gla, "intermediate_size"),
      "hidden_ratio",
      0,
      /hidden_ratio is 0; gla needs an inner width from 1/,
    ],
  ])("%#", (base, key, value, message) => {
    const config = value === undefined ? without(base, key) : { ...base, [key]: value };
    expect(() => read(config)).toThrow(message);
    expect(() => read(config)).toThrow(ConfigError);
  });

  test("an unknown or absent model_type", () => {
    expect(() => read({ ...llama, model_type: "gpt2" })).toThrow(
      /^config\.json: model_type is "gpt2"; longtape supports rnn, gru, lstm/,
    );
    expect(() => read(without(llama, "model_type"))).toThrow(/model_type is absent/);
    expect(() => read({ ...llama, model_type: ["llama"] })).toThrow(/model_type is \["llama"\]/);
    expect(() => glaConfig(llama)).toThrow(/model_type is "llama"; longtape supports gla/);
  });

  test("inherited names are not keys", () => {
    expect(() => read(JSON.parse('{"model_type": "rnn", "__proto__": {"vocab_size": 64}}'))).toThrow(
      ConfigError,
    );
    expect(modelType(JSON.parse('{"model_type": "rnn"}'), ["rnn"])).toBe("rnn");
  });
});
