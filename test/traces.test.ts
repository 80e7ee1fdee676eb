import { expect, test } from "vitest";
import type { Sample } from "../bench/race/racer.ts";
import { addPoint, bytesAt, speedsOf, type Trace } from "../bench/race/traces.ts";
import { emptyRow } from "../bench/row.ts";
import { noBytes } from "../engine/tensor.ts";

const trace = (streams = 1): Trace => ({ arch: "gru", model: "gru", streams, points: [] });

const sample = (generated: number, turn: Sample["turn"], kv = 0): Sample => ({
  context: 10 + generated,
  generated,
  turn,
  bytes: { ...noBytes(), weights: 100, state: 8, kv },
  theory: { ...noBytes(), state: 8, kv },
  text: "",
  row: emptyRow(),
});

test("a point holds the time of all turns before it, and one that brings nothing is left out", () => {
  const own = trace();
  addPoint(own, sample(0, { ns: 0, tokens: 0 }));
  addPoint(own, sample(4, { ns: 1e6, tokens: 4 }, 64));
  addPoint(own, sample(4, { ns: 1e6, tokens: 4 }, 64));
  addPoint(own, sample(8, { ns: 3e6, tokens: 4 }, 64));
  expect(own.points.map(({ context, ns, theory }) => [context, ns, theory])).toEqual([
    [10, 0, 8],
    [14, 1e6, 72],
    [18, 4e6, 72],
  ]);
  expect(bytesAt(own.points[1]!, false)).toBe(72);
  expect(bytesAt(own.points[1]!, true)).toBe(172);
});

test("a long trace is thinned: its ends stay, and so does its time", () => {
  const own = trace();
  for (let n = 0; n <= 2000; n++) addPoint(own, sample(n, { ns: n > 0 ? 1000 : 0, tokens: 1 }));
  expect(own.points.length).toBeLessThanOrEqual(401);
  expect(own.points[0]!.generated).toBe(0);
  expect(own.points.at(-1)).toMatchObject({ generated: 2000, ns: 2_000_000 });
});

test("speeds are of all streams, over stretches that are long enough to mean something", () => {
  const own = trace(2);
  for (let n = 0; n <= 1000; n++) addPoint(own, sample(n, { ns: n > 0 ? 1e6 : 0, tokens: 1 }));
  const speeds = speedsOf(own);
  expect(speeds.length).toBeLessThanOrEqual(50);
  for (const { rate } of speeds) expect(rate).toBeCloseTo(2000);
  expect(speeds.at(-1)!.context).toBeGreaterThan(980);
});
