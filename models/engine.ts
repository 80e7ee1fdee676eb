// The library's door: an engine on one adapter, the models it loads, the sessions over them.

import { CpuMachine } from "../engine/cpu.ts";
import { GpuMachine } from "../engine/gpu.ts";
import { type AdapterDescription, type DeviceOptions, openGpu } from "../engine/gpuDevice.ts";
import type { Machine } from "../engine/machine.ts";
import type { Model as EngineModel } from "../engine/model.ts";
import { Session, type SessionOptions } from "../engine/session.ts";
import type { Bytes } from "../engine/tensor.ts";
import type { Config } from "./config.ts";
import { type LoadOptions, loadCheckpoint, loadRandom } from "./load.ts";
import type { Source } from "./source.ts";
import { openTokenizer, type Tokenizer } from "./tokenizer.ts";

export interface EngineOptions extends DeviceOptions {
  /** `cpu` runs every kernel by its plain reference: slow, exact, anywhere. Default `gpu`. */
  machine?: "gpu" | "cpu";
}

/** Opens an adapter (or the CPU machine). Throws AdapterError, with the cure, where there is none. */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  if (options.machine === "cpu") return new Engine(new CpuMachine(), null);
  const { machine, adapter } = await openGpu(options);
  return new Engine(machine, adapter);
}

export class Engine {
  readonly machine: Machine;
  /** What is known of the adapter; null on the CPU machine. */
  readonly adapter: AdapterDescription | null;

  constructor(machine: Machine, adapter: AdapterDescription | null) {
    this.machine = machine;
    this.adapter = adapter;
  }

  /**
   * Loads a Hugging Face folder: config.json, model.safetensors (or its index and shards), tokenizer.json if there.
   * Throws CheckpointError, ConfigError, TensorError, OutOfMemoryError or DeviceLostError with nothing left allocated.
   */
  async load(source: Source, options: LoadOptions = {}): Promise<Model> {
    const model = await loadCheckpoint(this.machine, source, options);
    return new Model(model, source);
  }

  /** A model of a Hugging Face config with seeded random weights. Throws ConfigError, OutOfMemoryError or DeviceLostError. */
  async random(config: Config, seed = 0, options: LoadOptions = {}): Promise<Model> {
    return new Model(await loadRandom(this.machine, config, seed, options), null);
  }

  /** Bytes held on the device by all models and sessions, by category. */
  memory(): Bytes {
    return this.machine.live();
  }

  /** Frees everything, then the device. */
  destroy(): void {
    if (this.machine instanceof GpuMachine) this.machine.destroy();
  }
}

export class Model {
  /** Architecture, configuration and weights, for those who go below. */
  readonly loaded: EngineModel;
  readonly #source: Source | null;

  constructor(loaded: EngineModel, source: Source | null) {
    this.loaded = loaded;
    this.#source = source;
  }

  /** longtape's name for the architecture: `llama`, `mamba`, … */
  get name(): string {
    return this.loaded.architecture.name;
  }

  /** Numbers in the checkpoint's tensors. */
  get parameters(): number {
    return this.loaded.parameters;
  }

  /** 16 hex digits of its architecture, configuration and weights: snapshots are restored to the same model only. */
  get hash(): string {
    return this.loaded.hash;
  }

  /** Entries of the vocabulary. */
  get vocabulary(): number {
    return this.loaded.architecture.vocabulary(this.loaded.config);
  }

  /** The folder's tokenizer.json, or bytes for a vocabulary of 256. Throws TokenizerError where there is neither. */
  tokenizer(): Promise<Tokenizer> {
    return openTokenizer(
      this.#source ?? { name: "random weights", size: async () => null, read: async () => new Uint8Array() },
      this.vocabulary,
    );
  }

  /** Streams over this model. Throws UsageError, OutOfMemoryError or DeviceLostError with nothing left allocated. */
  session(options: SessionOptions = {}): Promise<Session> {
    return Session.open(this.loaded, options);
  }

  /** Bytes by category that such a session will hold at `length` tokens a stream, weights included; allocates nothing. */
  predict(options: SessionOptions = {}, length = 0): Promise<Bytes> {
    return Session.predict(this.loaded, options, length);
  }

  /** `bytes` of a snapshot of such a session while its longest stream holds `length` tokens; allocates nothing. */
  predictSnapshot(options: SessionOptions = {}, length = 0): Promise<number> {
    return Session.predictSnapshot(this.loaded, options, length);
  }

  /** Bytes that a mark of such a session will hold, at any length; allocates nothing. */
  predictMark(options: SessionOptions = {}): Promise<number> {
    return Session.predictMark(this.loaded, options);
  }

  /** Frees the weights; sessions over them must be destroyed first. */
  destroy(): void {
    this.loaded.destroy();
  }
}
