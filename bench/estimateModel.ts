// What a model will hold, by formulas alone: no GPU, no weights, no allocation.

import { UsageError } from "../engine/errors.ts";
import { Ledger } from "../engine/ledger.ts";
import { VariantTable } from "../engine/machine.ts";
import { total } from "../engine/memory.ts";
import { sketch } from "../engine/rehearsal.ts";
import { Session } from "../engine/session.ts";
import type { Bytes } from "../engine/tensor.ts";
import { type Config, ConfigError } from "../models/config.ts";
import { openConfig } from "../models/load.ts";
import {
  type Architecture,
  closedKv,
  closedScores,
  closedState,
  closedWeights,
  holdsScores,
  type Layers,
} from "./closed.ts";
import { shapeOf } from "./shape.ts";

/** Bytes an element. llama.cpp's blocks of 32 hold a scale of 16 bits beside them; the others are bare. */
export const widths = { f32: 4, f16: 2, bf16: 2, q8_0: 34 / 32, int8: 1, q4_0: 18 / 32, q4: 1 / 2 };
export type Width = keyof typeof widths;
const SCORES = widths.f32;

/** Most tokens of a prompt that longtape is said to take at a time: the bench's own default. */
export const CHUNK = 512;

export interface EstimateOptions {
  /** Tokens in each stream's context. */
  depths: readonly number[];
  /** Independent streams. */
  streams: readonly number[];
  dtype: Width;
  typeK: Width;
  typeV: Width;
  typeState: Width;
  /** Columns that a Mamba layer's convolution keeps: `past`, d_conv - 1, or `all`, d_conv. */
  convColumns: "past" | "all";
}

/** Bytes, for all streams of the row; `bytes_per_token`: what one token more costs one stream. */
export interface EstimateRow {
  model: string;
  n_depth: number;
  n_parallel: number;
  weights: number;
  state: number;
  kv: number;
  /** One layer's; in the total only where the model holds it. */
  scores: number;
  total: number;
  bytes_per_token: number;
  /** What longtape will hold in f32, pages, padding and scratch included; null where it does not run the model. */
  longtape: (Bytes & { total: number }) | null;
}

export interface EstimatedModel extends Architecture {
  model: string;
  /** Why longtape does not run it, or not that far. */
  reason: string | null;
}

export interface Estimate {
  models: EstimatedModel[];
  rows: EstimateRow[];
}

/** One model at every depth in every number of streams, by the literature's formulas. Throws ConfigError where there is none. */
export function estimate(model: string, config: Config, options: EstimateOptions): Estimate {
  const shape = shapeOf(config);
  const layers = shape.layers.map((group) => withColumns(group, options));
  const rows = options.streams.flatMap((n_parallel) =>
    options.depths.map((n_depth): EstimateRow => {
      const closed = closedRow({ ...shape, layers }, options, n_depth, n_parallel);
      return { model, n_depth, n_parallel, ...closed, longtape: null };
    }),
  );
  return { models: [{ model, ...shape, layers, reason: null }], rows };
}

/** Adds what longtape will hold, of one model of this config. */
export async function withLedger({ models, rows }: Estimate, config: Config): Promise<Estimate> {
  const filled: EstimateRow[] = [];
  let reason: string | null = null;
  for (const streams of new Set(rows.map(({ n_parallel }) => n_parallel))) {
    const own = rows.filter(({ n_parallel }) => n_parallel === streams);
    const depths = own.map(({ n_depth }) => n_depth);
    const ledger = await ledgerOf(config, depths, streams);
    reason ??= ledger.reason;
    filled.push(...own.map((row) => ({ ...row, longtape: ledger.bytes.get(row.n_depth) ?? null })));
  }
  return { models: models.map((one) => ({ ...one, reason })), rows: filled };
}

function withColumns(group: Layers, { convColumns }: Pick<EstimateOptions, "convColumns">): Layers {
  if (group.kind !== "mamba" || convColumns === "past") return group;
  return { ...group, convColumns: group.convColumns + 1 };
}

function closedRow(
  architecture: Architecture,
  { dtype, typeK, typeV, typeState }: EstimateOptions,
  tokens: number,
  streams: number,
) {
  // as many keys as values
  const pair = (widths[typeK] + widths[typeV]) / 2;
  const kvOf = (size: { tokens: number; streams: number }) =>
    Math.ceil(closedKv(architecture, { ...size, elementBytes: pair }));
  const weights = Math.ceil(closedWeights(architecture, widths[dtype]));
  const state = Math.ceil(closedState(architecture, { tokens, streams, elementBytes: widths[typeState] }));
  const kv = kvOf({ tokens, streams });
  const scores = closedScores(architecture, { tokens, streams, queries: tokens, elementBytes: SCORES });
  return {
    weights,
    state,
    kv,
    scores,
    total: weights + state + kv + (holdsScores(architecture.layers) ? scores : 0),
    bytes_per_token: kvOf({ tokens: tokens + 1, streams: 1 }) - kvOf({ tokens, streams: 1 }),
  };
}

/** By depth; where one is missing, the reason says why. */
interface Ledgered {
  bytes: Map<number, Bytes & { total: number }>;
  reason: string | null;
}

/** A session on the machine that only counts, with a GPU's default variants, grown from depth to depth. */
async function ledgerOf(raw: Config, depths: readonly number[], streams: number): Promise<Ledgered> {
  const bytes: Ledgered["bytes"] = new Map();
  try {
    const { architecture, config } = openConfig(raw);
    const model = sketch(architecture, config, new Ledger(new VariantTable("gpu", new Set())));
    const session = await Session.open(model, { streams, chunk: CHUNK });
    for (const depth of [...depths].sort((a, b) => a - b)) {
      await session.reserve(depth);
      const held = session.memory();
      bytes.set(depth, { ...held, total: total(held) });
    }
    return { bytes, reason: null };
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof UsageError)) throw error;
    return { bytes, reason: error.message };
  }
}
