// The models that are shipped, by architecture.

import type { Config } from "../models/config.ts";

export interface Shipped {
  /** Its folder under models/checkpoints. */
  folder: string;
  /** Laid over its config.json, where the checkpoint is run otherwise than it was trained. */
  overlay: Config | null;
}

const trained = (folder: string): Shipped => ({ folder, overlay: null });

export const shipped: Readonly<Record<string, Shipped>> = {
  elman: trained("elman"),
  gru: trained("gru"),
  lstm: trained("lstm"),
  llama: trained("llama"),
  "mistral-window": trained("mistral-window"),
  "linear-attention": trained("linear-attention"),
  gla: trained("gla"),
  mamba: trained("mamba"),
  jamba: trained("jamba"),
};

/** Architectures that are run where none is named. */
export const benchArchs = Object.keys(shipped);
