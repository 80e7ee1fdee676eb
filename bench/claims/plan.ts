// What is run so that the claims can be judged: for each architecture the tests that some claim needs.

import type { Planned } from "../benchRun.ts";
import { shipped } from "../shipped.ts";
import { shippedSubject } from "../subject.ts";
import { expandTests, type Test } from "../tests.ts";
import { ssm } from "./compressed.ts";
import { claims } from "./index.ts";
import type { Kind } from "./needs.ts";

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
}

export const quickSizes: Sizes = {
  prompts: [256, 512, 1024],
  n_gen: 16,
  contexts: [256, 1024, 2048],
  streams: [2, 4],
  streamContext: 1024,
  n_ubatch: 64,
  repetitions: 3,
};

export const fullSizes: Sizes = {
  prompts: [512, 1024, 2048, 4096],
  n_gen: 64,
  contexts: [512, 2048, 8192, 16_384],
  streams: [2, 4, 8],
  streamContext: 2048,
  n_ubatch: 512,
  repetitions: 5,
};

/** No claim needs these; they belong into a picture of all families. */
const shown: [arch: string, kinds: Kind[]][] = [["jamba", ["decode"]]];

/** Architectures that are not shipped are left out: their rows are missing then, and verdicts say so. `at`: as for subjects. */
export function planOf(sizes: Sizes, at: string): Planned[] {
  const kinds = new Map<string, Set<Kind>>(shown.map(([arch, kinds]) => [arch, new Set(kinds)]));
  for (const { arch, kind } of claims.flatMap(({ needs }) => needs))
    kinds.set(arch, (kinds.get(arch) ?? new Set()).add(kind));
  return Object.keys(shipped).flatMap((arch) => {
    const tests = [...(kinds.get(arch) ?? [])].flatMap((kind) => testsOf(kind, sizes));
    if (tests.length === 0) return [];
    const subject = shippedSubject(arch, at);
    // whether its scan has a form that is parallel in time shows in a race
    return { subject: arch === ssm ? { ...subject, race: true } : subject, tests };
  });
}

function testsOf(kind: Kind, sizes: Sizes): Test[] {
  const { n_gen, n_ubatch, contexts, streamContext } = sizes;
  const lists = { prompts: [], gens: [n_gen], promptGens: [], promptDepths: [0], ubatches: [n_ubatch] };
  switch (kind) {
    case "prompt":
      return expandTests({ ...lists, prompts: sizes.prompts, gens: [], genDepths: [], streams: [1] });
    case "decode": {
      const genDepths = [0, ...contexts.map((tokens) => tokens - n_gen)];
      return expandTests({ ...lists, genDepths, streams: [1] });
    }
    case "streams":
      return expandTests({ ...lists, genDepths: [streamContext - n_gen], streams: sizes.streams });
  }
}
