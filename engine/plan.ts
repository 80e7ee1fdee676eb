// From a model's forward to a list of dispatches. Pure: shared by the GPU machine, which encodes them, and the ledger,
// which counts them.

import { ShapeError } from "./errors.ts";
import {
  type Access,
  type AnyKernel,
  type Binding,
  type Bindings,
  bindingSpec,
  type CompiledPass,
  compilePass,
  constantsKey,
  describe,
  gridOf,
  type Kernel,
  type PageGroup,
  type Pass,
  type Sizes,
  scratchBinding,
  shapeText,
  storedAs,
  type Variant,
} from "./kernel.ts";
import { memo } from "./memo.ts";
import { pageSpec, product, type Spec, type Storage, storedBytes, type Tensor } from "./tensor.ts";
import type { StoredType } from "./tiles.ts";

/** One use of a kernel. */
export interface Op {
  readonly kernel: AnyKernel;
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly sizes: Sizes;
}

/** What a model is written against. */
export interface Recorder {
  run<L extends string, B extends Bindings<L>>(
    kernel: Kernel<L, B>,
    tensors: { readonly [K in keyof B]: Tensor },
    sizes: Sizes<NoInfer<L>>,
  ): void;
}

/** What is run again and again: the ops of one forward, in order. */
export interface Plan {
  readonly label: string;
  readonly ops: readonly Op[];
}

/** Records what `forward` runs; every tensor is checked against its binding's shape, type and layout. Tiles may be stored as any type. */
export function record(label: string, forward: (m: Recorder) => void): Plan {
  const ops: Op[] = [];
  forward({
    run(kernel, tensors, sizes) {
      const op: Op = { kernel: asStored(kernel, tensors), tensors, sizes };
      check(op);
      ops.push(op);
    },
  });
  return { label, ops };
}

function asStored(kernel: AnyKernel, tensors: Readonly<Record<string, Tensor>>): AnyKernel {
  const types: Record<string, StoredType> = {};
  for (const [name, binding] of Object.entries(kernel.bindings) as [string, Binding][]) {
    const type = tensors[name]?.spec.type;
    if (type && type !== "u32" && type !== binding.type && binding.layout === "tiles") types[name] = type;
  }
  return storedAs(kernel, types);
}

/** The paged tensor of an op, if it has one. */
export function pagedTensor(
  op: Op,
): { name: string; letter: string; binding: Binding; tensor: Tensor } | undefined {
  for (const [name, binding] of Object.entries(op.kernel.bindings) as [string, Binding][]) {
    if (binding.paged) return { name, letter: binding.paged, binding, tensor: op.tensors[name]! };
  }
  return undefined;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

/** An op's sizes, with the letter of a paged tensor standing for its capacity as it is now. */
export function currentSizes(op: Op): Sizes {
  const page = pagedTensor(op);
  return page ? { ...op.sizes, [page.letter]: sum(page.tensor.pages ?? []) } : op.sizes;
}

function check(op: Op): void {
  const { kernel, tensors, sizes } = op;
  for (const [name, binding] of Object.entries(kernel.bindings) as [string, Binding][]) {
    const tensor = tensors[name];
    if (!tensor) throw new ShapeError(`${kernel.name}: ${name} is not bound`);
    const wanted = bindingSpec(binding, { ...sizes, ...(binding.paged ? { [binding.paged]: 0 } : {}) });
    const found = tensor.spec;
    // what lies before the letters that the layout pads may be split in any way: [B, T, D] fits [M, D]
    const padded = wanted.type === "u32" ? 0 : wanted.layout === "tiles" ? 2 : 1;
    const tail = (s: Spec) => s.shape.slice(s.shape.length - padded).join();
    const fits = binding.paged
      ? found.pagedAxis !== undefined &&
        found.shape.every((n, a) => a === found.pagedAxis || n === wanted.shape[a])
      : product(found.shape) === product(wanted.shape) && tail(found) === tail(wanted);
    if (!fits || found.type !== wanted.type || found.layout !== wanted.layout) {
      throw new ShapeError(
        `${kernel.name}(${describe(sizes)}): ${name} is ${spelled(found)} (${tensor.label}), ${shapeText(binding)} wants ${spelled(wanted)}`,
      );
    }
  }
}

const spelled = (s: Spec): string => `${s.type}[${s.shape.join(", ")}] in ${s.layout}`;

/** The absolute positions [first, last] that the streams write in the next run of a plan. */
export interface Reach {
  first: number;
  last: number;
}

export interface BoundStorage {
  storage: Storage;
  offset: number;
  bytes: number;
  access: Access;
}

/** A dispatch, ready to be encoded. */
export interface Dispatch {
  kernel: string;
  /** Pipelines with equal keys are the same. */
  key: string;
  pass: CompiledPass;
  bindings: readonly BoundStorage[];
  grid: readonly [number, number, number];
  /** Values of the uniform struct, or none. */
  params: readonly number[];
}

/** WebGPU's default limit: no pass binds more. */
const STORAGE_BUFFERS = 8;

const compiled = new Map<string, CompiledPass>();

/** Bytes of private scratch that a variant needs at these sizes, one entry a scratch in order of declaration. */
export const scratchBytes = (variant: Variant, s: Sizes): number[] =>
  Object.values(variant.scratch ?? {}).map((shape) =>
    storedBytes(bindingSpec(scratchBinding(shape, "update"), s)),
  );

/**
 * The dispatches of an op. `scratch` holds the storages of its variant's private scratch.
 * Throws ShapeError where a pass binds more than the default limit of storage buffers.
 */
export function expand(op: Op, variantName: string, scratch: readonly Storage[], reach: Reach): Dispatch[] {
  const { kernel } = op;
  const variant = kernel.variants[variantName]! as Variant;
  const s = currentSizes(op);
  const scratchNames = Object.keys(variant.scratch ?? {});
  const out: Dispatch[] = [];

  const emit = (
    pass: Pass,
    index: number,
    step: number,
    group?: PageGroup & { base: number; real: readonly number[] },
  ) => {
    const consts = group ? `,PAGE=${group.PAGE},PAGES=${group.PAGES}` : "";
    const key = `${constantsKey(kernel, s)}/${variantName}/${index}${consts}`;
    const code = memo(compiled, key, () => compilePass(kernel, variant, pass, s, group));
    if (code.bindings.length > STORAGE_BUFFERS) {
      throw new ShapeError(
        `${key}: the pass binds ${code.bindings.length} storage buffers, the limit is ${STORAGE_BUFFERS}`,
      );
    }
    const bindings = code.bindings.map(({ source, page, access }): BoundStorage => {
      const at = scratchNames.indexOf(source);
      if (at >= 0) {
        const bytes = storedBytes(bindingSpec(scratchBinding(variant.scratch![source]!, access), s));
        return { storage: scratch[at]!, offset: 0, bytes, access };
      }
      const tensor = op.tensors[source]!;
      if (page === undefined)
        return {
          storage: tensor.storages[0]!,
          offset: tensor.offset,
          bytes: storedBytes(tensor.spec),
          access,
        };
      // bindings past the group's real pages repeat the last one: one pipeline serves every length
      const number = group!.real[Math.min(page, group!.real.length - 1)]!;
      return {
        storage: tensor.storages[number]!,
        offset: 0,
        bytes: storedBytes(pageSpec(tensor.spec, group!.PAGE)),
        access,
      };
    });
    const values: Record<string, number> = {
      ...s,
      step,
      base: group?.base ?? 0,
      pages: group?.real.length ?? 0,
    };
    out.push({
      kernel: kernel.name,
      key,
      pass: code,
      bindings,
      grid: gridOf(pass.grid({ ...s, PAGE: group?.PAGE ?? 0, PAGES: group?.real.length ?? 0 })),
      params: code.params.map((p) => values[p]!),
    });
  };

  variant.passes.forEach((pass, index) => {
    if (pass.when && !pass.when(s)) return;
    const steps = pass.repeat?.(s) ?? 1;
    for (let step = 0; step < steps; step++) {
      if (!pass.overPages) emit(pass, index, step);
      else for (const group of pageGroups(op, variant, pass, s, reach)) emit(pass, index, step, group);
    }
  });
  return out;
}

/** Readers see all pages, as many a dispatch as can be bound; writers see the pages that the streams reach, one by one. */
function pageGroups(op: Op, variant: Variant, pass: Pass, s: Sizes, reach: Reach) {
  const { binding, tensor, name } = pagedTensor(op)!;
  const pages = tensor.pages ?? [];
  const one = compilePass(op.kernel, variant, pass, s, { PAGE: 4, PAGES: 1 });
  const others = one.bindings.filter((b) => b.source !== name).length;
  const bindable = STORAGE_BUFFERS - others;
  const most = binding.access === "read" ? Math.min(bindable, pass.mostPages ?? bindable) : 1;
  const groups: (PageGroup & { base: number; real: number[] })[] = [];
  let base = 0;
  pages.forEach((slots, number) => {
    const last = groups.at(-1);
    const touched = base <= reach.last && base + slots > reach.first;
    if (binding.access === "read" && last && last.PAGE === slots && last.real.length < most)
      last.real.push(number);
    else if (binding.access === "read" || touched)
      groups.push({ PAGE: slots, PAGES: most, base, real: [number] });
    base += slots;
  });
  return groups;
}
