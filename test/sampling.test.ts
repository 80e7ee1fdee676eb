// What `sample` draws, by its reference: the right distribution, the filters one by one, and draws that repeat.

import { describe, expect, it } from "vitest";
import { CURSOR, CURSOR_COLUMNS, ID_RING } from "../engine/cursor.ts";
import { sample } from "../kernels/sample.ts";

interface Settings {
  seed?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
}

/** `count` draws of one stream, at positions 0, 1, … */
function draw(logits: readonly number[], settings: Settings, count: number): number[] {
  const V = logits.length;
  const cursor = new Uint32Array(CURSOR_COLUMNS);
  const floats = new Float32Array(cursor.buffer);
  cursor[CURSOR.count] = 1;
  cursor[CURSOR.seed] = settings.seed ?? 0;
  cursor[CURSOR.topK] = settings.topK ?? 0;
  floats[CURSOR.temperature] = settings.temperature ?? 1;
  floats[CURSOR.topP] = settings.topP ?? 1;
  floats[CURSOR.minP] = settings.minP ?? 0;
  const tensors = {
    cursor,
    logits: Float32Array.from(logits),
    tokens: new Uint32Array(1),
    ids: new Uint32Array(ID_RING),
  };
  return Array.from({ length: count }, (_, position) => {
    cursor[CURSOR.position] = position;
    sample.reference(tensors, { B: 1, V });
    expect(tensors.ids[position % ID_RING]).toBe(tensors.tokens[0]);
    return tensors.tokens[0]!;
  });
}

const softmax = (logits: readonly number[], temperature: number): number[] => {
  const weights = logits.map((l) => Math.exp(l / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
};

/** Pearson's statistic over the tokens that can be drawn; Infinity where one was drawn that cannot be. */
function chiSquare(draws: readonly number[], probabilities: readonly number[]): number {
  const counts = probabilities.map(() => 0);
  for (const token of draws) counts[token]!++;
  return probabilities.reduce((sum, p, i) => {
    const wanted = p * draws.length;
    if (wanted === 0) return counts[i] === 0 ? sum : Number.POSITIVE_INFINITY;
    return sum + (counts[i]! - wanted) ** 2 / wanted;
  }, 0);
}

/** Keeps what is named and makes the rest impossible. */
function only(probabilities: readonly number[], kept: readonly number[]): number[] {
  const total = kept.reduce((sum, i) => sum + probabilities[i]!, 0);
  return probabilities.map((p, i) => (kept.includes(i) ? p / total : 0));
}

const N = 20_000;
const LOGITS = [1.2, -0.3, 2.1, 0, 0.7, -1.5, 1.9, 0.4];
/** By falling logit. */
const ORDER = [2, 6, 0, 4, 7, 3, 1, 5];
/** Chi-square's 99.9th percentile at 1 to 7 degrees of freedom. */
const LIMIT = [Number.NaN, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32];

describe("sample draws from the softmax", () => {
  for (const temperature of [0.5, 1, 1.7]) {
    it(`at temperature ${temperature}`, () => {
      const draws = draw(LOGITS, { temperature, seed: 7 }, N);
      expect(chiSquare(draws, softmax(LOGITS, temperature))).toBeLessThan(LIMIT[7]!);
    });
  }

  it("whatever the seed: 200 seeds' statistics are spread as chi-square's", () => {
    const over = Array.from({ length: 200 }, (_, seed) =>
      chiSquare(draw(LOGITS, { seed }, 500), softmax(LOGITS, 1)),
    ).filter((x) => x > 14.07); // the 95th percentile at 7 degrees of freedom
    expect(over.length).toBeGreaterThan(1);
    expect(over.length).toBeLessThan(22);
  });

  it("and each draw is independent of the one before", () => {
    const draws = draw([0, 0], { seed: 3 }, N);
    const pairs = draws.slice(1).map((token, i) => 2 * draws[i]! + token);
    expect(chiSquare(pairs, [0.25, 0.25, 0.25, 0.25])).toBeLessThan(LIMIT[3]!);
  });
});

describe("sample's filters", () => {
  const p = softmax(LOGITS, 1);

  it("topK keeps the k largest", () => {
    expect(chiSquare(draw(LOGITS, { topK: 3 }, N), only(p, ORDER.slice(0, 3)))).toBeLessThan(LIMIT[2]!);
    expect(new Set(draw(LOGITS, { topK: 1 }, 500))).toEqual(new Set([2]));
    expect(draw(LOGITS, { topK: 8 }, 500)).toEqual(draw(LOGITS, {}, 500));
  });

  it("topK keeps all that tie with the last one kept", () => {
    expect(new Set(draw([1, 3, 1, 1], { topK: 2 }, 500))).toEqual(new Set([0, 1, 2, 3]));
    expect(new Set(draw([1, 3, 3, 1], { topK: 1 }, 500))).toEqual(new Set([1, 2]));
  });

  it("topP keeps the fewest that reach p", () => {
    const two = p[2]! + p[6]!;
    expect(new Set(draw(LOGITS, { topP: two - 0.01 }, N))).toEqual(new Set(ORDER.slice(0, 2)));
    expect(new Set(draw(LOGITS, { topP: two + 0.01 }, N))).toEqual(new Set(ORDER.slice(0, 3)));
    expect(new Set(draw(LOGITS, { topP: 1e-6 }, 500))).toEqual(new Set([2]));
  });

  it("topP counts the mass that topK left", () => {
    const kept = only(p, ORDER.slice(0, 3));
    // token 2 alone reaches 0.4 of what the three weigh, not of the whole
    expect(p[2]).toBeLessThan(0.4);
    expect(kept[2]).toBeGreaterThan(0.4);
    expect(new Set(draw(LOGITS, { topK: 3, topP: 0.4 }, 500))).toEqual(new Set([2]));
    expect(new Set(draw(LOGITS, { topP: 0.4 }, 500))).toEqual(new Set([2, 6]));
  });

  it("minP keeps what has that share of the largest probability", () => {
    const temperature = 0.8;
    const kept = ORDER.filter((i) => Math.exp((LOGITS[i]! - LOGITS[2]!) / temperature) >= 0.15);
    expect(kept).toHaveLength(4);
    const draws = draw(LOGITS, { temperature, minP: 0.15 }, N);
    expect(chiSquare(draws, only(softmax(LOGITS, temperature), kept))).toBeLessThan(LIMIT[3]!);
    expect(new Set(draw(LOGITS, { minP: 1 }, 500))).toEqual(new Set([2]));
  });

  it("work on the distribution that the temperature gives", () => {
    expect(new Set(draw(LOGITS, { temperature: 0.2, topP: 0.9 }, 2000))).toEqual(new Set([2, 6]));
    expect(new Set(draw(LOGITS, { temperature: 5, topP: 0.9 }, N)).size).toBeGreaterThan(6);
  });
});

describe("sample repeats", () => {
  it("with the same seed and position, and differs with others", () => {
    expect(draw(LOGITS, { seed: 1 }, 100)).toEqual(draw(LOGITS, { seed: 1 }, 100));
    expect(draw(LOGITS, { seed: 1 }, 100)).not.toEqual(draw(LOGITS, { seed: 2 }, 100));
  });

  it("at temperature 0 as argmax, whatever the filters, the lowest index on ties", () => {
    expect(new Set(draw([1, 5, 5, 2], { temperature: 0, topK: 1, topP: 0.1, minP: 0.9 }, 50))).toEqual(
      new Set([1]),
    );
  });
});
