// Parallel in time: whole models over long prompts with each form of their recurrence in turn, beside the default one.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compare } from "../bench/kernels/kernelCase.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { constantsKey, eligible } from "../engine/kernel.ts";
import { contests } from "../engine/layout.ts";
import { total } from "../engine/memory.ts";
import type { Snapshot } from "../engine/snapshot.ts";
import { race } from "../engine/tune.ts";
import { createEngine, type Engine, type Model } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";

let engine: Engine;
let machine: GpuMachine;
beforeAll(async () => {
  engine = await createEngine();
  machine = engine.machine as GpuMachine;
});
afterAll(() => engine.destroy());

const B = 2;
const CHUNK = 512;
/** Two forms round otherwise, and over 900 tokens: a serial walk repeats the error of exp at each of them. */
const NMSE = 1e-10;
/** Ids below 64, the goldens' vocabulary. */
const prompt = (length: number, seed: number): number[] =>
  Array.from({ length }, (_, i) => (i * i * 7 + i * 13 * seed + seed) % 64);
/** A chunk with a short stream, then a part of one with a frozen stream. */
const PROMPTS = [prompt(900, 1), prompt(150, 2)];

const RECURRENCES = /^(selectiveScan|linearAttention|gatedLinearAttention)/;
const recurrence = ({ loaded }: Model) =>
  contests(loaded.architecture, loaded.config, { B, chunk: CHUNK }).find(
    ({ kernel, sizes }) => RECURRENCES.test(kernel.name) && sizes.T === CHUNK,
  )!;

async function run(model: Model): Promise<{ middle: Snapshot; end: Snapshot; logits: Float32Array }> {
  const session = await model.session({ streams: B, chunk: CHUNK });
  try {
    await session.prefill(PROMPTS.map((ids) => ids.slice(0, CHUNK)));
    const middle = await session.snapshot();
    await session.prefill(PROMPTS.map((ids) => ids.slice(CHUNK)));
    return { middle, end: await session.snapshot(), logits: await session.logits() };
  } finally {
    session.destroy();
  }
}

for (const name of ["mamba", "falcon-mamba", "linear-attention", "gla"]) {
  describe(name, () => {
    let model: Model;
    beforeAll(async () => {
      const source = urlSource(new URL(`/test/goldens/${name}/`, location.href));
      model = await engine.load(source, { tune: "off" });
    });
    afterAll(() => {
      model.destroy();
      expect(total(engine.memory()), "bytes left on the device").toBe(0);
    });

    test("every form of the recurrence leads to the same state and logits", async () => {
      const { kernel, sizes } = recurrence(model);
      const key = constantsKey(kernel, sizes);
      const wanted = await run(model);
      const names = eligible(kernel, sizes, machine.variants.features);
      expect(names).toContain("chunks");
      try {
        for (const variant of names) {
          machine.variants.verdicts.set(key, variant);
          const found = await run(model);
          expect(compare(found.logits, wanted.logits).nmse, `${variant}: logits`).toBeLessThan(NMSE);
          for (const [tensor, data] of wanted.end.tensors) {
            const { nmse } = compare(found.end.tensors.get(tensor)!, data);
            expect(nmse, `${variant}: ${tensor}`).toBeLessThan(NMSE);
          }
          // stream 1 had ended: its half of each tensor keeps its bits
          for (const [tensor, data] of found.end.tensors) {
            const before = found.middle.tensors.get(tensor)!.subarray(data.length / B);
            expect(data.subarray(data.length / B), `${variant}: ${tensor} of a frozen stream`).toEqual(
              before,
            );
          }
        }
      } finally {
        machine.variants.verdicts.delete(key);
      }
    });

    test("a race at 512 tokens runs the parallel form, a step has none", async () => {
      const contest = recurrence(model);
      const [verdict] = await race(machine, [contest]);
      machine.variants.verdicts.delete(verdict!.key);
      expect(Object.keys(verdict!.ms)).toContain("chunks");
      const step = { ...contest.sizes, T: 1 };
      expect(eligible(contest.kernel, step, machine.variants.features)).not.toContain("chunks");
    });
  });
}
