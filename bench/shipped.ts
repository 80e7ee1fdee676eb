// The models that are shipped, by architecture.

import type { Config } from "../models/config.ts";

export interface Shipped {
  /** Its folder under models/checkpoints. */
  folder: string;
  /** Laid over its config.json, where the checkpoint is run otherwise than it was trained. */
  overlay: Config | null;
}

const trained = (folder: string): Shipped => ({ folder, overlay: null });
/** The weights of one that was trained to see everything. */
const llama = (pattern: Config): Shipped => ({ folder: "llama", overlay: { longtape_attention: pattern } });

export const shipped: Readonly<Record<string, Shipped>> = {
  elman: trained("elman"),
  gru: trained("gru"),
  lstm: trained("lstm"),
  llama: trained("llama"),
  "mistral-window": trained("mistral-window"),
  sinks: llama({ pattern: "sinks", sinks: 4, window: 60 }),
  strided: llama({ pattern: "strided", stride: 64 }),
  local: llama({ pattern: "local", window: 64 }),
  materialised: llama({ pattern: "materialised" }),
  "linear-attention": trained("linear-attention"),
  gla: trained("gla"),
  mamba: trained("mamba"),
  jamba: trained("jamba"),
};

/** Architectures that are run where none is named. */
export const benchArchs = Object.keys(shipped);
