// How well a model predicts text that it has not seen: bits a byte, by the protocol of models/checkpoints/README.md, and
// against the position in one long stream.

import type { Session } from "../engine/session.ts";
import type { Model } from "../models/engine.ts";
import { failure, stackOf } from "./failure.ts";
import { encode } from "./fill.ts";
import { emptyQuality, type Quality } from "./row.ts";
import type { Emit, Loaded } from "./run.ts";

/** Consecutive windows, each from an empty state; the models were trained on windows of this length. */
const WINDOWS = 64;
const WINDOW = 256;
/** The share of the text that shipped models were trained on: the rest is new to them. */
const TRAINED = 0.9;
/** Bits a byte over fewer tokens say nothing. */
const FIRST_POINT = 16;
/** Logits of all positions that one run of prefill may leave. */
const MOST_LOGITS = 2 ** 24;

/** Tokens in the context whose bytes stand beside the bits. */
const TABLE_CONTEXT = 4096;

/** All of it for one model; what goes wrong is its reason, and what was found before that is kept. */
export async function measureQuality(
  { model, subject }: Pick<Loaded, "model" | "subject">,
  text: string,
  tokens: number,
  emit: Emit,
): Promise<Quality> {
  const quality = emptyQuality({ arch: model.name, model: subject.model });
  const step = (what: string) => emit({ type: "step", test: null, what });
  try {
    const validation = await ValidationText.open(model, text, tokens);
    await step("bits a byte, by windows");
    quality.bits_per_byte = await windowBits(model, validation);
    const { state, kv } = await model.predict({ chunk: 1 }, TABLE_CONTEXT);
    quality.theory_bytes_at_4096 = state + kv;
    await step(`bits a byte, over ${tokens.toLocaleString("en-US")} tokens`);
    await streamBits(model, validation, tokens, (point) => quality.points.push(point));
    return quality;
  } catch (error) {
    await emit({ type: "trace", stack: stackOf(error) });
    return { ...quality, ...failure(error, "preflight") };
  }
}

/** Mean over the windows. */
export async function windowBits(model: Model, text: ValidationText): Promise<number> {
  const V = model.vocabulary;
  const most = Math.min(16, MOST_LOGITS / (WINDOW * V));
  const streams = most < 1 ? 1 : 2 ** Math.floor(Math.log2(most));
  const session = await model.session({ streams, chunk: chunkFor(V), allLogits: true });
  try {
    let nats = 0;
    for (let first = 0; first < WINDOWS; first += streams) {
      const starts = session.streams.map((_, b) => (first + b) * WINDOW);
      await session.reset();
      const logits = await session.prefillLogits(starts.map((from) => text.ids.slice(from, from + WINDOW)));
      for (const [b, from] of starts.entries())
        for (const surprise of surprises(logits[b]!, text.ids.slice(from + 1, from + 1 + WINDOW)))
          nats += surprise;
    }
    return finite(nats, WINDOW) / Math.LN2 / text.bytes(1, 1 + WINDOWS * WINDOW);
  } finally {
    session.destroy();
  }
}

/** Over one stream: a point at every power of two and at the end, the mean over what came since the point before. */
export async function streamBits(
  model: Model,
  text: ValidationText,
  tokens: number,
  onPoint: (point: Quality["points"][number]) => void,
): Promise<void> {
  const session = await model.session({ chunk: chunkFor(model.vocabulary), allLogits: true });
  try {
    let nats = 0;
    let before = 0;
    let context = 0;
    for await (const surprise of streamed(session, text.ids.slice(0, tokens + 1))) {
      nats += surprise;
      context++;
      const isPoint = context >= FIRST_POINT && Number.isInteger(Math.log2(context));
      if (!isPoint && context < tokens) continue;
      const bytes = text.bytes(1 + before, 1 + context);
      onPoint({ context, bits_per_byte: finite(nats, context) / Math.LN2 / bytes });
      before = context;
      nats = 0;
    }
  } finally {
    session.destroy();
  }
}

/** The text that shipped models have not seen, as tokens of a model. */
export class ValidationText {
  readonly ids: readonly number[];
  readonly #bytewise: boolean;
  readonly #decode: (ids: readonly number[]) => string;

  /** Throws TokenizerError where the model's tokens spell no text, RangeError where there is too little of it. */
  static async open(model: Model, text: string, tokens: number): Promise<ValidationText> {
    const bytes = new TextEncoder().encode(text);
    const unseen = new TextDecoder().decode(bytes.subarray(Math.floor(TRAINED * bytes.length)));
    const wanted = 1 + Math.max(tokens, WINDOWS * WINDOW);
    const tokenizer = await model.tokenizer();
    const ids = await encode(model, unseen, wanted);
    if (ids.length < wanted)
      throw new RangeError(`the validation text is ${ids.length} tokens, ${wanted} are wanted`);
    const bytewise = model.vocabulary === 256 && tokenizer.encode("\u00e9").join() === "195,169";
    return new ValidationText(ids, bytewise, (some) => tokenizer.decode(some));
  }

  private constructor(ids: readonly number[], bytewise: boolean, decode: (ids: readonly number[]) => string) {
    this.ids = ids;
    this.#bytewise = bytewise;
    this.#decode = decode;
  }

  /** Bytes of text that the tokens from `from` to before `to` spell. */
  bytes(from: number, to: number): number {
    if (this.#bytewise) return to - from;
    // a token spells what it adds to the text before it
    const spelled = (end: number) => new TextEncoder().encode(this.#decode(this.ids.slice(0, end))).length;
    return spelled(to) - spelled(from);
  }
}

/** So many tokens, or as many as may leave all their logits at once. */
export const withLogits = (V: number, tokens: number): number =>
  Math.max(1, Math.min(tokens, Math.floor(MOST_LOGITS / V)));
export const chunkFor = (V: number): number => withLogits(V, WINDOW);

/** Nats of every token but the first, given all before it. */
async function* streamed(session: Session, ids: readonly number[]): AsyncGenerator<number, void, void> {
  for (let from = 0; from + 1 < ids.length; from += session.chunk) {
    const next = ids.slice(from + 1, from + 1 + session.chunk);
    const [logits] = await session.prefillLogits(ids.slice(from, from + next.length));
    yield* surprises(logits!, next);
  }
}

/** -ln of the probability that row i of the logits, [next.length, V], gives to next[i]. */
export function* surprises(logits: Float32Array, next: readonly number[]): Generator<number, void, void> {
  const V = logits.length / next.length;
  for (const [i, id] of next.entries()) {
    const row = logits.subarray(i * V, (i + 1) * V);
    const largest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    let sum = 0;
    for (const logit of row) sum += Math.exp(logit - largest);
    yield Math.log(sum) + largest - row[id]!;
  }
}

function finite(nats: number, context: number): number {
  if (!Number.isFinite(nats)) throw new Error(`a logit among the first ${context} tokens is not finite`);
  return nats;
}
