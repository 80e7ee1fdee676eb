import * as v from "valibot";
import { UsageError } from "../engine/errors.ts";
import type { Bytes } from "../engine/tensor.ts";
import type { Tune } from "../engine/tune.ts";
import { readJson } from "../models/checkpoint.ts";
import { createEngine } from "../models/engine.ts";
import type { Source } from "../models/source.ts";
import { usualTune } from "./adapter.ts";
import type { Job } from "./jobs.ts";
import { TextStop } from "./textStop.ts";
import { warmUp } from "./timed.ts";

export interface GenerateRequest {
  /** A Hugging Face folder. */
  folder: string;
  /** Text, which the folder's tokenizer turns into ids; or ids, and then ids come out. */
  prompt: string | number[];
  maxTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  seed: number;
  /** Generation ends after the first of these texts. */
  stop: string[];
  /** How the kernels' variants are chosen; null: cached on a GPU, where a race is quick, else off. */
  tune: Tune | null;
  /** Bytes of GPU memory that may be held. */
  maxBytes: number | null;
}

export type GenerateEvent = { text: string } | { note: string };

/** Times in milliseconds; those of the prompt and of generation after one untimed run, so without compilation. */
export interface GenerateFigures {
  model: string;
  adapter: string;
  software: boolean;
  /** Loading, racing variants, compiling. */
  readyMs: number;
  promptTokens: number;
  promptMs: number;
  /** From the prompt's start to the first token in JavaScript; null where none came. */
  firstTokenMs: number | null;
  tokens: number;
  /** From the first token to the last. */
  decodeMs: number;
  /** Bytes held when generation ended. */
  bytes: Bytes;
  /** Why it ended. */
  end: "length" | "stop" | "interrupted";
}

/** Streams text. Throws what loading, tokenising and running throw; an abort is an end like others. */
export const generate: Job<GenerateRequest, GenerateEvent, GenerateFigures> = async (
  host,
  request,
  tell,
  signal,
) => {
  const { folder, prompt, maxTokens, tune, maxBytes } = request;
  // a short prompt is spared the scratch, the race and the shaders of a long one's chunks
  const chunk = prompt.length > 256 ? 512 : 64;
  const started = performance.now();
  const engine = await createEngine({ ...host.engine, ...(maxBytes === null ? {} : { maxBytes }) });
  try {
    const source = host.source(folder);
    const model = await engine.load(source, {
      tune: tune ?? usualTune(engine.adapter!),
      chunk,
      onVerdict: ({ key, winner, ms }, kept) =>
        tell({ note: `${key}: ${winner}${kept ? " (kept)" : ""} ${JSON.stringify(ms)}` }),
    });
    const tokenizer = typeof prompt === "string" ? await model.tokenizer() : null;
    const ids = typeof prompt === "string" ? tokenizer!.encode(prompt) : prompt;
    if (ids.length === 0) throw new UsageError("the prompt holds no tokens, wanted at least one");
    const session = await model.session({ chunk });
    const { temperature, topK, topP, minP, seed } = request;
    const settings = { maxTokens, temperature, topK, topP, minP, seed };
    await warmUp(session, ids, settings);
    await session.reset();
    const begun = performance.now();
    const figures: GenerateFigures = {
      model: model.name,
      adapter: engine.adapter!.name,
      software: engine.adapter!.software,
      readyMs: begun - started,
      promptTokens: ids.length,
      promptMs: 0,
      firstTokenMs: null,
      tokens: 0,
      decodeMs: 0,
      bytes: session.memory(),
      end: "length",
    };
    const text = new TextStop(request.stop);
    const stream = tokenizer?.stream();
    let last = begun;
    try {
      await session.prefill(ids, { signal });
      // a readback: prefill itself returns when the work is queued
      await session.logits();
      figures.promptMs = performance.now() - begun;
      const stop = await endTokens(source);
      for await (const id of session.stream({ ...settings, stop, signal })) {
        last = performance.now();
        figures.firstTokenMs ??= last - begun;
        figures.tokens++;
        figures.decodeMs = last - begun - figures.firstTokenMs;
        tell({ text: text.push(stream ? stream.push(id) : `${figures.tokens > 1 ? " " : ""}${id}`) });
        if (text.stopped || stop.includes(id)) {
          figures.end = "stop";
          break;
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error;
      figures.end = "interrupted";
    }
    if (!text.stopped && stream) tell({ text: text.push(stream.end()) });
    figures.bytes = session.memory();
    return figures;
  } finally {
    engine.destroy();
  }
};

const Ids = v.nullish(v.union([v.number(), v.array(v.number())]), []);

/** The ids that end a text, as transformers finds them: generation_config.json's, else config.json's. */
async function endTokens(source: Source): Promise<number[]> {
  for (const file of ["generation_config.json", "config.json"]) {
    if ((await source.size(file)) === null) continue;
    const schema = v.object({ eos_token_id: Ids });
    const { eos_token_id } = await readJson(source, file, schema, "eos_token_id, one id or several");
    const ids = [eos_token_id].flat();
    if (ids.length > 0) return ids;
  }
  return [];
}
