// What the library has for Node alone: folders on disk, and verdicts kept in a file (`longtape/node`).

export { verdictFile } from "./engine/verdictFile.ts";
export { directorySource } from "./models/directory.ts";
