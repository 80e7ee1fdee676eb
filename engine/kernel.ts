// What a kernel is. Pure data and pure functions: no GPUDevice, no browser API.

import { ShapeError } from "./errors.ts";
import { memo } from "./memo.ts";
import {
  ceilDiv,
  type ElementType,
  elements,
  type Layout,
  rowTiles,
  type Spec,
  storedBytes,
  storedWords,
} from "./tensor.ts";
import { type StoredType, tileFormats } from "./tiles.ts";

export type Sizes<L extends string = string> = Readonly<Record<L, number>>;
export type Access = "read" | "write" | "update";
/** A size that follows from letters. */
export interface Derived<L extends string = string> {
  readonly letters: readonly L[];
  readonly size: (s: Sizes<L>) => number;
  /** As comments and errors spell it. */
  readonly text: string;
}
export const derived = <const L extends string>(
  text: string,
  letters: readonly L[],
  size: (s: Sizes<L>) => number,
): Derived<L> => ({ text, letters, size });
/** ceil(letter / by): private scratch that keeps one value for so many slots. */
export const share = <const L extends string>(letter: L, by: number): Derived<L> =>
  derived(`${letter}/${by}`, [letter], (s) => ceilDiv(s[letter], by));
export type Axis<L extends string> = L | number | Derived<L>;

/** A bound tensor. `write` is written whole, `update` is read and written in place. */
export interface Binding<L extends string = string, T extends ElementType = ElementType> {
  readonly access: Access;
  readonly type: T;
  readonly shape: readonly Axis<L>[];
  readonly layout: Layout;
  /** The letter along which the tensor may be paged. */
  readonly paged?: L;
}

type LetterOf<A> = A extends string ? A : A extends Derived<infer L> ? L : never;
const bind =
  (access: Access) =>
  <const S extends readonly Axis<string>[], T extends ElementType>(
    type: T,
    ...shape: S
  ): Binding<LetterOf<S[number]>, T> => ({
    access,
    type,
    shape: shape as unknown as readonly Axis<LetterOf<S[number]>>[],
    layout: "rows",
  });
export const read = bind("read");
export const write = bind("write");
export const update = bind("update");

/** Stored in 4x4 tiles of its last two letters; bodies see them through the functions of engine/tiles.ts. */
export const tiled = <B extends Binding>(binding: B): B => ({ ...binding, layout: "tiles" });

/** Grows by pages along `letter`, which then stands for the capacity (the sum of the pages' slots). */
export const paged = <L extends string, T extends ElementType>(
  letter: NoInfer<L>,
  binding: Binding<L, T>,
): Binding<L, T> => ({
  ...binding,
  paged: letter,
});

export type ArrayOf<B> =
  B extends Binding<string, infer T> ? (T extends "u32" ? Uint32Array : Float32Array) : never;

/** Number of workgroups: flat (it may pass 65,535: see `workgroupIndex`), or x, y, z. */
export type Grid = number | readonly [number, number] | readonly [number, number, number];

/** How WGSL sees a binding: the element type of its array. */
export type View = "f32" | "vec4f" | "mat4x4f" | "u32" | "vec4u";

/** A `Pass` over pages is dispatched once for each group of equally long pages. */
export interface PageGroup {
  /** Slots of each page in the group: constant PAGE. */
  PAGE: number;
  /** Bindings `name0 … name(PAGES-1)`: constant PAGES. Those past `params.pages` repeat the last page. */
  PAGES: number;
}

/**
 * One dispatch. It binds the tensors that its WGSL names. The derived header declares the constants (each letter
 * X as u32 with X4 = ceil(X / 4), each scalar as f32), WG, `params`, the bindings, and `workgroupIndex(wg)`.
 */
export interface Pass<L extends string = string> {
  /** Invocations a workgroup: constant WG. */
  workgroup: number | ((s: Sizes<L>) => number);
  grid(s: Sizes<L> & PageGroup): Grid;
  /** The body: functions, and `main` with `@compute @workgroup_size(WG)`. */
  wgsl: string | ((s: Sizes<L> & PageGroup) => string);
  /** Private scratch that this pass writes; what it names and does not write is bound read-only. */
  writes?: readonly string[];
  /** Sizes at which it has something to do, where not all: a paged tensor's letter is its capacity. */
  when?(s: Sizes<L>): boolean;
  /** Dispatched this many times in a row, `params.step` counting from 0. */
  repeat?(s: Sizes<L>): number;
  /**
   * Dispatched for the pages of the kernel's paged binding, in groups of equal pages (`params.base`: the first slot of
   * the group, `params.pages`: how many pages it has). A kernel that writes pages gets one dispatch for each
   * page that the streams reach with this plan.
   */
  overPages?: boolean;
  /** A group has at most so many pages: every page of a group is compiled in. Default: as many as can be bound. */
  mostPages?: number;
}

/** A way to do a kernel's job. All variants share bindings, reference and cases. */
export interface Variant<L extends string = string> {
  /** Taken where nothing was measured: `cpu` on software adapters, `gpu` on others; `any` on both. */
  suits: "cpu" | "gpu" | "any";
  needs?: readonly GPUFeatureName[];
  /** Runs only where no other variant does: a way around what tiles of f32 need not. */
  fallback?: true;
  /** Sizes that it can run, where not all. */
  when?(s: Sizes<L>): boolean;
  /**
   * How its WGSL sees a binding or scratch, where not `f32` (rows) or `mat4x4f` (tiles). Tiles that are named here are f32, and
   * the body indexes them itself: it does not run where they are stored otherwise.
   */
  views?: Readonly<Record<string, View>>;
  /** Private f32 scratch between passes, shapes in letters; rows padded like any other tensor. */
  scratch?: Readonly<Record<string, readonly Axis<L>[]>>;
  passes: readonly Pass<L>[];
}

export interface Tolerance {
  /** Normalised mean squared error. */
  nmse: number;
  /** Largest |difference| as a share of the largest |reference|. */
  largest: number;
  reason: string;
}

export type Bindings<L extends string = string> = Readonly<Record<string, Binding<L>>>;
export type Arrays<B> = { readonly [K in keyof B]: ArrayOf<B[K]> };

export interface Kernel<L extends string = string, B extends Bindings<L> = Bindings<L>> {
  /** Same as the file and the export, with the options it was made with. */
  name: string;
  /** Integer sizes fixed when a plan is recorded: WGSL constants, part of the pipeline key. */
  consts: readonly L[];
  /** Real numbers fixed when a plan is recorded: f32 constants, part of the pipeline key. */
  scalars?: readonly L[];
  /** Integers constant within a recorded plan: in one uniform struct, never part of the key. */
  params?: readonly L[];
  bindings: B;
  /** By name. The first that suits the adapter is its default. */
  variants: Readonly<Record<string, Variant<L>>>;
  /** The plain meaning of the kernel, on dense arrays in logical order: the oracle of its tests. */
  reference(t: Arrays<B>, s: Sizes<L>): void;
  /** Floating-point operations, a multiply-add being two. */
  flops(s: Sizes<L>): number;
  /** Bytes moved, where it is not every binding once (twice for `update`); `each`: bytes of an element of a binding. */
  bytes?(s: Sizes<L>, each: (binding: keyof B) => number): number;
  /** Sizes under test: an odd one, and one that a model really uses. */
  cases: readonly Sizes<L>[];
  /** How tests fill an input, where uniform random numbers in [-1, 1) make no sense; `random` is such a source. */
  fill?: { readonly [K in keyof B]?: (s: Sizes<L>, random: () => number) => ArrayOf<B[K]> };
  tolerance?: Tolerance;
}

// biome-ignore lint/suspicious/noExplicitAny: a kernel whose letters are forgotten
export type AnyKernel = Kernel<any, any>;

/** Checks letters and tensors at compile time: a wrong letter or a reference that names an unbound tensor does not compile. */
export const defineKernel = <
  const C extends string,
  const B extends Bindings<NoInfer<C | F | P>>,
  const P extends string = never,
  const F extends string = never,
>(
  kernel: Omit<Kernel<NoInfer<C | F | P>, B>, "consts" | "scalars" | "params"> & {
    consts: readonly C[];
    scalars?: readonly F[];
    params?: readonly P[];
  },
): Kernel<C | F | P, B> => kernel as Kernel<C | F | P, B>;

const lettersOf = (axis: Axis<string>): readonly string[] =>
  typeof axis === "object" ? axis.letters : typeof axis === "string" ? [axis] : [];
const axisSize = (axis: Axis<string>, s: Sizes): number =>
  typeof axis === "number" ? axis : typeof axis === "string" ? s[axis]! : axis.size(s);
const axisText = (axis: Axis<string>): string => (typeof axis === "object" ? axis.text : `${axis}`);

/** A binding's shape in letters. */
export const shapeText = ({ shape }: Binding): string => `[${shape.map(axisText).join(", ")}]`;

/** The shape, type and layout that a binding (or a scratch) has at these sizes. */
export function bindingSpec(binding: Binding, s: Sizes): Spec {
  const { type, layout } = binding;
  const shape = binding.shape.map((axis) => axisSize(axis, s));
  const axis = binding.paged === undefined ? -1 : binding.shape.indexOf(binding.paged);
  return axis < 0 ? { shape, type, layout } : { shape, type, layout, pagedAxis: axis };
}

/** The letter along which what it binds is paged, if anything is. */
export const pagedLetter = (kernel: AnyKernel): string | undefined =>
  (Object.values(kernel.bindings) as Binding[]).find(({ paged }) => paged)?.paged;

/** A variant's private scratch as a binding. */
export const scratchBinding = (shape: readonly Axis<string>[], access: Access): Binding => ({
  access,
  type: "f32",
  shape,
  layout: "rows",
});

/** The variants that an adapter with these features can run at these sizes, by name, in order of declaration. */
export function eligible(kernel: AnyKernel, s: Sizes, features: ReadonlySet<string>): string[] {
  const able = Object.entries(kernel.variants).filter(
    ([, v]) => (v.needs ?? []).every((f) => features.has(f)) && (v.when?.(s) ?? true),
  );
  const preferred = able.filter(([, v]) => !v.fallback);
  return (preferred.length > 0 ? preferred : able).map(([name]) => name);
}

const stored = new WeakMap<AnyKernel, Map<string, AnyKernel>>();

/**
 * The same kernel over tiles that are stored otherwise, by binding. Throws ShapeError where it has no variant for them.
 */
export function storedAs(kernel: AnyKernel, types: Readonly<Record<string, StoredType>>): AnyKernel {
  const names = Object.keys(types).sort();
  if (names.length === 0) return kernel;
  const key = names.map((name) => `${name}=${types[name]}`).join(",");
  const made = memo(stored, kernel, () => new Map<string, AnyKernel>());
  return memo(made, key, () => {
    const bindings: Record<string, Binding> = { ...kernel.bindings };
    for (const name of names) bindings[name] = { ...bindings[name]!, type: types[name]! };
    const variants = Object.entries(kernel.variants).filter(([, { views }]) =>
      names.every((name) => views?.[name] === undefined),
    );
    if (variants.length === 0)
      throw new ShapeError(`${kernel.name}: no variant runs with ${key}, all want f32`);
    return { ...kernel, name: `${kernel.name}{${key}}`, bindings, variants: Object.fromEntries(variants) };
  });
}

/** The variant taken where nothing was measured. */
export function defaultVariant(
  kernel: AnyKernel,
  s: Sizes,
  features: ReadonlySet<string>,
  suits: "cpu" | "gpu",
): string {
  const names = eligible(kernel, s, features);
  const name = names.find((n) => [suits, "any"].includes(kernel.variants[n]!.suits)) ?? names[0];
  if (name === undefined)
    throw new Error(`${kernel.name}: no variant runs at ${describe(s)} on this adapter`);
  return name;
}

export const describe = (s: Sizes, between = ", "): string =>
  Object.entries(s)
    .map(([letter, n]) => `${letter}=${n}`)
    .join(between);

const named = (text: string, identifier: string): boolean => new RegExp(`\\b${identifier}\\b`).test(text);

export interface PassBinding {
  /** As WGSL names it: for a page, the binding's name and the page's number in its group. */
  identifier: string;
  /** The kernel's binding or the variant's scratch. */
  source: string;
  /** The page's number in its group. */
  page?: number;
  access: Access;
}

/** A pass as it is compiled: derived from kernel, variant and sizes, the same for every machine. */
export interface CompiledPass {
  code: string;
  params: readonly string[];
  bindings: readonly PassBinding[];
}

/** Names of the uniform struct's members for a pass: the kernel's params, then what the engine counts. */
const passParams = (kernel: AnyKernel, pass: Pass): string[] => [
  ...(kernel.params ?? []),
  ...(pass.repeat ? ["step"] : []),
  ...(pass.overPages ? ["base", "pages"] : []),
];

/** The constants and declarations in front of a pass's body, and what it binds, in binding order. */
export function compilePass(
  kernel: AnyKernel,
  variant: Variant,
  pass: Pass,
  s: Sizes,
  group?: PageGroup,
): CompiledPass {
  const sizes = { ...s, PAGE: 0, PAGES: 0, ...group };
  const body = typeof pass.wgsl === "string" ? pass.wgsl : pass.wgsl(sizes);
  const lines: string[] = [];
  if (variant.needs?.includes("subgroups")) lines.push("enable subgroups;");
  if (variant.needs?.includes("shader-f16")) lines.push("enable f16;");
  for (const c of kernel.consts) lines.push(`const ${c} = ${s[c]}u; const ${c}4 = ${ceilDiv(s[c]!, 4)}u;`);
  for (const c of kernel.scalars ?? []) lines.push(`const ${c} = ${f32Literal(s[c]!)};`);
  lines.push(`const WG = ${workgroupSize(pass, s)}u;`);
  if (group) lines.push(`const PAGE = ${group.PAGE}u; const PAGES = ${group.PAGES}u;`);

  const params = passParams(kernel, pass);
  let slot = 0;
  if (params.length > 0) {
    lines.push(`struct Params { ${params.map((p) => `${p}: u32`).join(", ")} }`);
    lines.push(`@group(0) @binding(${slot++}) var<uniform> params: Params;`);
  }
  const bindings: PassBinding[] = [];
  const accessors: string[] = [];
  const declare = (identifier: string, source: string, binding: Binding, page?: number) => {
    const functions = binding.layout === "tiles" ? tileFunctions(identifier, binding, sizes, body) : [];
    if (functions.length === 0 && !named(body, identifier)) return;
    const mode = binding.access === "read" ? "read" : "read_write";
    const view = variant.views?.[source] ?? viewOf(binding);
    accessors.push(...functions);
    lines.push(
      `@group(0) @binding(${slot++}) var<storage, ${mode}> ${identifier}: array<${view}${arraySize(kernel, binding, sizes, view)}>;` +
        `  // ${shapeText(binding)}`,
    );
    bindings.push({ identifier, source, access: binding.access, ...(page === undefined ? {} : { page }) });
  };
  for (const [name, binding] of Object.entries(kernel.bindings) as [string, Binding][]) {
    if (!binding.paged) declare(name, name, binding);
    else if (group)
      for (let page = 0; page < group.PAGES; page++) declare(`${name}${page}`, name, binding, page);
  }
  for (const [name, shape] of Object.entries(variant.scratch ?? {})) {
    declare(name, name, scratchBinding(shape, pass.writes?.includes(name) ? "update" : "read"));
  }
  lines.push(...accessors);
  // a flat grid past the limit of a dimension is folded into y
  lines.push(`fn workgroupIndex(wg: vec3u) -> u32 { return wg.y * ${MAX_GRID}u + wg.x; }`);
  return { code: `${lines.join("\n")}\n${body}`, params, bindings };
}

/** Where a variant does not say. */
const viewOf = ({ type, layout }: Binding): View =>
  type === "u32" ? "u32" : layout === "tiles" ? tileFormats[type].view : "f32";

/** Those of the functions over tiles that the body names. */
function tileFunctions(w: string, binding: Binding, s: Sizes, body: string): string[] {
  const format = tileFormats[binding.type as StoredType];
  const tiles = rowTiles(bindingSpec(binding, s));
  const functions = {
    ...format.read(w, tiles),
    ...(binding.access === "read" ? {} : format.write(w, tiles)),
  };
  const out = Object.entries(functions)
    .filter(([name]) => named(body, `${w}${name}`))
    .map(([name, text]) => `fn ${w}${name}${text}`);
  return named(body, `${w}_GROUP`) ? [`const ${w}_GROUP = ${format.group}u;`, ...out] : out;
}

export const workgroupSize = (pass: Pass, s: Sizes): number =>
  typeof pass.workgroup === "number" ? pass.workgroup : pass.workgroup(s);

/** A sized array is read faster than a runtime-sized one; letters that are not constants leave no choice. */
function arraySize(kernel: AnyKernel, binding: Binding, s: Sizes & PageGroup, view: View): string {
  const known = binding.shape
    .flatMap(lettersOf)
    .every((a) => a === binding.paged || kernel.consts.includes(a));
  if (!known) return "";
  const spec = bindingSpec(binding, binding.paged ? { ...s, [binding.paged]: s.PAGE } : s);
  const words = { f32: 1, u32: 1, vec4f: 4, vec4u: 4, mat4x4f: 16 }[view];
  return `, ${storedWords({ shape: spec.shape, type: spec.type, layout: spec.layout }) / words}`;
}

const f32Literal = (x: number): string => {
  if (!Number.isFinite(x)) throw new Error(`a scalar of a kernel must be finite, not ${x}`);
  const text = Math.fround(x).toString();
  return /[.e]/.test(text) ? `${text}f` : `${text}.0f`;
};

const MAX_GRID = 65535;

export function gridOf(grid: Grid): [number, number, number] {
  if (typeof grid === "number")
    return grid <= MAX_GRID ? [grid, 1, 1] : [MAX_GRID, ceilDiv(grid, MAX_GRID), 1];
  return [grid[0], grid[1], grid[2] ?? 1];
}

/** Constant within the life of a kernel at these sizes: sizes that are not params. */
export const constantsKey = (kernel: AnyKernel, s: Sizes): string =>
  `${kernel.name}(${[...kernel.consts, ...(kernel.scalars ?? [])].map((c) => `${c}=${s[c]}`).join(",")})`;

export interface Cost {
  flops: number;
  bytes: number;
}

/** FLOPs, and bytes that must move whatever the variant. */
export function cost(kernel: AnyKernel, s: Sizes): Cost {
  const each = (name: string) => elementBytes(kernel.bindings[name], s);
  let bytes = kernel.bytes?.(s, each as (name: string | number | symbol) => number);
  if (bytes === undefined) {
    bytes = 0;
    for (const b of Object.values(kernel.bindings) as Binding[]) {
      bytes += elementBytes(b, s) * elements(bindingSpec(b, s)) * (b.access === "update" ? 2 : 1);
    }
  }
  return { flops: kernel.flops(s), bytes };
}

/** Without padding; of int8 with its scales. */
function elementBytes(binding: Binding, s: Sizes): number {
  const { type, shape } = binding;
  if (type === "f32" || type === "u32") return 4;
  const columns = 4 * rowTiles({ shape: [axisSize(shape.at(-1)!, s)] });
  return storedBytes({ shape: [4, columns], type, layout: "tiles" }) / (4 * columns);
}
