// What a race is of, and the address that carries all of it.

import type { Tune } from "../../../engine/tune.ts";
import type { Scale } from "../../race/charts.ts";
import type { RaceSettings } from "../../race/race.ts";
import { benchArchs } from "../../shipped.ts";

export interface RaceChoice
  extends Pick<RaceSettings, "prompt" | "tokens" | "streams" | "temperature" | "seed" | "tune"> {
  archs: string[];
  scale: Scale;
  /** Bytes of everything, not of what is carried alone. */
  everything: boolean;
}

export const usual: RaceChoice = {
  archs: ["llama", "mistral-window", "mamba", "gru"],
  prompt: "ROMEO:\n",
  tokens: 2048,
  streams: 1,
  temperature: 0.8,
  seed: 1337,
  tune: "off",
  scale: "linear",
  everything: false,
};

const MOST_TOKENS = 2 ** 20;
const MOST_STREAMS = 64;
const TUNES: readonly Tune[] = ["off", "cached", "full"];

/** A field of numbers: what may stand in it. */
interface Bounds {
  label: string;
  least: number;
  most: number;
  whole: boolean;
}
export type NumberField = "tokens" | "streams" | "temperature" | "seed";
export const bounds: Readonly<Record<NumberField, Bounds>> = {
  tokens: { label: "Tokens to generate", least: 1, most: MOST_TOKENS, whole: true },
  streams: { label: "Streams", least: 1, most: MOST_STREAMS, whole: true },
  temperature: { label: "Temperature", least: 0, most: 10, whole: false },
  seed: { label: "Seed", least: 0, most: 2 ** 32 - 1, whole: true },
};

/** The number, or the sentence that says what is wrong with it. */
export function readNumber(field: NumberField, text: string): number | string {
  const { label, least, most, whole } = bounds[field];
  const words = text.replaceAll(",", "").trim();
  const value = Number(words);
  const fits = words !== "" && value >= least && value <= most && (!whole || Number.isInteger(value));
  if (fits) return value;
  const kind = whole ? "a whole number" : "a number";
  const end = most.toLocaleString("en-US");
  return `${label}: found ${JSON.stringify(text)}, wanted ${kind} from ${least} to ${end}.`;
}

/** All that differs from what is usual, so that a link stays short; the architectures always. */
export function toQuery(choice: RaceChoice): URLSearchParams {
  const query = new URLSearchParams({ tab: "race", a: choice.archs.join(",") });
  for (const key of ["prompt", "tokens", "streams", "temperature", "seed", "tune", "scale"] as const)
    if (choice[key] !== usual[key]) query.set(key, String(choice[key]));
  if (choice.everything) query.set("bytes", "all");
  return query;
}

/** What an address asks for; what it says wrong is left as is usual. */
export function fromQuery(query: URLSearchParams): RaceChoice {
  const choice = { ...usual };
  const archs = query.get("a")?.split(",");
  if (archs) choice.archs = archs.filter((arch) => benchArchs.includes(arch));
  choice.prompt = query.get("prompt") ?? usual.prompt;
  for (const field of ["tokens", "streams", "temperature", "seed"] as const) {
    const value = readNumber(field, query.get(field) ?? String(usual[field]));
    if (typeof value === "number") choice[field] = value;
  }
  const tune = query.get("tune") as Tune;
  if (TUNES.includes(tune)) choice.tune = tune;
  if (query.get("scale") === "log") choice.scale = "log";
  choice.everything = query.get("bytes") === "all";
  return choice;
}
