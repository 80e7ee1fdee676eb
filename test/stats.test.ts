import { expect, test } from "vitest";
import {
  mean,
  median,
  medianInterval,
  quantile,
  standardDeviation,
  timing,
  weightedQuantiles,
} from "../bench/stats.ts";

test("mean and sample standard deviation", () => {
  expect(mean([2, 4, 4, 4, 5, 5, 7, 9])).toBe(5);
  expect(standardDeviation([2, 4, 4, 4, 5, 5, 7, 9])).toBeCloseTo(Math.sqrt(32 / 7), 12);
});

test("one value has no spread", () => {
  expect(standardDeviation([7])).toBe(0);
  expect(standardDeviation([])).toBe(0);
});

test("large nanoseconds with a small spread do not cancel", () => {
  expect(standardDeviation([1e12 + 1, 1e12 + 2, 1e12 + 3])).toBe(1);
});

test("median and quantiles", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(quantile([10, 20, 30, 40, 50], 0.95)).toBeCloseTo(48, 12);
  expect(quantile([1, 2], 0)).toBe(1);
  expect(quantile([1, 2], 1)).toBe(2);
  expect(median([])).toBeNaN();
});

test("median leaves its input in order", () => {
  const values = [3, 1, 2];
  median(values);
  expect(values).toEqual([3, 1, 2]);
});

test("timing: the mean of the rates, not the rate of the mean", () => {
  const row = timing([1e9, 2e9], 100);
  expect(row.avg_ns).toBe(1.5e9);
  expect(row.samples_ts).toEqual([100, 50]);
  expect(row.avg_ts).toBe(75);
  expect(row.stddev_ts).toBeCloseTo(Math.sqrt(1250), 9);
  expect(row.samples_ns).toEqual([1e9, 2e9]);
});

test("timing of nothing says so", () => {
  expect(() => timing([], 5)).toThrow("timing: no repetition was timed, wanted at least 1");
});

test("the interval of a median leaves out what the sign test does", () => {
  const upTo = (n: number) => Array.from({ length: n }, (_, i) => n - i);
  // Binomial(20, 1/2): at most 5 with 2.07%, at most 6 with 5.77%
  expect(medianInterval(upTo(20))).toEqual({ low: 6, high: 15 });
  // 2 / 2^6 = 3.1%, 2 / 2^5 = 6.3%
  expect(medianInterval(upTo(6))).toEqual({ low: 1, high: 6 });
  expect(medianInterval(upTo(5))).toEqual({ low: 1, high: 5 });
  expect(medianInterval([7])).toEqual({ low: 7, high: 7 });
});

test("values that stand for several give the quantiles of all that they stand for", () => {
  const values = [
    { value: 9, weight: 1 },
    { value: 1, weight: 15 },
    { value: 4, weight: 4 },
  ];
  expect(weightedQuantiles(values, [0.5, 0.75, 0.76, 0.95, 1])).toEqual([1, 1, 4, 4, 9]);
  expect(weightedQuantiles([], [0.5])).toEqual([Number.NaN]);
});
