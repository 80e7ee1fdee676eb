// How an architecture reads its config.json. The rule: a key that changes the mathematics and is not implemented is
// an error, never ignored. So every key is either read, required to have the one value that is implemented, or known
// to be harmless; any other key that says something (not null, false or empty) is refused by name. Numbers are
// checked here, since sizes end up in WGSL.

import * as v from "valibot";
import { show } from "./source.ts";

/** A config that is malformed, contradicts itself, or asks for mathematics that is not implemented. */
export class ConfigError extends Error {
  override name = "ConfigError";
}

export type Config = Readonly<Record<string, unknown>>;

/** Bookkeeping of transformers and of training: what runs, how it was trained and how it is sampled, never what it computes. */
const HARMLESS = new Set(
  `model_type architectures transformers_version _name_or_path name_or_path _commit_hash torch_dtype dtype torchscript
  attn_implementation _attn_implementation _attn_implementation_autoset use_cache output_attentions
  output_hidden_states output_scores return_dict return_dict_in_generate use_return_dict use_bfloat16 tf_legacy_loss
  chunk_size_feed_forward id2label label2id num_labels problem_type finetuning_task task_specific_params
  tokenizer_class prefix initializer_range is_decoder gradient_checkpointing max_position_embeddings
  max_sequence_length model_max_length seq_length bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id
  decoder_start_token_id forced_bos_token_id forced_eos_token_id max_length min_length max_new_tokens do_sample
  early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty
  length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
  remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
  unsloth_version unsloth_fixed transformers.js_config`.split(/\s+/),
);
/** Dropout is off when a model runs. */
const DROPOUT = /dropout|_pdrop$/;

/** No width, head count or the like is larger: products of two sizes then stay exact, and absurd ones stop here. */
export const SIZE_LIMIT = 1 << 20;

interface NumberOptions {
  readonly min?: number;
  readonly max?: number;
}

/** Reads one object key by key. Null counts as absent, as in Python; so every getter takes a default or insists. */
export class ConfigReader {
  readonly #config: Config;
  readonly #family: string;
  readonly #prefix: string;
  readonly #read = new Set<string>();

  constructor(config: Config, family: string, prefix = "") {
    this.#config = config;
    this.#family = family;
    this.#prefix = prefix;
  }

  /** The raw value, undefined where absent or null. The key counts as read. */
  raw(key: string): unknown {
    this.#read.add(key);
    return Object.hasOwn(this.#config, key) ? (this.#config[key] ?? undefined) : undefined;
  }

  /** A whole number from 1 to `max` (1,048,576 unless told). */
  positive(key: string, fallback?: number, { max = SIZE_LIMIT }: NumberOptions = {}): number {
    const schema = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(max));
    return this.#get(key, schema, `a whole number from 1 to ${max}`, fallback);
  }

  /** A finite number from `min` to `max`. */
  number(key: string, fallback?: number, { min = 0, max = 1 }: NumberOptions = {}): number {
    const schema = v.pipe(v.number(), v.finite(), v.minValue(min), v.maxValue(max));
    return this.#get(key, schema, `a number from ${min} to ${max}`, fallback);
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.#get(key, v.boolean(), "true or false", fallback);
  }

  /**
   * One of the values that are implemented. An absent key means `fallback`, the format's default, which may itself
   * be something that is not implemented.
   */
  only<const T>(key: string, supported: readonly T[], fallback: unknown = supported[0]): T {
    const value = this.raw(key);
    const meant = value ?? fallback;
    if (supported.includes(meant as T)) return meant as T;
    const given =
      value === undefined && fallback !== undefined ? `absent, which means ${show(fallback)}` : show(value);
    return this.refuse(key, given, `${this.#family} supports ${supported.map(show).join(" or ")}`);
  }

  /** A nested object, read by the same rules, or null. */
  section<T>(key: string, read: (section: ConfigReader) => T): T | null {
    const value = this.raw(key);
    if (value === undefined) return null;
    const parsed = v.safeParse(v.record(v.string(), v.unknown()), value);
    if (!parsed.success || Array.isArray(value))
      return this.refuse(key, show(value), `${this.#family} needs an object`);
    const section = new ConfigReader(parsed.output, this.#family, `${this.#prefix}${key}.`);
    const result = read(section);
    section.finish();
    return result;
  }

  /** Keys of this family that do not change what it computes. */
  harmless(...keys: string[]): void {
    for (const key of keys) this.#read.add(key);
  }

  /** Throws: what was found, what was wanted. */
  refuse(key: string, found: string, wanted: string): never {
    throw new ConfigError(`config.json: ${this.#prefix}${key} is ${found}; ${wanted}`);
  }

  /** Throws unless `value`, derived from `key`, is a size. */
  derived(key: string, value: number, wanted: string): number {
    this.require(
      Number.isInteger(value) && value >= 1 && value <= SIZE_LIMIT,
      key,
      `${wanted}, not ${value}`,
    );
    return value;
  }

  /** Throws unless `holds`; for what ties two keys together. */
  require(holds: boolean, key: string, wanted: string): void {
    if (!holds) this.refuse(key, show(this.raw(key)), `${this.#family} needs ${wanted}`);
  }

  /** To be called after the last getter: refuses keys that nobody knows. */
  finish(): void {
    for (const [key, value] of Object.entries(this.#config)) {
      if (this.#read.has(key) || DROPOUT.test(key) || saysNothing(value)) continue;
      if (this.#prefix === "" && HARMLESS.has(key)) continue;
      throw new ConfigError(
        `config.json: unknown key "${this.#prefix}${key}" (${show(value)}); longtape cannot tell whether it changes the mathematics`,
      );
    }
  }

  #get<T>(key: string, schema: v.GenericSchema<unknown, T>, wanted: string, fallback: T | undefined): T {
    const value = this.raw(key);
    if (value === undefined && fallback !== undefined) return fallback;
    const parsed = v.safeParse(schema, value);
    return parsed.success ? parsed.output : this.refuse(key, show(value), `${this.#family} needs ${wanted}`);
  }
}

/** null, false, {} and []: the way configs say that an option is not used. */
function saysNothing(value: unknown): boolean {
  if (value === null || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** The config's `model_type`, one of `supported`. */
export function modelType<const T extends string>(config: Config, supported: readonly T[]): T {
  const type = Object.hasOwn(config, "model_type") ? config.model_type : undefined;
  if (supported.includes(type as T)) return type as T;
  throw new ConfigError(
    `config.json: model_type is ${show(type)}; longtape supports ${supported.join(", ")}`,
  );
}

/** Reads a config of one of `families` whole: keys that `read` leaves unread and that are not harmless are refused. */
export function readConfig<const F extends string, R>(
  config: Config,
  families: readonly F[],
  read: (reader: ConfigReader, family: F) => R,
): R {
  const family = modelType(config, families);
  const reader = new ConfigReader(config, family);
  reader.only("is_encoder_decoder", [false]);
  reader.only("add_cross_attention", [false]);
  const result = read(reader, family);
  reader.finish();
  return result;
}
