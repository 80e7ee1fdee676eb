// A folder on disk, for Node. Kept out of source.ts so that a browser bundle never meets node:fs.

import { type FileHandle, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError, expectBytes, missingFile, reason, type Source } from "./source.ts";

// Node reads at most 2 GiB - 1 at once.
const READ_BYTES = 1 << 30;

const isAbsent = (error: unknown): boolean => {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ENOTDIR";
};

/** The files of a folder, such as a Hugging Face model's. Nothing is opened before it is read. */
export function directorySource(path: string): Source {
  const describe = (error: unknown, file: string): CheckpointError => {
    if (error instanceof CheckpointError) return error;
    if (isAbsent(error)) return missingFile(path, file);
    return new CheckpointError(`${join(path, file)} could not be read (${reason(error)})`, { cause: error });
  };
  return {
    name: path,
    async read(file, begin = 0, end) {
      let handle: FileHandle | undefined;
      try {
        handle = await open(join(path, file));
        const stop = end ?? (await handle.stat()).size;
        const bytes = new Uint8Array(Math.max(0, stop - begin));
        let filled = 0;
        while (filled < bytes.length) {
          const length = Math.min(READ_BYTES, bytes.length - filled);
          const { bytesRead } = await handle.read(bytes, filled, length, begin + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        expectBytes(file, begin, bytes.length, filled);
        return bytes;
      } catch (error) {
        throw describe(error, file);
      } finally {
        await handle?.close();
      }
    },
    async size(file) {
      try {
        const found = await stat(join(path, file));
        return found.isFile() ? found.size : null;
      } catch (error) {
        if (isAbsent(error)) return null;
        throw describe(error, file);
      }
    },
  };
}
