// What a run is over: shipped models, folders, and configurations with seeded weights.

import type { Types } from "../engine/model.ts";
import type { StoredType } from "../engine/tiles.ts";
import type { Config } from "../models/config.ts";
import { HYBRID, namedHybrid } from "../models/hybridConfig.ts";
import { benchArchs, shipped } from "./shipped.ts";
import type { Test } from "./tests.ts";

export interface Subject {
  /** longtape's name of the architecture; "" until a user's folder is opened. */
  arch: string;
  /** The model's own name: the checkpoint's folder, or the configuration's file. */
  model: string;
  /** Folder that holds the files: a path; "" where the configuration is given and there are none. */
  folder: string;
  /** The configuration's file in it, or the configuration, where its weights are seeded; null for a checkpoint. */
  seededConfig: string | Config | null;
  /** Laid over the configuration. */
  overlay: Config | null;
  /** How its matrices and caches are stored; absent: as f32. Then its name says so. */
  types?: Types;
  /** Race its kernels afresh whatever the settings say. */
  race?: boolean;
}

/** The subject with its matrices and caches stored as each of these. */
export const storedAs = (
  subject: Subject,
  dtypes: readonly StoredType[],
  cacheTypes: readonly StoredType[],
) =>
  dtypes.flatMap((dtype) =>
    cacheTypes.map((cacheType): Subject => {
      if (dtype === "f32" && cacheType === "f32") return subject;
      const words = [subject.model, dtype !== "f32" && dtype, cacheType !== "f32" && `kv ${cacheType}`];
      return { ...subject, model: words.filter(Boolean).join(" "), types: { dtype, cacheType } };
    }),
  );

/** A subject and the tests that it takes. */
export interface Planned {
  subject: Subject;
  tests: readonly Test[];
}

/** A folder with this file alone has its weights seeded. */
export const CONFIG_FILE = "config.json";

/**
 * Subjects in the order given. An architecture is a shipped model's, or a hybrid's list of layers, whose weights are
 * seeded. `-m` names a checkpoint's folder, or a configuration (`.json`, or a folder that holds a
 * `config.json` and no other file, as `list` tells) whose weights are seeded; `at` is where the shipped models lie.
 * With neither folder nor architecture named, all that is shipped.
 */
export function subjectsOf(
  { models, archs }: { models: readonly string[]; archs: readonly string[] },
  at: string,
  list: (folder: string) => readonly string[],
): Subject[] {
  const named = models.length + archs.length > 0;
  return [
    ...(named ? archs : benchArchs).map((arch) =>
      arch.startsWith(HYBRID) ? hybridSubject(arch) : shippedSubject(arch, at),
    ),
    ...models.map((path) => {
      const parts = path.split(/[\\/]+/).filter(Boolean);
      const last = parts.at(-1) ?? path;
      if (!last.endsWith(".json")) {
        if (list(path).join() === CONFIG_FILE) return seeded(last, path, CONFIG_FILE);
        return checkpoint(last, path);
      }
      const folder = path.slice(0, path.length - last.length) || ".";
      const name = last === CONFIG_FILE ? (parts.at(-2) ?? last) : last.replace(/\.json$/, "");
      return seeded(name, folder, last);
    }),
  ];
}

/** The shipped model that an architecture is run on; `at` is where they lie. */
export function shippedSubject(arch: string, at: string): Subject {
  const { folder, overlay } = shipped[arch]!;
  return { arch, model: arch, folder: `${at}/${folder}`, seededConfig: null, overlay };
}

/** A hybrid named by its layers. Throws ConfigError for a list that is not one. */
export function hybridSubject(arch: string): Subject {
  const { name, config } = namedHybrid(arch);
  return { ...seeded(name, "", config), arch: name };
}

/** A checkpoint's folder. */
export const checkpoint = (model: string, folder: string): Subject => ({
  arch: "",
  model,
  folder,
  seededConfig: null,
  overlay: null,
});

/** A configuration whose weights are seeded. */
export const seeded = (name: string, folder: string, seededConfig: string | Config): Subject => ({
  arch: "",
  model: `${name} (seeded)`,
  folder,
  seededConfig,
  overlay: null,
});
