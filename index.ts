// The library's public face. Nothing here needs Node: what does is in node.ts (`longtape/node`).

export {
  AdapterError,
  DeviceLostError,
  OutOfMemoryError,
  ShaderError,
  ShapeError,
  UsageError,
} from "./engine/errors.ts";
export type { AdapterDescription } from "./engine/gpuDevice.ts";
export type { LoadProgress } from "./engine/loadModel.ts";
export type { Mark } from "./engine/mark.ts";
export type { Session, SessionOptions } from "./engine/session.ts";
export type { Snapshot } from "./engine/snapshot.ts";
export { deserialise, serialise } from "./engine/snapshotFile.ts";
export type { Stream, StreamOptions } from "./engine/stream.ts";
export type { Bytes, Category } from "./engine/tensor.ts";
export type { Tune } from "./engine/tune.ts";
export { verdictDatabase } from "./engine/verdictDatabase.ts";
export type { Verdict, VerdictStore } from "./engine/verdicts.ts";
export { type Checkpoint, openCheckpoint } from "./models/checkpoint.ts";
export { type Config, ConfigError } from "./models/config.ts";
export { createEngine, type Engine, type EngineOptions, type Model } from "./models/engine.ts";
export type { LoadOptions } from "./models/load.ts";
export { TensorError } from "./models/safetensors.ts";
export { CheckpointError, filesSource, type Source, urlSource } from "./models/source.ts";
export { byteTokenizer, openTokenizer, type Tokenizer, TokenizerError } from "./models/tokenizer.ts";
