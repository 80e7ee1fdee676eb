// What must not compile. `npm run check` fails if an expected error does not occur.

import { expect, test } from "vitest";
import { defineKernel, read, write } from "../engine/kernel.ts";
import type { Recorder } from "../engine/plan.ts";
import type { Tensor } from "../engine/tensor.ts";
import { linear } from "../kernels/linear.ts";

const variants = { only: { suits: "any", passes: [{ workgroup: 1, grid: () => 1, wgsl: "" }] } } as const;
const rest = { variants, flops: () => 0, cases: [] };

const wrongLetter = defineKernel({
  name: "wrongLetter",
  consts: ["T", "D"],
  // @ts-expect-error Q is no letter of this kernel
  bindings: { x: read("f32", "T", "Q"), y: write("f32", "T", "D") },
  reference() {},
  ...rest,
});

const wrongSize = defineKernel({
  name: "wrongSize",
  consts: ["T"],
  bindings: { x: read("f32", "T") },
  reference() {},
  variants,
  // @ts-expect-error Z is no letter of this kernel
  flops: ({ Z }) => Z,
  cases: [],
});

const wrongReference = defineKernel({
  name: "wrongReference",
  consts: ["T"],
  bindings: { x: read("f32", "T"), ids: read("u32", "T") },
  // @ts-expect-error z is not bound
  reference({ x, z, ids }) {
    // @ts-expect-error ids is u32
    const floats: Float32Array = ids;
    x.set(floats);
    void z;
  },
  ...rest,
});

const wrongCase = defineKernel({
  name: "wrongCase",
  consts: ["T", "D"],
  params: ["position"],
  bindings: { x: read("f32", "T", "D") },
  reference() {},
  variants,
  flops: () => 0,
  // @ts-expect-error position is missing
  cases: [{ T: 1, D: 2 }],
});

function wrongCalls(m: Recorder, t: Tensor): void {
  const sizes = { M: 1, I: 4, O: 4, eps: 0 };
  // @ts-expect-error y is not bound
  m.run(linear({}), { w: t, x: t }, sizes);
  // @ts-expect-error with a bias, bias must be bound
  m.run(linear({ bias: true }), { w: t, x: t, y: t }, sizes);
  // @ts-expect-error I is missing
  m.run(linear({}), { w: t, x: t, y: t }, { M: 1, O: 4, eps: 0 });
}

test("this file compiles only because each mistake in it is an error", () => {
  expect([wrongLetter, wrongSize, wrongReference, wrongCase].map((k) => k.name)).toHaveLength(4);
  expect(wrongCalls).toBeTypeOf("function");
});
