// What a run is over: shipped models, folders, and configurations with seeded weights.

import { benchArchs } from "./tests.ts";

export interface Subject {
  /** longtape's name of the architecture; "" until a user's folder is opened. */
  arch: string;
  /** The model's own name: the checkpoint's folder, or the configuration's file. */
  model: string;
  /** Folder that holds the files: a path. */
  folder: string;
  /** The configuration's file in it, where its weights are seeded; null for a checkpoint. */
  seededConfig: string | null;
}

/** A folder with this file alone has its weights seeded. */
export const CONFIG_FILE = "config.json";

/**
 * Subjects in the order given. `-m` names a checkpoint's folder, or a configuration (`.json`, or a folder that holds a
 * `config.json` and no other file, as `list` tells) whose weights are seeded; `shipped` is where the shipped models lie.
 * With neither folder nor architecture named, all that is shipped.
 */
export function subjectsOf(
  { models, archs }: { models: readonly string[]; archs: readonly string[] },
  shipped: string,
  list: (folder: string) => readonly string[],
): Subject[] {
  const named = models.length + archs.length > 0;
  return [
    ...(named ? archs : benchArchs).map((arch) => ({
      arch,
      model: arch,
      folder: `${shipped}/${arch}`,
      seededConfig: null,
    })),
    ...models.map((path) => {
      const parts = path.split(/[\\/]+/).filter(Boolean);
      const last = parts.at(-1) ?? path;
      if (!last.endsWith(".json")) {
        if (list(path).join() === CONFIG_FILE) return seeded(last, path, CONFIG_FILE);
        return { arch: "", model: last, folder: path, seededConfig: null };
      }
      const folder = path.slice(0, path.length - last.length) || ".";
      const name = last === CONFIG_FILE ? (parts.at(-2) ?? last) : last.replace(/\.json$/, "");
      return seeded(name, folder, last);
    }),
  ];
}

/** A configuration whose weights are seeded. */
export const seeded = (name: string, folder: string, seededConfig: string): Subject => ({
  arch: "",
  model: `${name} (seeded)`,
  folder,
  seededConfig,
});
