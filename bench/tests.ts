// Which tests are run. Apart from flags.ts, since pages know no command line.

/** What tests are made of. Lists are in the order given. */
export interface TestLists {
  prompts: number[];
  gens: number[];
  promptGens: { n_prompt: number; n_gen: number }[];
  /** Depths of tests with a prompt, and of generation alone: they differ unless -d is given. */
  promptDepths: number[];
  genDepths: number[];
  streams: number[];
  ubatches: number[];
}

/** Tokens of the stream whose bits a byte are measured. */
export const QUALITY_TOKENS = 16_384;

export interface Test {
  n_prompt: number;
  n_gen: number;
  n_depth: number;
  n_parallel: number;
  n_ubatch: number;
}

/** What kernels are timed at the sizes of: a step and a prompt of small models, and a step of large ones. */
const step = { n_prompt: 0, n_gen: 1, n_depth: 1024, n_parallel: 1, n_ubatch: 512 };
export const kernelTests: readonly Test[] = [step, { ...step, n_prompt: 512, n_gen: 0, n_depth: 0 }];
export const deepStep: Test = { ...step, n_depth: 4096 };

/**
 * The tests of one model, in llama-bench's order: chunk size and streams outside, then depth; inside it every
 * prompt, every generation, every pair.
 */
export function expandTests(options: TestLists): Test[] {
  const { promptDepths: ofPrompts, genDepths: ofGens } = options;
  const depths = [...new Set([...ofPrompts, ...ofGens])];
  const at = (n_depth: number) => {
    const tests = [];
    if (ofPrompts.includes(n_depth))
      tests.push(...options.prompts.map((n_prompt) => ({ n_prompt, n_gen: 0, n_depth })));
    if (ofGens.includes(n_depth))
      tests.push(...options.gens.map((n_gen) => ({ n_prompt: 0, n_gen, n_depth })));
    if (ofPrompts.includes(n_depth))
      tests.push(...options.promptGens.map((sizes) => ({ ...sizes, n_depth })));
    return tests.filter(({ n_prompt, n_gen }) => n_prompt + n_gen > 0);
  };
  return options.ubatches.flatMap((n_ubatch) =>
    options.streams.flatMap((n_parallel) =>
      depths.flatMap((n_depth) => at(n_depth).map((test) => ({ ...test, n_parallel, n_ubatch }))),
    ),
  );
}

/** The stretches of one stream to this depth: a prompt of `every` tokens after the ones before; the last may be shorter. */
export function curveTests(
  every: number,
  depth: number,
  { streams, ubatches }: Pick<TestLists, "streams" | "ubatches">,
): Test[] {
  const starts = Array.from({ length: Math.ceil(depth / every) }, (_, i) => i * every);
  return ubatches.flatMap((n_ubatch) =>
    streams.flatMap((n_parallel) =>
      starts.map((n_depth) => {
        const n_prompt = Math.min(every, depth - n_depth);
        return { n_prompt, n_gen: 0, n_depth, n_parallel, n_ubatch };
      }),
    ),
  );
}

/** pp512, tg128, pp512+tg128, tg128 @ d4096. */
export function testName({ n_prompt, n_gen, n_depth }: Pick<Test, "n_prompt" | "n_gen" | "n_depth">): string {
  const kinds = [n_prompt > 0 && `pp${n_prompt}`, n_gen > 0 && `tg${n_gen}`].filter(Boolean).join("+");
  return n_depth > 0 ? `${kinds} @ d${n_depth}` : kinds;
}
