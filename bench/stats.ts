/** Arithmetic mean; NaN of nothing. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Sample standard deviation (n - 1), 0 for fewer than two values. Two passes: the one-pass form
 * (sum of squares minus n mean squared) cancels on nanoseconds, whose squares exceed 2^53.
 */
export function standardDeviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1));
}

/** The q-quantile (0 to 1) of the values, between two neighbours by straight line; NaN of nothing. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const place = (sorted.length - 1) * Math.min(1, Math.max(0, q));
  const below = Math.floor(place);
  const low = sorted[below] as number;
  const high = sorted[Math.ceil(place)] as number;
  return low + (high - low) * (place - below);
}

/**
 * Of values that stand for several each, for each q (ascending) the least that so large a share of all does not exceed; NaN of
 * nothing.
 */
export function weightedQuantiles(
  values: readonly { value: number; weight: number }[],
  qs: readonly number[],
): number[] {
  const sorted = [...values].sort((a, b) => a.value - b.value);
  const all = sorted.reduce((sum, { weight }) => sum + weight, 0);
  let at = 0;
  let upTo = sorted[0]?.weight ?? 0;
  return qs.map((q) => {
    while (upTo < q * all) upTo += sorted[++at]!.weight;
    return sorted[at]?.value ?? Number.NaN;
  });
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/**
 * An interval that holds the median of what the values were drawn from with at least 95%, whatever its distribution: the
 * order statistics that the sign test leaves. Fewer than six values cannot exclude anything: then the extremes.
 */
export function medianInterval(values: readonly number[]): { low: number; high: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const n = sorted.length;
  let excluded = 0;
  // chance that at most `excluded` of n values lie below the median
  let term = 0.5 ** n;
  let tail = term;
  while (2 * tail <= 0.05) {
    excluded++;
    term *= (n - excluded + 1) / excluded;
    tail += term;
  }
  const out = Math.max(0, excluded - 1);
  return { low: sorted[out]!, high: sorted[n - 1 - out]! };
}

export interface Timing {
  avg_ns: number;
  stddev_ns: number;
  samples_ns: number[];
  avg_ts: number;
  stddev_ts: number;
  samples_ts: number[];
}

/**
 * The timing fields of a row. `tokens` is what one repetition processed, all streams together. As in
 * llama-bench, avg_ts is the mean of the repetitions' rates, not the rate of the mean time.
 */
export function timing(samplesNs: readonly number[], tokens: number): Timing {
  if (samplesNs.length === 0) throw new RangeError("timing: no repetition was timed, wanted at least 1");
  const samplesTs = samplesNs.map((ns) => (tokens * 1e9) / ns);
  return {
    avg_ns: mean(samplesNs),
    stddev_ns: standardDeviation(samplesNs),
    samples_ns: [...samplesNs],
    avg_ts: mean(samplesTs),
    stddev_ts: standardDeviation(samplesTs),
    samples_ts: samplesTs,
  };
}
