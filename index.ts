// The library's public face. Nothing here needs Node: a folder on disk is read through models/directory.ts.
export {
  AdapterError,
  DeviceLostError,
  OutOfMemoryError,
  ShaderError,
  ShapeError,
  UsageError,
} from "./engine/errors.ts";
export { type Checkpoint, openCheckpoint } from "./models/checkpoint.ts";
export { CheckpointError, filesSource, type Source, urlSource } from "./models/source.ts";
export { byteTokenizer, openTokenizer, type Tokenizer, TokenizerError } from "./models/tokenizer.ts";
