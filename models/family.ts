// What a model file exports: the checkpoints it reads, and the architecture that runs each.

import type { Architecture } from "../engine/model.ts";
import type { Config } from "./config.ts";

export interface Family {
  /** Values of `model_type` in config.json that it reads. */
  modelTypes: readonly string[];
  /** Checks config.json and chooses the architecture. Throws ConfigError for what is not implemented. */
  // biome-ignore lint/suspicious/noExplicitAny: each family has a configuration of its own
  open(config: Config): { architecture: Architecture<any>; config: any };
  /** Names of checkpoint tensors that may stay unread, because others stand for them. */
  derived?: RegExp;
}
