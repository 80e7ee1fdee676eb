// Verdicts in a file of the user's cache folder, for Node.

import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import {
  merged,
  type StoreOptions,
  toConsole,
  type Verdict,
  type VerdictStore,
  verdictsIn,
} from "./verdicts.ts";

const SCHEMA = "longtape-verdicts/1";

interface Kept {
  schema: typeof SCHEMA;
  adapters: Record<string, Verdict[]>;
}

/** Who writes holds the lock for milliseconds: an older one was left by a process that ended. */
const STALE_MS = 5_000;
const AGAIN_MS = 20;

/** LONGTAPE_VERDICTS, or a file where the platform keeps what can be made again: ~/.cache, ~/Library/Caches, %LOCALAPPDATA%. */
export function verdictPath(env: NodeJS.ProcessEnv = process.env, platform = process.platform): string {
  if (env.LONGTAPE_VERDICTS) return env.LONGTAPE_VERDICTS;
  const caches =
    platform === "win32"
      ? env.LOCALAPPDATA || join(homedir(), "AppData", "Local")
      : platform === "darwin"
        ? join(homedir(), "Library", "Caches")
        : env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return join(caches, "longtape", "verdicts.json");
}

/**
 * Keeps verdicts in a JSON file: at LONGTAPE_VERDICTS, else in the user's cache folder. A file that is damaged, or holds
 * something else, counts as empty and is replaced by the next write. Processes may share it.
 */
export function verdictFile(path = verdictPath(), { onFault = toConsole }: StoreOptions = {}): VerdictStore {
  const read = async (): Promise<Kept["adapters"]> => {
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "ENOTDIR")
        onFault(`the verdicts kept at ${path} cannot be read: ${message}`);
      return {};
    }
    try {
      const { schema, adapters } = JSON.parse(text) as Partial<Kept>;
      if (schema !== SCHEMA) throw new Error(`its schema is ${JSON.stringify(schema)}, ${SCHEMA} is wanted`);
      return Object.fromEntries(
        Object.entries(adapters ?? {}).map(([adapter, found]) => [adapter, verdictsIn(found)]),
      );
    } catch (error) {
      onFault(`the file at ${path} holds no verdicts and will be replaced: ${(error as Error).message}`);
      return {};
    }
  };
  return {
    async read(adapter) {
      return (await read())[adapter] ?? [];
    },
    async write(adapter, verdicts) {
      try {
        await mkdir(dirname(path), { recursive: true });
        await locked(`${path}.lock`, async () => {
          const adapters = await read();
          adapters[adapter] = merged(adapters[adapter] ?? [], verdicts);
          // whole or not at all, for those who read meanwhile
          const part = `${path}.${randomUUID()}.part`;
          try {
            await writeFile(part, `${JSON.stringify({ schema: SCHEMA, adapters } satisfies Kept)}\n`);
            await rename(part, path);
          } finally {
            await rm(part, { force: true });
          }
        });
      } catch (error) {
        onFault(`the verdicts could not be kept at ${path}: ${(error as Error).message}`);
      }
    },
  };
}

/** One process at a time: each must see what the one before it wrote. */
async function locked(lock: string, work: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      await (await open(lock, "wx")).close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const made = await stat(lock).then(
      ({ mtimeMs }) => mtimeMs,
      () => Date.now(),
    );
    if (Date.now() - made > STALE_MS) await rm(lock, { force: true });
    else await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  try {
    await work();
  } finally {
    await rm(lock, { force: true });
  }
}
