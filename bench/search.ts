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
  /** Does what fitted still do, after all that was probed since? What does not is probed again. Default: it does. */
  stands?(n: number, found: Good): boolean;
}

export interface Searched<Good, Bad> {
  /** The largest n that fitted and stands; null: none was found. */
  largest: { n: number; found: Good } | null;
  /** The smallest n that did not fit; null: none was found. */
  refused: { n: number; why: Bad } | null;
  /** What ended the search before its resolution was reached; "probes": they were used up. */
  stopped: Bad | "probes" | null;
  probes: number;
}

/** Takes it that what fits at n fits below n, and that what is known stands. Throws what `probe` throws. */
export async function searchLargest<Good, Bad>(
  probe: (n: number) => Promise<Probed<Good, Bad>>,
  { known, first, last, resolution, probes, stands = () => true }: SearchOptions<Good>,
): Promise<Searched<Good, Bad>> {
  /** In ascending order. */
  const fitted = known ? [known] : [];
  let refused: Searched<Good, Bad>["refused"] = null;
  let asked = 0;
  for (let n = (known?.n ?? 0) < last ? Math.min(first, last) : null; n !== null; n = next()) {
    if (asked === probes) return ended("probes");
    asked++;
    const probed = await probe(n);
    if (probed.fits === null) return ended(probed.why);
    if (fitted.at(-1)?.n === n) fitted.pop();
    if (probed.fits) fitted.push({ n, found: probed.found });
    else refused = { n, why: probed.why };
  }
  return ended(null);

  function ended(stopped: Searched<Good, Bad>["stopped"]): Searched<Good, Bad> {
    return { largest: fitted.findLast(still) ?? null, refused, stopped, probes: asked };
  }

  function still(fit: { n: number; found: Good }): boolean {
    return fit === known || stands(fit.n, fit.found);
  }

  /** null: there is no more to find out. */
  function next(): number | null {
    const largest = fitted.at(-1);
    if (largest && !still(largest)) return largest.n;
    const low = largest?.n ?? 0;
    if (!refused) return low < last ? Math.min(2 * low, last) : null;
    const apart = refused.n - low;
    return apart > Math.max(1, resolution * low) ? low + Math.floor(apart / 2) : null;
  }
}
