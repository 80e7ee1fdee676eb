// What races found, kept between runs: the interface of a store, and what all stores share.

/** The outcome of one race. Plain data. */
export interface Verdict {
  /** The kernel and its constants. */
  key: string;
  /** Fingerprint of all that raced, by name and WGSL: a verdict on other code is none. */
  code: string;
  winner: string;
  /** Fastest time of each variant: ms a run. */
  ms: Record<string, number>;
}

/**
 * Keeps verdicts by adapter. `adapter` is a line of text that says all of the adapter that a race may hang on.
 * Neither call rejects: a store that cannot be read is empty, one that cannot be written forgets.
 */
export interface VerdictStore {
  read(adapter: string): Promise<readonly Verdict[]>;
  /** Lays these over what is kept by now: a verdict takes the place of the one of the same key. */
  write(adapter: string, verdicts: readonly Verdict[]): Promise<void>;
}

/** The verdicts of one adapter in a store. */
export class AdapterVerdicts {
  readonly adapter: string;
  readonly #store: VerdictStore;

  constructor(store: VerdictStore, adapter: string) {
    this.#store = store;
    this.adapter = adapter;
  }

  async read(): Promise<ReadonlyMap<string, Verdict>> {
    return new Map((await this.#store.read(this.adapter)).map((verdict) => [verdict.key, verdict]));
  }

  write(verdicts: readonly Verdict[]): Promise<void> {
    return this.#store.write(this.adapter, verdicts);
  }
}

/** Fresh verdicts laid over those before. */
export const merged = (before: readonly Verdict[], fresh: readonly Verdict[]): Verdict[] => [
  ...new Map([...before, ...fresh].map((verdict) => [verdict.key, verdict])).values(),
];

/** The verdicts in a list that came from outside; what is none is left out. */
export const verdictsIn = (found: unknown): Verdict[] =>
  Array.isArray(found) ? found.filter(isVerdict) : [];

function isVerdict(found: unknown): found is Verdict {
  if (typeof found !== "object" || found === null) return false;
  const { key, code, winner, ms } = found as Partial<Record<keyof Verdict, unknown>>;
  return (
    [key, code, winner].every((word) => typeof word === "string") &&
    typeof ms === "object" &&
    ms !== null &&
    Object.values(ms).every((time) => Number.isFinite(time))
  );
}

/** How a store tells of what went wrong. */
export interface StoreOptions {
  /** Takes a sentence. Default: a warning in the console. */
  onFault?: (sentence: string) => void;
}

export const toConsole = (sentence: string): void => console.warn(sentence);
