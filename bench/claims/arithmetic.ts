// What follows from the definition of attention alone.

import { closedKv } from "../closed.ts";
import { presets } from "../presets.ts";
import { shapeOf } from "../shape.ts";
import { formatCount } from "../units.ts";
import type { Arithmetic } from "./claim.ts";
import { arithmetic } from "./evidence.ts";

const DEFINITION = "softmax(QK^T): a score for each pair, of one head and one layer";

export const pairsOf = (tokens: number): number => tokens ** 2;

export const pairs = (tokens: number): Arithmetic =>
  arithmetic(
    `pairs of ${formatCount(tokens)} tokens`,
    `${formatCount(tokens)}^2`,
    pairsOf(tokens),
    "pairs",
    "the matrix is N x N",
  );

/** The score matrix of one head and one layer, were it stored. */
export const scores = (tokens: number, elementBytes: number): Arithmetic =>
  arithmetic(
    `score matrix of one head and layer, ${formatCount(tokens)} tokens, ${elementBytes} ${elementBytes === 1 ? "byte" : "bytes"} a score`,
    `${formatCount(tokens)}^2 x ${elementBytes} B`,
    pairsOf(tokens) * elementBytes,
    "B",
    DEFINITION,
  );

/** A model that people run: grouped queries, 8 heads of keys and values of 128 in 32 layers. */
const LLAMA_3_8B = shapeOf(presets["llama-3-8b"]!);
const SOURCE = "config.json of Llama-3-8B; closed form of arXiv 2309.06180, section 3";

/** Keys and values of Llama-3-8B in 16 bits. */
export const llama3Kv = (tokens: number, streams = 1): Arithmetic =>
  arithmetic(
    `keys and values of Llama-3-8B, ${formatCount(tokens)} tokens${streams > 1 ? `, ${streams} streams` : ""}, 16 bits`,
    `2 x 32 layers x 8 heads x 128 x 2 B x ${formatCount(tokens)}${streams > 1 ? ` x ${streams}` : ""}`,
    closedKv(LLAMA_3_8B, { tokens, elementBytes: 2, streams }),
    "B",
    SOURCE,
  );

export const llama3Weights = (): Arithmetic =>
  arithmetic(
    "weights of Llama-3-8B, 16 bits",
    `${formatCount(LLAMA_3_8B.parameters)} x 2 B`,
    LLAMA_3_8B.parameters * 2,
    "B",
    SOURCE,
  );
