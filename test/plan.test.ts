// What is derived from a kernel's declaration: checks, WGSL headers, dispatches over pages, the choice of a variant.

import { describe, expect, test } from "vitest";
import { ShapeError } from "../engine/errors.ts";
import {
  type AnyKernel,
  compilePass,
  defineKernel,
  gridOf,
  type Pass,
  paged,
  read,
  tiled,
  update,
  type Variant,
  write,
} from "../engine/kernel.ts";
import { VariantTable } from "../engine/machine.ts";
import { PagedTensor } from "../engine/pages.ts";
import { expand, type Op, record } from "../engine/plan.ts";
import {
  pagesFor,
  rows,
  type Spec,
  type Storage,
  storedBytes,
  type Tensor,
  tiles,
} from "../engine/tensor.ts";

const tensor = (label: string, spec: Spec): Tensor => ({
  label,
  spec,
  offset: 0,
  storages: [{ category: "state", label, bytes: storedBytes(spec) }],
});

/** A tensor of B = 2 planes, D = 3 columns and these pages along N. */
function pagedTensor(length: number): PagedTensor {
  const out = new PagedTensor("layers.0", { ...tiles(2, 0, 3), pagedAxis: 1 });
  for (const slots of pagesFor(length)) {
    const storage: Storage = out.pageStorage(slots);
    out.pages.push(slots);
    out.storages.push(storage);
  }
  return out;
}

const EVERYWHERE = { first: 0, last: Number.POSITIVE_INFINITY };
const pass: Pass<never> = { workgroup: 8, grid: () => 1, wgsl: "w x y scale" };
const body = { reference() {}, flops: () => 0, cases: [] };

const matvec = defineKernel({
  name: "matvec",
  consts: ["O", "I"],
  scalars: ["scale"],
  params: ["offset"],
  bindings: { w: tiled(read("f32", "O", "I")), x: read("f32", "I"), y: write("f32", "O") },
  variants: { plain: { suits: "any", views: { x: "vec4f" }, passes: [pass] } },
  ...body,
});
const sizes = { O: 5, I: 33, scale: 0.5, offset: 7 };
const tensors = { w: tensor("layers.0.w", tiles(5, 33)), x: tensor("x", rows(33)), y: tensor("y", rows(5)) };

describe("recording", () => {
  test("a shape that does not fit is one sentence: kernel, sizes, tensor, found, wanted", () => {
    const bad = { ...tensors, w: tensor("layers.0.w", tiles(5, 32)) };
    const recording = () => record("step", (m) => m.run(matvec, bad, sizes));
    expect(recording).toThrow(ShapeError);
    expect(recording).toThrow(
      "matvec(O=5, I=33, scale=0.5, offset=7): w is f32[5, 32] in tiles (layers.0.w), [O, I] wants f32[5, 33] in tiles",
    );
  });

  test("so are another layout and another type", () => {
    const run = (change: Partial<typeof tensors>) => () =>
      record("step", (m) => m.run(matvec, { ...tensors, ...change }, sizes));
    expect(run({ w: tensor("w", rows(5, 33)) })).toThrow("w is f32[5, 33] in rows (w), [O, I] wants");
    expect(run({ x: tensor("ids", { ...rows(33), type: "u32" }) })).toThrow("x is u32[33] in rows (ids)");
  });

  test("what lies before the padded letters may be split in any way", () => {
    const rowwise = defineKernel({
      name: "rowwise",
      consts: ["M", "D"],
      bindings: { x: update("f32", "M", "D") },
      variants: { plain: { suits: "any", passes: [pass] } },
      ...body,
    });
    const run = (spec: Spec) => () =>
      record("step", (m) => m.run(rowwise, { x: tensor("x", spec) }, { M: 6, D: 5 }));
    expect(run(rows(2, 3, 5))).not.toThrow();
    // as many elements, but padded elsewhere
    expect(run(rows(2, 15))).toThrow(ShapeError);
  });
});

describe("the derived header", () => {
  test("states constants, params and bindings that the body names, in order", () => {
    const { code, params, bindings } = compilePass(matvec, matvec.variants.plain!, pass, sizes);
    expect(params).toEqual(["offset"]);
    expect(bindings.map((b) => b.identifier)).toEqual(["w", "x", "y"]);
    expect(code.split("\n")).toEqual([
      "const O = 5u; const O4 = 2u;",
      "const I = 33u; const I4 = 9u;",
      "const scale = 0.5f;",
      "const WG = 8u;",
      "struct Params { offset: u32 }",
      "@group(0) @binding(0) var<uniform> params: Params;",
      "@group(0) @binding(1) var<storage, read> w: array<mat4x4f, 18>;  // [O, I]",
      "@group(0) @binding(2) var<storage, read> x: array<vec4f, 9>;  // [I]",
      "@group(0) @binding(3) var<storage, read_write> y: array<f32, 8>;  // [O]",
      "fn workgroupIndex(wg: vec3u) -> u32 { return wg.y * 65535u + wg.x; }",
      "w x y scale",
    ]);
  });

  test("leaves out what the body does not name; features come first", () => {
    const variant: Variant = { suits: "gpu", needs: ["subgroups"], passes: [] };
    const { code, bindings } = compilePass(matvec, variant, { ...pass, wgsl: "y" }, sizes);
    expect(bindings.map((b) => b.identifier)).toEqual(["y"]);
    expect(code.startsWith("enable subgroups;\n")).toBe(true);
  });

  test("a scalar that is not finite never reaches WGSL", () => {
    const bad = { ...sizes, scale: Number.NaN };
    expect(() => compilePass(matvec, matvec.variants.plain!, pass, bad)).toThrow("must be finite, not NaN");
  });

  test("a flat grid is folded into y past 65,535", () => {
    expect(gridOf(65_535)).toEqual([65_535, 1, 1]);
    expect(gridOf(65_536)).toEqual([65_535, 2, 1]);
    expect(gridOf([3, 4])).toEqual([3, 4, 1]);
  });
});

/** Bindings beside the paged one leave room for `8 - others` pages. */
const scan = (access: "read" | "write", change: { mostPages?: number } = {}) =>
  defineKernel({
    name: `scan[${access}${change.mostPages ?? ""}]`,
    consts: ["B", "D"],
    params: ["N"],
    bindings: {
      kv: paged("N", tiled((access === "read" ? read : update)("f32", "B", "N", "D"))),
      y: write("f32", "B", "D"),
    },
    variants: {
      plain: {
        suits: "any",
        passes: [
          {
            overPages: true,
            workgroup: 8,
            grid: ({ PAGE, PAGES }) => [PAGE, PAGES],
            wgsl: ({ PAGES }) => `${Array.from({ length: PAGES }, (_, i) => `kv${i}`).join(" ")} y`,
            ...change,
          },
        ],
      },
    },
    ...body,
  });

const op = (kernel: AnyKernel, kv: Tensor): Op => ({
  kernel,
  tensors: { kv, y: tensor("y", rows(2, 3)) },
  sizes: { B: 2, D: 3, N: 0 },
});
const named = (names: readonly string[], values: readonly number[]) =>
  Object.fromEntries(names.map((name, i) => [name, values[i]]));

describe("dispatches over pages", () => {
  test("a reader sees all pages, as many of one size at once as can be bound", () => {
    const kv = pagedTensor(5000);
    expect(kv.pages).toEqual([...new Array(16).fill(256), 512, 512]);
    const dispatches = expand(op(scan("read"), kv), "plain", [], EVERYWHERE);
    expect(dispatches.map((d) => named(d.pass.params, d.params))).toEqual([
      { N: 5120, base: 0, pages: 7 },
      { N: 5120, base: 7 * 256, pages: 7 },
      { N: 5120, base: 14 * 256, pages: 2 },
      { N: 5120, base: 4096, pages: 2 },
    ]);
    for (const { bindings } of dispatches) expect(bindings).toHaveLength(8);
    expect(dispatches.map((d) => d.grid)).toEqual([
      [256, 7, 1],
      [256, 7, 1],
      [256, 2, 1],
      [512, 2, 1],
    ]);
    // one pipeline a page size, whatever the length: bindings past the real pages repeat the last one
    expect(new Set(dispatches.map((d) => d.key)).size).toBe(2);
    const third = dispatches[2]!.bindings.map((b) => b.storage);
    expect(third.slice(0, 3)).toEqual([kv.storages[14], kv.storages[15], kv.storages[15]]);
    for (const { pass, bindings } of dispatches)
      pass.bindings.forEach(({ page }, i) => {
        if (page !== undefined) expect(bindings[i]!.bytes).toBe(bindings[i]!.storage.bytes);
      });
  });

  test("a pass may bound its groups", () => {
    const dispatches = expand(op(scan("read", { mostPages: 3 }), pagedTensor(1024)), "plain", [], EVERYWHERE);
    expect(dispatches.map((d) => named(d.pass.params, d.params).pages)).toEqual([3, 1]);
  });

  test("a writer gets one dispatch for each page that the streams reach", () => {
    const bases = (first: number, last: number) =>
      expand(op(scan("write"), pagedTensor(5000)), "plain", [], { first, last }).map(
        (d) => named(d.pass.params, d.params).base,
      );
    expect(bases(0, 0)).toEqual([0]);
    expect(bases(255, 255)).toEqual([0]);
    expect(bases(255, 256)).toEqual([0, 256]);
    expect(bases(3900, 4096)).toEqual([3840, 4096]);
    expect(bases(4608, 4700)).toEqual([4608]);
  });

  test("past 8 storage buffers a pass is refused, by name and number", () => {
    const many = defineKernel({
      name: "many",
      consts: ["D"],
      bindings: Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`t${i}`, read("f32", "D")])),
      variants: {
        plain: { suits: "any", passes: [{ ...pass, wgsl: "t0 t1 t2 t3 t4 t5 t6 t7 t8" }] },
      },
      ...body,
    });
    const names = Array.from({ length: 9 }, (_, i) => `t${i}`);
    const plan = record("step", (m) =>
      m.run(many, Object.fromEntries(names.map((name) => [name, tensor(name, rows(4))])), { D: 4 }),
    );
    const expanding = () => expand(plan.ops[0]!, "plain", [], EVERYWHERE);
    expect(expanding).toThrow(ShapeError);
    expect(expanding).toThrow("many(D=4)/plain/0: the pass binds 9 storage buffers, the limit is 8");
  });
});

describe("the table of variants", () => {
  const kernel = defineKernel({
    name: "choice",
    consts: ["D"],
    bindings: { x: read("f32", "D") },
    variants: {
      lanes: { suits: "gpu", needs: ["subgroups"], passes: [pass] },
      workgroup: { suits: "gpu", passes: [pass] },
      small: { suits: "cpu", when: ({ D }) => D <= 16, passes: [pass] },
      thread: { suits: "cpu", passes: [pass] },
    },
    ...body,
  });

  test("takes the first that suits the adapter and can run", () => {
    const on = (suits: "cpu" | "gpu", features: string[], D: number) =>
      new VariantTable(suits, new Set(features)).choose(kernel, { D });
    expect(on("gpu", ["subgroups"], 64)).toBe("lanes");
    expect(on("gpu", [], 64)).toBe("workgroup");
    expect(on("cpu", ["subgroups"], 8)).toBe("small");
    expect(on("cpu", [], 64)).toBe("thread");
  });

  test("a measured verdict goes before, for its sizes, where it can run", () => {
    const table = new VariantTable("gpu", new Set(), new Map([["choice(D=64)", "thread"]]));
    expect(table.choose(kernel, { D: 64 })).toBe("thread");
    expect(table.choose(kernel, { D: 65 })).toBe("workgroup");
    table.verdicts.set("choice(D=64)", "lanes");
    expect(table.choose(kernel, { D: 64 }), "kept from an adapter with subgroups").toBe("workgroup");
  });

  test("sizes that no variant runs are an error that names them", () => {
    const picky = { ...kernel, variants: { small: kernel.variants.small! } };
    expect(() => new VariantTable("cpu", new Set()).choose(picky, { D: 99 })).toThrow(
      "choice: no variant runs at D=99",
    );
  });
});

test("a pass is left out at sizes at which it has nothing to do, and keeps its pipeline's key", () => {
  const short: Pass<"O" | "I" | "scale" | "offset"> = { ...pass, when: ({ I }) => I <= 8 };
  const kernel: AnyKernel = {
    ...matvec,
    variants: { plain: { suits: "any", passes: [{ ...short, when: ({ I }) => I > 8 }, short] } },
  };
  const keys = (I: number) => {
    const sizes = { O: 4, I, scale: 1, offset: 0 };
    const tensors = { w: tensor("w", tiles(4, I)), x: tensor("x", rows(I)), y: tensor("y", rows(4)) };
    return expand({ kernel, tensors, sizes }, "plain", [], EVERYWHERE).map(({ key }) => key);
  };
  expect(keys(8)).toEqual(["matvec(O=4,I=8,scale=1)/plain/1"]);
  expect(keys(9)).toEqual(["matvec(O=4,I=9,scale=1)/plain/0"]);
});
