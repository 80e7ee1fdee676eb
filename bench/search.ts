// The largest n that will do, found by doubling and then bisecting.

/** How one n did: `fits: null` where that could not be found out, which ends the search. */
export type Probed<Good, Bad> = { fits: true; found: Good } | { fits: false | null; why: Bad };

export interface SearchOptions<Good> {
  /** What is known to fit, where something is: it is not probed again. */
  known?: { n: number; found: Good };
  /** Where doubling begins, and where it ends. */
  first: number;
  last: number;
  /** Bisecting ends when what fits and what does not are this share of what fits apart; 0: when they are neighbours. */
  resolution: number;
  /** Most probes. */
  probes: number;
}

export interface Searched<Good, Bad> {
  /** The largest n that fitted; null: none was found. */
  largest: { n: number; found: Good } | null;
  /** The smallest n that did not fit; null: none was found. */
  refused: { n: number; why: Bad } | null;
  /** What ended the search before its resolution was reached; "probes": they were used up. */
  stopped: Bad | "probes" | null;
  probes: number;
}

/** Takes it that what fits at n fits below n. Throws what `probe` throws. */
export async function searchLargest<Good, Bad>(
  probe: (n: number) => Promise<Probed<Good, Bad>>,
  { known, first, last, resolution, probes }: SearchOptions<Good>,
): Promise<Searched<Good, Bad>> {
  const searched: Searched<Good, Bad> = { largest: known ?? null, refused: null, stopped: null, probes: 0 };
  for (let n = (known?.n ?? 0) < last ? Math.min(first, last) : null; n !== null; n = next()) {
    if (searched.probes === probes) return { ...searched, stopped: "probes" };
    searched.probes++;
    const probed = await probe(n);
    if (probed.fits) searched.largest = { n, found: probed.found };
    else if (probed.fits === null) return { ...searched, stopped: probed.why };
    else searched.refused = { n, why: probed.why };
  }
  return searched;

  /** null: there is no more to find out. */
  function next(): number | null {
    const low = searched.largest?.n ?? 0;
    if (!searched.refused) return low < last ? Math.min(2 * low, last) : null;
    const apart = searched.refused.n - low;
    return apart > Math.max(1, resolution * low) ? low + Math.floor(apart / 2) : null;
  }
}
