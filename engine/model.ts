// What a model is: sizes, weights, state, scratch, and one forward over T >= 1 tokens. Nothing here knows which machine
// runs it.

import { CURSOR_COLUMNS, ID_RING } from "./cursor.ts";
import { UsageError } from "./errors.ts";
import type { Machine } from "./machine.ts";
import { formatBytes } from "./memory.ts";
import type { Recorder } from "./plan.ts";
import {
  type Category,
  elements,
  integers,
  pageSpec,
  roundUp,
  rows,
  type Spec,
  type Storage,
  storedBytes,
  type Tensor,
} from "./tensor.ts";

/** Reads a tensor of the checkpoint, in logical order; throws where the name or the shape is not what is wanted. */
export type ReadWeight = (name: string, shape: readonly number[]) => Promise<Float32Array>;

/** A weight and how it is made from the checkpoint's tensors (rows joined, a norm folded in, …). */
export interface Weight extends Spec {
  load(read: ReadWeight): Promise<Float32Array>;
}

/** What is carried from token to token. */
export interface Carried extends Spec {
  kind: "state" | "kv";
}

/** A carried tensor that a kernel cannot update in place: read as `now`, written as `next`, then the two change places. */
export interface Twin {
  twin: Carried;
}

export const weight = (spec: Spec, load: Weight["load"]): Weight => ({ ...spec, load });
export const state = (spec: Spec): Carried => ({ ...spec, kind: "state" });
export const kv = (spec: Spec): Carried => ({ ...spec, kind: "kv" });
/** Keys and values that grow by pages along `axis`, whose size in `spec.shape` is 0. */
export const pagedKv = (axis: number, spec: Spec): Carried => ({ ...spec, kind: "kv", pagedAxis: axis });
export const twin = (spec: Spec): Twin => ({ twin: state(spec) });

type Leaf = Spec | Twin;
// biome-ignore lint/suspicious/noExplicitAny: a tree of specs of any form
type Tree = any;

/** The tree of a declaration with a tensor in the place of each spec. */
export type Tensors<S> = S extends Twin
  ? { readonly now: Tensor; readonly next: Tensor }
  : S extends Spec
    ? Tensor
    : { readonly [K in keyof S]: Tensors<S[K]> };

/** What the session gives every forward. */
export interface Io {
  /** u32 [B, 8]: see engine/cursor.ts. */
  cursor: Tensor;
  /** u32 [B * T]: the chunk's token ids. */
  tokens: Tensor;
  /** u32 [64, B]: the ring of sampled ids. */
  ids: Tensor;
  /** f32 [B, D]: the hidden vector of each stream's last token. */
  last: Tensor;
  /** f32 [B, V]: the logits that follow each stream's last token. */
  logits: Tensor;
  /** f32 [B, T, V]: the logits at every position, where the session asks for them. */
  allLogits?: Tensor;
}

/** B streams of T tokens each. */
export interface Chunk {
  B: number;
  T: number;
}

export interface Architecture<C = Tree, W = Tree, S = Tree, X = Tree> {
  /** longtape's name for it: `llama`, `mamba`, … */
  name: string;
  /** Entries of the vocabulary: V. */
  vocabulary(c: C): number;
  /** Width of the hidden vector that the readout takes: D. */
  width(c: C): number;
  /** Tokens that a stream may hold at most, where the mathematics as implemented has an end. */
  longest?(c: C): number;
  weights(c: C): W;
  state(c: C, B: number): S;
  scratch(c: C, chunk: Chunk): X;
  /**
   * Consumes the chunk: reads `io.tokens`, brings the state up to date, and leaves `io.last` and `io.logits` (and
   * `io.allLogits` where given). Tokens past a stream's count change nothing that is carried.
   */
  forward(m: Recorder, c: C, t: { w: Tensors<W>; s: Tensors<S>; x: Tensors<X> }, io: Io, chunk: Chunk): void;
  /** Draws a token a stream from `io.logits` into `io.tokens` and `io.ids`. */
  sample(m: Recorder, io: Io, sizes: { B: number; V: number; greedy: boolean }): void;
  /** Moves the cursor past what was consumed: the last op of every plan. */
  advance(m: Recorder, io: Io, chunk: Chunk): void;
}

/** Checks the forward against the tensors that it declares, then forgets their types. */
export const defineArchitecture = <C, W, S, X>(
  architecture: Architecture<C, W, S, X>,
): Architecture<C, W, S, X> => architecture;

/** Specs and twins of a declaration, and the tensors that take their place. */
const isLeaf = (node: Tree): node is Leaf =>
  Array.isArray(node.shape) || node.twin !== undefined || Array.isArray(node.storages);

/** Replaces every leaf of a declaration; `path` names it, for labels and errors. */
export function mapTree(tree: Tree, visit: (leaf: Tree, path: string) => unknown, path = ""): Tree {
  if (isLeaf(tree)) return visit(tree, path);
  if (Array.isArray(tree)) return tree.map((node, i) => mapTree(node, visit, `${path}.${i}`));
  const entries = Object.entries(tree).map(([key, node]) => [
    key,
    mapTree(node, visit, path ? `${path}.${key}` : key),
  ]);
  return Object.fromEntries(entries);
}

export function leaves<T>(tree: Tree): [path: string, leaf: T][] {
  const out: [string, T][] = [];
  mapTree(tree, (leaf, path) => out.push([path, leaf as T]));
  return out;
}

/** Offsets of bindings are multiples of this on every adapter (minStorageBufferOffsetAlignment's default). */
const ALIGNMENT = 256;
/** Tensors share buffers up to this size: drivers round small buffers up, and limit their number. */
const SLAB_BYTES = 256 * 2 ** 20;

/** Lays specs one after the other into as few storages as SLAB_BYTES allows. */
export class Slabs {
  readonly category: Category;
  readonly label: string;
  readonly #tensors: { label: string; spec: Spec; slab: number; offset: number }[] = [];
  readonly #sizes: number[] = [];

  constructor(category: Category, label: string) {
    this.category = category;
    this.label = label;
  }

  /** Returns the tensor's number. */
  add(label: string, spec: Spec): number {
    const bytes = storedBytes(spec);
    let slab = this.#sizes.length - 1;
    if (slab < 0 || roundUp(this.#sizes[slab]!, ALIGNMENT) + bytes > SLAB_BYTES)
      slab = this.#sizes.push(0) - 1;
    const offset = roundUp(this.#sizes[slab]!, ALIGNMENT);
    this.#sizes[slab] = offset + bytes;
    return this.#tensors.push({ label, spec, slab, offset }) - 1;
  }

  close(): { tensors: Tensor[]; storages: Storage[] } {
    const { category } = this;
    const storages = this.#sizes.map(
      (bytes, i): Storage => ({ category, label: `${this.label} ${i}`, bytes }),
    );
    const tensors = this.#tensors.map(({ label, spec, slab, offset }) => ({
      label,
      spec,
      offset,
      storages: [storages[slab]!],
    }));
    return { tensors, storages };
  }
}

/** Lays a tree of specs into slabs and gives the tree of tensors. */
export function layTree(
  tree: Tree,
  category: Category,
  label: string,
): { tensors: Tree; storages: Storage[] } {
  const slabs = new Slabs(category, label);
  const numbers = mapTree(tree, (leaf, path) => ({ shape: [], number: slabs.add(path, leaf as Spec) }));
  const closed = slabs.close();
  return { tensors: mapTree(numbers, (leaf) => closed.tensors[leaf.number]), storages: closed.storages };
}

/** A loaded model: an architecture, its configuration, and weights on a machine. */
export interface Model<C = Tree> {
  readonly architecture: Architecture<C>;
  readonly config: C;
  readonly machine: Machine;
  readonly weights: Tree;
  readonly storages: readonly Storage[];
  /** Numbers in the checkpoint's tensors, each counted once. */
  readonly parameters: number;
  destroy(): void;
}

export interface LoadProgress {
  /** The weight just loaded. */
  name: string;
  done: number;
  of: number;
}

/**
 * Puts an architecture's weights on a machine, tensor by tensor, none held twice.
 * Throws OutOfMemoryError, or what `read` throws; then nothing is left allocated.
 */
export async function loadModel<C>(
  machine: Machine,
  architecture: Architecture<C>,
  config: C,
  read: ReadWeight,
  onProgress?: (progress: LoadProgress) => void,
): Promise<Model<C>> {
  const declared = architecture.weights(config);
  const { tensors, storages } = layTree(declared, "weights", architecture.name);
  await machine.allocate(storages);
  let parameters = 0;
  const counted = new Set<string>();
  const counting: ReadWeight = async (name, shape) => {
    const data = await read(name, shape);
    if (!counted.has(name)) parameters += data.length;
    counted.add(name);
    return data;
  };
  try {
    const weights = leaves<Weight>(declared);
    const places = leaves<Tensor>(tensors);
    for (const [i, [name, declaration]] of weights.entries()) {
      const data = await declaration.load(counting);
      if (data.length !== elements(declaration)) {
        throw new UsageError(
          `${name}: ${data.length} elements were loaded, [${declaration.shape.join(", ")}] needs ${elements(declaration)}`,
        );
      }
      machine.write(places[i]![1], data);
      onProgress?.({ name, done: i + 1, of: weights.length });
    }
  } catch (error) {
    machine.free(storages);
    throw error;
  }
  const destroy = () => machine.free(storages);
  return { architecture, config, machine, weights: tensors, storages, parameters, destroy };
}

/** A tensor that grows by pages. */
export class PagedTensor implements Tensor {
  readonly label: string;
  readonly offset = 0;
  readonly storages: Storage[] = [];
  readonly pages: number[] = [];
  readonly #spec: Spec;

  constructor(label: string, spec: Spec) {
    this.label = label;
    this.#spec = spec;
  }

  /** Slots that the pages hold. */
  get capacity(): number {
    return this.pages.reduce((a, b) => a + b, 0);
  }

  get spec(): Spec {
    const axis = this.#spec.pagedAxis!;
    return { ...this.#spec, shape: this.#spec.shape.map((n, i) => (i === axis ? this.capacity : n)) };
  }

  pageStorage(slots: number): Storage {
    return {
      category: "kv",
      label: `${this.label} page ${this.pages.length}`,
      bytes: storedBytes(pageSpec(this.spec, slots)),
    };
  }
}

/** The carried tensors of B streams. */
export interface CarriedTensors {
  /** The tree for `forward`, for either side of the twins. */
  tree(parity: 0 | 1): Tree;
  readonly paged: readonly PagedTensor[];
  /** In place: state and rings. */
  readonly fixed: readonly Storage[];
  /** The two sides of the twins, `now` at parity 0 first; empty where nothing ping-pongs. */
  readonly sides: readonly [readonly Storage[], readonly Storage[]];
  /** Every unpaged tensor as it stands at a parity, by path. */
  tensors(parity: 0 | 1): [path: string, tensor: Tensor][];
}

export function layState(architecture: Architecture, config: unknown, B: number): CarriedTensors {
  const declared = architecture.state(config, B);
  const slabs = {
    state: new Slabs("state", "state"),
    kv: new Slabs("kv", "ring"),
    now: new Slabs("state", "twins"),
    next: new Slabs("scratch", "twins, other side"),
  };
  const paged: PagedTensor[] = [];
  // each leaf is first a thunk: slabs give tensors only when all are in
  const thunks = mapTree(declared, (leaf: Tree, path) => {
    const spec: Carried = leaf.twin ?? leaf;
    if (leaf.twin) {
      const numbers = [slabs.now.add(path, spec), slabs.next.add(path, spec)] as const;
      return {
        shape: [],
        at: (sides: Tensor[][], parity: 0 | 1) => ({
          now: sides[parity]![numbers[parity]]!,
          next: sides[1 - parity]![numbers[1 - parity]!]!,
        }),
      };
    }
    if (spec.pagedAxis !== undefined) {
      const tensor = new PagedTensor(path, spec);
      paged.push(tensor);
      return { shape: [], at: () => tensor };
    }
    const number = slabs[spec.kind].add(path, spec);
    return {
      shape: [],
      at: (_: Tensor[][], __: 0 | 1, fixed: Record<"state" | "kv", Tensor[]>) => fixed[spec.kind][number]!,
    };
  });
  const closed = {
    state: slabs.state.close(),
    kv: slabs.kv.close(),
    now: slabs.now.close(),
    next: slabs.next.close(),
  };
  const sides = [closed.now.tensors, closed.next.tensors];
  const fixed = { state: closed.state.tensors, kv: closed.kv.tensors };
  const tree = (parity: 0 | 1) => mapTree(thunks, (leaf) => leaf.at(sides, parity, fixed));
  return {
    tree,
    paged,
    fixed: [...closed.state.storages, ...closed.kv.storages],
    sides: [closed.now.storages, closed.next.storages],
    tensors(parity) {
      const out: [string, Tensor][] = [];
      mapTree(thunks, (leaf, path) => {
        const at = leaf.at(sides, parity, fixed);
        const tensor: Tensor = at.now ?? at;
        if (!tensor.pages) out.push([path, tensor]);
      });
      return out;
    },
  };
}

/** The session's own tensors for chunks of up to T tokens; views at smaller T share their storages. */
export function layIo(
  architecture: Architecture,
  config: unknown,
  { B, T }: Chunk,
  allLogits: boolean,
): { storages: Storage[]; view(T: number): Io } {
  const V = architecture.vocabulary(config);
  const D = architecture.width(config);
  const make = (label: string, spec: Spec): Tensor => ({
    label,
    spec,
    offset: 0,
    storages: [{ category: "scratch", label, bytes: storedBytes(spec) }],
  });
  const fixed = {
    cursor: make("cursor", integers(B, CURSOR_COLUMNS)),
    ids: make("ids", integers(ID_RING, B)),
    last: make("last", rows(B, D)),
    logits: make("logits", rows(B, V)),
  };
  const tokens = make("tokens", integers(B * T));
  const all = allLogits ? make("all logits", rows(B, T, V)) : undefined;
  return {
    storages: [...Object.values(fixed), tokens, ...(all ? [all] : [])].flatMap((t) => t.storages),
    view: (t) => ({
      ...fixed,
      tokens: { ...tokens, spec: integers(B * t) },
      ...(all ? { allLogits: { ...all, spec: rows(B, t, V) } } : {}),
    }),
  };
}

/** A forward's scratch for the chunk sizes given: one storage a name, as large as the largest. */
export function layScratch(
  architecture: Architecture,
  config: unknown,
  B: number,
  chunks: readonly number[],
): { storages: Storage[]; view(T: number): Tree } {
  const bytes = new Map<string, number>();
  for (const T of chunks) {
    for (const [path, spec] of leaves<Spec>(architecture.scratch(config, { B, T }))) {
      bytes.set(path, Math.max(bytes.get(path) ?? 0, storedBytes(spec)));
    }
  }
  const storages = new Map(
    [...bytes].map(([label, n]) => [label, { category: "scratch", label, bytes: n } satisfies Storage]),
  );
  return {
    storages: [...storages.values()],
    view: (T) =>
      mapTree(
        architecture.scratch(config, { B, T }),
        (spec: Spec, path): Tensor => ({ label: path, spec, offset: 0, storages: [storages.get(path)!] }),
      ),
  };
}

/** The largest weight must fit a binding. Throws UsageError naming it. */
export function checkBindings(architecture: Architecture, config: unknown, maxBindingBytes: number): void {
  for (const [path, spec] of leaves<Spec>(architecture.weights(config))) {
    if (storedBytes(spec) > maxBindingBytes) {
      throw new UsageError(
        `${path} [${spec.shape.join(", ")}] takes ${formatBytes(storedBytes(spec))}, this adapter binds at most ${formatBytes(maxBindingBytes)} at once`,
      );
    }
  }
}
