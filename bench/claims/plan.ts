// What is run so that the claims can be judged: for each architecture the tests that some claim needs.

import { shipped } from "../shipped.ts";
import { type Planned, shippedSubject } from "../subject.ts";
import { expandTests, type Test } from "../tests.ts";
import { ssm } from "./compressed.ts";
import { claims } from "./index.ts";
import { decodes, type Kind, kinds, type Need } from "./needs.ts";

interface Sizes {
  /** Powers of two, where pages end. */
  prompts: number[];
  n_gen: number;
  /** Contexts that generation ends at, pages' ends too; it also starts at depth 0. */
  contexts: number[];
  streams: number[];
  /** One of the contexts. */
  streamContext: number;
  n_ubatch: number;
  repetitions: number;
  /** No more sizes of a kind than a claim needs. */
  least: boolean;
}

export const quickSizes: Sizes = {
  prompts: [256, 512, 1024],
  n_gen: 32,
  contexts: [256, 1024, 2048],
  streams: [2, 4],
  streamContext: 1024,
  n_ubatch: 64,
  repetitions: 3,
  least: true,
};

export const fullSizes: Sizes = {
  prompts: [512, 1024, 2048, 4096],
  n_gen: 64,
  contexts: [512, 2048, 8192, 16_384],
  streams: [2, 4, 8],
  streamContext: 2048,
  n_ubatch: 512,
  repetitions: 5,
  least: false,
};

/** No claim needs these; they belong into a picture of all families. */
const shown: Need[] = [decodes("jamba")];

/** Architectures that are not shipped are left out: their rows are missing then, and verdicts say so. `at`: as for subjects. */
export function planOf(sizes: Sizes, at: string): Planned[] {
  const needs = [...claims.flatMap(({ needs }) => needs), ...shown];
  return Object.keys(shipped).flatMap((arch) => {
    const own = needs.filter((need) => need.arch === arch);
    const tests = kinds.flatMap((kind) => {
      const least = Math.max(0, ...own.filter((need) => need.kind === kind).map((need) => need.least));
      return least > 0 ? testsOf(kind, sizes, sizes.least ? least : Number.POSITIVE_INFINITY) : [];
    });
    if (tests.length === 0) return [];
    const subject = shippedSubject(arch, at);
    // whether its scan has a form that is parallel in time shows in a race
    return { subject: arch === ssm ? { ...subject, race: true } : subject, tests };
  });
}

function testsOf(kind: Kind, sizes: Sizes, most: number): Test[] {
  const { n_gen, n_ubatch, contexts, streamContext } = sizes;
  const lists = { prompts: [], gens: [n_gen], promptGens: [], promptDepths: [0], ubatches: [n_ubatch] };
  switch (kind) {
    case "prompt":
      return expandTests({
        ...lists,
        prompts: spread(sizes.prompts, most),
        gens: [],
        genDepths: [],
        streams: [1],
      });
    case "decode": {
      const depths = [0, ...contexts.map((tokens) => tokens - n_gen)];
      return expandTests({ ...lists, genDepths: spread(depths, most), streams: [1] });
    }
    case "streams":
      return expandTests({ ...lists, genDepths: [streamContext - n_gen], streams: sizes.streams });
  }
}

/** The first of the values, and of the others the last, so many in all. */
function spread(values: readonly number[], most: number): number[] {
  return values.filter((_, i) => i === 0 || i > values.length - most);
}
