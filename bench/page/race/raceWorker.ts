// The race beside the page: references compute for whole seconds, and the page must still hear "pause". To stop is to end this
// worker, and its device and memory with it.

import { verdictDatabase } from "../../../engine/verdictDatabase.ts";
import { openCheckpoint } from "../../../models/checkpoint.ts";
import { openConfig } from "../../../models/load.ts";
import { filesSource, type Source, urlSource } from "../../../models/source.ts";
import { Race, type RaceEvent, type RaceSettings } from "../../race/race.ts";
import type { Subject } from "../../subject.ts";

export type RaceRequest =
  /** Is it a model of ours? Only its configuration and its header are read. */
  | { type: "check"; subject: Subject; files: File[] | null }
  | { type: "start"; settings: RaceSettings }
  /** `files`: those of a folder that a person gave; without them the subject's folder is an address. */
  | { type: "add"; subject: Subject; files: File[] | null }
  | { type: "pause" }
  | { type: "resume" };

export type RaceAnswer =
  | RaceEvent
  /** `fault`: why it is none; null: it is one. */
  | { type: "checked"; folder: string; fault: string | null }
  | { type: "error"; message: string };

const tell = (event: RaceAnswer) => postMessage(event);
const given = new Map<string, File[]>();
let race: Promise<Race> | null = null;

addEventListener("message", ({ data }: MessageEvent<RaceRequest>) => {
  const withRace = (work: (race: Race) => unknown) => race?.then(work, () => undefined);
  switch (data.type) {
    case "start":
      race = Race.open(data.settings, {
        source: sourceOf,
        verdicts: verdictDatabase(),
        tell,
      });
      race.catch((error: unknown) => tell({ type: "error", message: sentence(error) }));
      break;
    case "check":
      if (data.files) given.set(data.subject.folder, data.files);
      check(data.subject);
      break;
    case "add":
      if (data.files) given.set(data.subject.folder, data.files);
      withRace((race) => race.add(data.subject));
      break;
    case "pause":
      withRace((race) => race.pause());
      break;
    case "resume":
      withRace((race) => race.resume());
      break;
  }
});

function sourceOf(folder: string): Source {
  const files = given.get(folder);
  return files ? filesSource(files, folder) : urlSource(folder, nameOf(folder));
}

async function check({ folder }: Subject): Promise<void> {
  const fault = await openCheckpoint(sourceOf(folder)).then(
    ({ config }) => faultOf(() => openConfig(config)),
    sentence,
  );
  tell({ type: "checked", folder, fault });
}

function faultOf(work: () => unknown): string | null {
  try {
    work();
    return null;
  } catch (error) {
    return sentence(error);
  }
}

const sentence = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** What messages call a shipped folder; others are called by their address. */
const nameOf = (folder: string): string | undefined => /models\/checkpoints\/([^/]+)\/?$/.exec(folder)?.[1];
