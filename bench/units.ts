const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** Bytes in binary units with two places: 896 B, 14.25 MiB. */
export function formatBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  // Compared as printed, so that a value just under a step does not read 1024.00.
  while (Math.abs(value) >= 1023.995 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(2)} ${units[unit]}`;
}

/** The same where whole numbers are the rule: 4 KiB. */
export const shortBytes = (bytes: number): string => formatBytes(bytes).replace(".00", "");

/** A figure in words, a dash where there is none. */
export const show = <T>(value: T | null | undefined, format: (value: T) => string): string =>
  value === null || value === undefined ? "–" : format(value);

export const GIB = 2 ** 30;

/** A number of things: 1,048,576. Below ten what is no whole number keeps a fraction. */
export const formatCount = (n: number): string =>
  n.toLocaleString("en-US", { maximumFractionDigits: Math.abs(n) < 10 ? 3 : 0 });

/** Parameters as llama-bench prints them: 0.86 M, 6.74 B. */
export function formatParameters(count: number): string {
  return count < 1e9 ? `${(count / 1e6).toFixed(2)} M` : `${(count / 1e9).toFixed(2)} B`;
}

/** Nanoseconds in the unit that reads best: 3.21 ms. */
export function formatNs(ns: number): string {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(2)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(2)} ms`;
  if (ns >= 1e3) return `${(ns / 1e3).toFixed(2)} µs`;
  return `${Math.round(ns)} ns`;
}

/** 1073741824, 1GiB, 512M, 1.5g: K, M, G and T are powers of 1024 with or without iB; null if it is not a size. */
export function parseBytes(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?) ?(?:([kmgt])(?:ib?)?|b)?$/i.exec(text.trim());
  if (!match) return null;
  const power = match[2] ? "kmgt".indexOf(match[2].toLowerCase()) + 1 : 0;
  return Math.floor(Number(match[1]) * 1024 ** power);
}
