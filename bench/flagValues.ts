// What stands after a flag, read and checked.

import { parseBytes } from "./units.ts";

/** A command line that cannot be run: one sentence, exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
  readonly exitCode = 2;
}

/** Most tokens of a context: positions are u32 on the GPU, and the host counts prompt, depth and generation. */
export const maxTokens = 2 ** 30;
const maxListLength = 1000;

export const words = (lists: string[] | undefined): string[] =>
  (lists ?? []).flatMap((list) => list.split(",")).filter((word) => word !== "");

export function oneOf<const T extends string>(flag: string, found: string, wanted: readonly T[]): T {
  const match = wanted.find((name) => name === found);
  if (match === undefined) {
    throw new UsageError(`${flag}: found ${JSON.stringify(found)}, wanted one of ${wanted.join(", ")}`);
  }
  return match;
}

export function integer(flag: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most) {
    throw new UsageError(
      `${flag}: found ${JSON.stringify(text)}, wanted a whole number from ${least} to ${most}`,
    );
  }
  return value;
}

/** 1,2,3 and first-last, first-last+step, first-last*factor. */
export function integers(flag: string, lists: string[], least: number, most = maxTokens): number[] {
  const values = lists
    .flatMap((list) => list.split(","))
    .flatMap((item) => range(flag, item.trim(), least, most));
  if (values.length > maxListLength) {
    throw new UsageError(`${flag}: found more than ${maxListLength} values, wanted at most ${maxListLength}`);
  }
  return values;
}

function range(flag: string, item: string, least: number, most: number): number[] {
  const match = /^(\d+)-(\d+)(?:([+*])(\d+))?$/.exec(item);
  if (!match) {
    if (/^\d+$/.test(item)) return [integer(flag, item, least, most)];
    const wanted = `a whole number from ${least} to ${most}, or a range as 1024-8192, 1024-8192+1024 or 1024-8192*2`;
    throw new UsageError(`${flag}: found ${JSON.stringify(item)}, wanted ${wanted}`);
  }
  const [, from, to, operator = "+", by = "1"] = match as unknown as [
    string,
    string,
    string,
    string?,
    string?,
  ];
  const first = integer(flag, from, least, most);
  const last = integer(flag, to, least, most);
  const step = integer(flag, by, 1, most);
  if (last < first) throw new UsageError(`${flag}: range ${item} ends before it starts, wanted first-last`);
  if (operator === "*" && (step === 1 || first === 0)) {
    throw new UsageError(
      `${flag}: range ${item} never ends, wanted a first of at least 1 and a factor of at least 2`,
    );
  }
  const values: number[] = [];
  // One value too many is enough for the caller to refuse the list.
  for (let value = first; value <= last && values.length <= maxListLength; ) {
    values.push(value);
    value = operator === "*" ? value * step : value + step;
  }
  return values;
}

export function pair(text: string): { n_prompt: number; n_gen: number } {
  const match = /^(\d+),(\d+)$/.exec(text.trim());
  if (!match) throw new UsageError(`-pg: found ${JSON.stringify(text)}, wanted prompt,generation as 512,128`);
  return {
    n_prompt: integer("-pg", match[1] as string, 1, maxTokens),
    n_gen: integer("-pg", match[2] as string, 1, maxTokens),
  };
}

export function seconds(flag: string, text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value > 3600) {
    throw new UsageError(`${flag}: found ${JSON.stringify(text)}, wanted seconds from 0 to 3600`);
  }
  return value;
}

export function bytes(flag: string, text: string): number {
  const value = parseBytes(text);
  if (value === null || value < 1) {
    throw new UsageError(`${flag}: found ${JSON.stringify(text)}, wanted a size as 1073741824, 512M or 2GiB`);
  }
  return value;
}
