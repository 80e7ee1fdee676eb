import { describe, expect, test } from "vitest";
import { type Probed, searchLargest } from "../bench/search.ts";

const options = { first: 256, last: 2 ** 20, resolution: 1 / 16, probes: 100 };

/** Fits up to a cliff. */
function cliff(most: number) {
  const asked: number[] = [];
  const probe = async (n: number): Promise<Probed<string, string>> => {
    asked.push(n);
    return n <= most ? { fits: true, found: `${n} fits` } : { fits: false, why: `${n} is past ${most}` };
  };
  return { asked, probe };
}

describe("search", () => {
  test("finds a cliff to its resolution, doubling first", async () => {
    for (const most of [256, 300, 1000, 4096, 5000, 123_456, 2 ** 20 - 1]) {
      const { asked, probe } = cliff(most);
      const { largest, refused, stopped, probes } = await searchLargest(probe, options);
      expect(stopped).toBeNull();
      expect(largest!.n, `cliff at ${most}`).toBeLessThanOrEqual(most);
      expect(refused!.n, `cliff at ${most}`).toBeGreaterThan(most);
      expect(refused!.n - largest!.n).toBeLessThanOrEqual(largest!.n / 16);
      expect(largest!.found).toBe(`${largest!.n} fits`);
      expect(refused!.why).toBe(`${refused!.n} is past ${most}`);
      expect(probes).toBe(asked.length);
      expect(probes).toBeLessThanOrEqual(13 + 5);
      expect(new Set(asked).size).toBe(asked.length);
    }
  });

  test("to the very last one, where that is asked", async () => {
    for (const most of [256, 257, 4095, 4096, 99_999]) {
      const { largest, refused } = await searchLargest(cliff(most).probe, { ...options, resolution: 0 });
      expect([largest!.n, refused!.n]).toEqual([most, most + 1]);
    }
  });

  test("says that it found no end", async () => {
    const { asked, probe } = cliff(Number.POSITIVE_INFINITY);
    const { largest, refused, stopped } = await searchLargest(probe, { ...options, last: 5000 });
    expect(asked).toEqual([256, 512, 1024, 2048, 4096, 5000]);
    expect(largest).toEqual({ n: 5000, found: "5000 fits" });
    expect([refused, stopped]).toEqual([null, null]);
  });

  test("looks below where it began", async () => {
    expect((await searchLargest(cliff(100).probe, { ...options, resolution: 0 })).largest!.n).toBe(100);
    const none = await searchLargest(cliff(0).probe, options);
    expect(none.largest).toBeNull();
    expect(none.refused!.n).toBe(1);
    expect((await searchLargest(cliff(100).probe, { ...options, last: 50 })).largest!.n).toBe(50);
  });

  test("goes on from what is known", async () => {
    const { asked, probe } = cliff(1000);
    const known = { n: 256, found: "known" };
    const found = await searchLargest(probe, { ...options, known, first: 512 });
    expect(asked.slice(0, 3)).toEqual([512, 1024, 768]);
    expect(found.refused!.n).toBeLessThanOrEqual(1000 * (1 + 1 / 16));
    const none = await searchLargest(cliff(300).probe, { ...options, known, first: 512, resolution: 1 });
    expect(none).toMatchObject({ largest: known, refused: { n: 512 }, probes: 1 });
    const all = await searchLargest(cliff(0).probe, { ...options, known, last: 256 });
    expect(all).toEqual({ largest: known, refused: null, stopped: null, probes: 0 });
  });

  test("ends when its probes are used up, or when one cannot tell", async () => {
    const few = await searchLargest(cliff(100_000).probe, { ...options, probes: 4 });
    expect(few).toMatchObject({ largest: { n: 2048 }, refused: null, stopped: "probes", probes: 4 });
    const late = await searchLargest<string, string>(
      async (n) => (n < 5000 ? { fits: true, found: "" } : { fits: null, why: "no time" }),
      options,
    );
    expect(late).toMatchObject({ largest: { n: 4096 }, refused: null, stopped: "no time" });
  });

  /** Speeds by turns: what fits is at least half of the best so far. */
  function speeds(most: number, disturbed: Record<number, [ts: number, best: number]>) {
    const asked: number[] = [];
    let best = 0;
    const probe = async (n: number): Promise<Probed<number, string>> => {
      asked.push(n);
      const [ts, small] = disturbed[asked.length] ?? [n <= most ? 60 : 40, 100];
      best = Math.max(best, small);
      return 2 * ts >= best ? { fits: true, found: ts } : { fits: false, why: `${ts} of ${best}` };
    };
    return { asked, probe, stands: (_: number, ts: number) => 2 * ts >= best };
  }

  test("probes again what no longer stands, and goes on below it where it fails", async () => {
    // all is slow while 512 and 1024 are probed: they pass, and 1024 should not
    const { asked, probe, stands } = speeds(600, { 2: [9, 10], 3: [9, 10], 1: [9, 10] });
    const found = await searchLargest(probe, { ...options, stands, resolution: 1 / 4 });
    expect(asked).toEqual([256, 512, 1024, 2048, 1024, 512, 768, 640]);
    expect(found).toMatchObject({ largest: { n: 512, found: 60 }, refused: { n: 640, why: "40 of 100" } });

    const known = { n: 128, found: 1 };
    const kept = speeds(2000, { 1: [9, 10], 2: [9, 10], 3: [9, 10] });
    const passes = await searchLargest(kept.probe, { ...options, known, stands: kept.stands });
    expect(kept.asked.slice(0, 6)).toEqual([256, 512, 1024, 2048, 1024, 1536]);
    expect(passes.largest!.n).toBeGreaterThan(1880);
    expect(passes.largest!.found).toBe(60);
  });

  test("what was not probed again in time is not handed back", async () => {
    const { probe, stands } = speeds(600, { 1: [9, 10], 2: [9, 10] });
    const known = { n: 128, found: 1 };
    const cut = await searchLargest(probe, { ...options, known, stands, probes: 3 });
    expect(cut).toMatchObject({ largest: known, refused: { n: 1024 }, stopped: "probes" });
  });

  test("throws what the probe throws", async () => {
    const broken = searchLargest(() => Promise.reject(new Error("lost")), options);
    await expect(broken).rejects.toThrow("lost");
  });
});
