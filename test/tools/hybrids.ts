// A hybrid of all kinds of layers, at the goldens' sizes: it has no library that could make a golden of it.

import type { Config } from "../../models/config.ts";
import { namedHybrid } from "../../models/hybridConfig.ts";

export const hybrids = ["hybrid:window:8+mamba+linear+gla+attn"];

export const smallHybrid = (name: string): Config => ({
  ...namedHybrid(name).config,
  vocab_size: 64,
  hidden_size: 32,
  intermediate_size: 88,
  num_key_value_heads: 2,
});
