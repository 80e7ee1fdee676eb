// Which keys a query sees. Pure: kernels, their references, the models' configurations and theory share it.

/**
 * Windows and strides are counted in tokens, the query's own included. `window` and `sinks` keep only what can still be
 * seen; the others keep every key and value.
 */
export type Pattern =
  | { kind: "full" }
  /** As full; the scores of all pairs are held. */
  | { kind: "materialised" }
  /** The last `window` tokens (Jiang et al. 2023, arXiv 2310.06825, section 2). */
  | { kind: "window"; window: number }
  /** The first `sinks` tokens and the last `window`, at the positions that they have in the cache: see `sinkPosition`. */
  | { kind: "sinks"; sinks: number; window: number }
  /** The last `window` tokens, of keys that are all kept. */
  | { kind: "local"; window: number }
  /** The last `stride` tokens and every `stride`-th before them (Child et al. 2019, arXiv 1904.10509, section 4.2, both heads in one). */
  | { kind: "strided"; stride: number };

export type Kind = Pattern["kind"];

/** The mask: does the query at a position see the key at another? */
export function sees(pattern: Pattern, query: number, key: number): boolean {
  const behind = query - key;
  if (key < 0 || behind < 0) return false;
  switch (pattern.kind) {
    case "full":
    case "materialised":
      return true;
    case "window":
    case "local":
      return behind < pattern.window;
    case "sinks":
      return key < pattern.sinks || behind < pattern.window;
    case "strided":
      return behind < pattern.stride || behind % pattern.stride === 0;
  }
}

/** Keys that the query at a position sees: its row's pairs. */
export function pairsScored(pattern: Pattern, position: number): number {
  const all = position + 1;
  switch (pattern.kind) {
    case "full":
    case "materialised":
      return all;
    case "window":
    case "local":
      return Math.min(all, pattern.window);
    case "sinks":
      return Math.min(all, pattern.sinks + pattern.window);
    case "strided":
      return Math.min(all, pattern.stride) + Math.floor(position / pattern.stride);
  }
}

/** Keys that one or more of the queries at `tokens` positions from `position` on see: what must be read for them. */
export function keysRead(pattern: Pattern, position: number, tokens: number): number {
  const all = position + tokens;
  switch (pattern.kind) {
    case "full":
    case "materialised":
      return all;
    case "window":
    case "local":
      return Math.min(all, pattern.window + tokens - 1);
    case "sinks":
      return Math.min(all, pattern.sinks + pattern.window + tokens - 1);
    case "strided": {
      const { stride } = pattern;
      const near = Math.min(all, stride + tokens - 1);
      // of the keys before those: how many of the distances 0 .. d behind the last query have a remainder below `tokens`
      const until = (d: number) =>
        Math.floor((d + 1) / stride) * Math.min(tokens, stride) + Math.min((d + 1) % stride, tokens);
      return near + until(all - 1) - until(near - 1);
    }
  }
}

/**
 * StreamingLLM's positions are those inside the cache (Xiao et al. 2023, arXiv 2309.17453, section 3.2): sink s stands at s,
 * the window after the sinks. Within the window that is the distance as it is; of the sinks a query sees what one at this
 * position sees.
 */
export const sinkPosition = (
  { sinks, window }: { sinks: number; window: number },
  position: number,
): number => Math.min(position, sinks + window - 1);
