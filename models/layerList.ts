// Lists of layers in one word: `kind[:size][*count]`, joined by `+`, as in `mamba*3+attn` or `window:256*2+attn`. It is
// what follows `hybrid:` in an architecture's name, and what `layers` of a hybrid's config.json holds.

import { ConfigError, SIZE_LIMIT } from "./config.ts";

/** What mixes tokens in a layer. */
export type LayerKind =
  | { kind: "attn" }
  /** `size`: tokens that a query sees, its own included. */
  | { kind: "window"; size: number }
  | { kind: "mamba" }
  | { kind: "linear" }
  | { kind: "gla" };

const PLAIN = ["attn", "mamba", "linear", "gla"] as const;
const WANTED = `layers such as mamba*3+attn: kind[:size][*count] joined by "+", of attn, window:TOKENS, mamba, linear, gla`;
const MOST_LAYERS = 4096;

/** Throws ConfigError, which begins with `what` and says what was found and what was wanted. */
export function parseLayers(text: string, what: string): LayerKind[] {
  const layers = text.split("+").flatMap((item) => run(item, what));
  if (layers.length > MOST_LAYERS)
    throw new ConfigError(`${what}: found ${layers.length} layers, wanted at most ${MOST_LAYERS}`);
  return layers;
}

function run(item: string, what: string): LayerKind[] {
  const refuse = (wanted: string): never => {
    throw new ConfigError(`${what}: found ${JSON.stringify(item)}, wanted ${wanted}`);
  };
  const match = /^([^:*]+)(?::([^:*]*))?(?:\*([^:*]*))?$/.exec(item);
  if (!match) return refuse(WANTED);
  const [, kind, size, count] = match;
  const whole = (digits: string, name: string, most: number): number => {
    const value = Number(digits);
    const fits = /^\d+$/.test(digits) && value >= 1 && value <= most;
    return fits ? value : refuse(`${name} from 1 to ${most}`);
  };
  const times = count === undefined ? 1 : whole(count, "a count", MOST_LAYERS);
  const repeated = (layer: LayerKind) => Array.from({ length: times }, () => layer);
  if (kind === "window") {
    if (size === undefined) return refuse("the window's tokens, as window:256");
    return repeated({ kind, size: whole(size, "a window's tokens", SIZE_LIMIT) });
  }
  const known = PLAIN.find((name) => name === kind);
  if (!known) return refuse(WANTED);
  if (size !== undefined) return refuse(`${known} without a size`);
  return repeated({ kind: known });
}

/** The layer's own word: `attn`, `window:256`, … */
export const layerWord = (layer: LayerKind): string =>
  layer.kind === "window" ? `window:${layer.size}` : layer.kind;

/** The shortest list that means these layers: equal neighbours are counted. */
export function formatLayers(layers: readonly LayerKind[]): string {
  const runs: { word: string; count: number }[] = [];
  for (const word of layers.map(layerWord)) {
    const last = runs.at(-1);
    if (last?.word === word) last.count++;
    else runs.push({ word, count: 1 });
  }
  return runs.map(({ word, count }) => (count === 1 ? word : `${word}*${count}`)).join("+");
}
