// What a session holds, laid out: state, cache, scratch and the session's own tensors as views of storages, and the plans
// over them. Pure: nothing is allocated here.

import { CURSOR_COLUMNS, ID_RING } from "./cursor.ts";
import {
  type Architecture,
  type Carried,
  type Chunk,
  type Io,
  type Kept,
  leaves,
  mapTree,
  type Tree,
} from "./model.ts";
import { PagedTensor } from "./pages.ts";
import { type Op, type Plan, record } from "./plan.ts";
import {
  type Category,
  integers,
  roundUp,
  rows,
  type Spec,
  type Storage,
  storedBytes,
  type Tensor,
} from "./tensor.ts";

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

/** The carried tensors of B streams. */
export interface CarriedTensors {
  /** The tree for `forward`, for either side of the twins. */
  tree(parity: 0 | 1): Tree;
  readonly paged: readonly PagedTensor[];
  /** Keys and values, in pages and in rings. */
  readonly kv: readonly Kept[];
  /** In place: state and rings. */
  readonly fixed: readonly Storage[];
  /** The two sides of the twins, `now` at parity 0 first; empty where nothing ping-pongs. */
  readonly sides: readonly [readonly Storage[], readonly Storage[]];
  /** Every unpaged tensor as it stands at a parity, by path. */
  tensors(parity: 0 | 1): [path: string, tensor: Tensor][];
}

/** A tensor, once slabs are closed. */
type At = (sides: Tensor[][], parity: 0 | 1, fixed: Record<"state" | "kv", Tensor[]>) => Tensor;

function layState(architecture: Architecture, config: unknown, B: number): CarriedTensors {
  const declared = architecture.state(config, B);
  const slabs = {
    state: new Slabs("state", "state"),
    kv: new Slabs("kv", "ring"),
    now: new Slabs("state", "twins"),
    next: new Slabs("scratch", "twins, other side"),
  };
  const paged: PagedTensor[] = [];
  const kept: { at: At; sinks: number }[] = [];
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
    let at: At;
    if (spec.pagedAxis !== undefined) {
      const tensor = new PagedTensor(path, spec);
      paged.push(tensor);
      at = () => tensor;
    } else {
      const number = slabs[spec.kind].add(path, spec);
      at = (_, __, fixed) => fixed[spec.kind][number]!;
    }
    if (spec.kind === "kv") kept.push({ at, sinks: spec.sinks ?? 0 });
    return { shape: [], at };
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
    kv: kept.map(({ at, sinks }) => ({ tensor: at([], 0, fixed), sinks })),
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
function layIo(
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
function layScratch(
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

/** A session's tensors and plans. */
export interface SessionLayout {
  readonly carried: CarriedTensors;
  readonly io: { readonly storages: readonly Storage[]; view(T: number): Io };
  readonly scratch: readonly Storage[];
  /** One token a stream, drawn first; a plan for each side of the twins. */
  readonly greedy: readonly Plan[];
  readonly sampled: readonly Plan[];
  /** By the chunk's tokens. */
  readonly prefill: ReadonlyMap<number, readonly Plan[]>;
  /** Random keys and values: run once and again, so that a session keeps no room for it. */
  readonly fill: Plan;
}

export interface SessionSize extends Omit<Chunk, "T"> {
  /** Largest chunk. */
  chunk: number;
  allLogits: boolean;
}

/** Lays out a session of B streams over weights that are laid out already. Throws ShapeError for a forward that is wrong. */
export function laySession(
  architecture: Architecture,
  config: unknown,
  weights: Tree,
  { B, chunk, allLogits }: SessionSize,
): SessionLayout {
  // few sizes: each is a set of pipelines to compile
  const sizes = [...new Set([chunk, 64, 8, 1])].filter((T) => T <= chunk);
  const carried = layState(architecture, config, B);
  const io = layIo(architecture, config, { B, T: chunk }, allLogits);
  const scratch = layScratch(architecture, config, B, sizes);
  const V = architecture.vocabulary(config);
  const plans = (label: string, T: number, sample?: { greedy: boolean }) =>
    parities(carried).map((parity) =>
      record(`${label} ${T}`, (m) => {
        const full = io.view(T);
        // only prefill fills the logits of every position
        const { allLogits: _, ...step } = full;
        if (sample) architecture.sample(m, step, { B, V, ...sample });
        const t = { w: weights, s: carried.tree(parity), x: scratch.view(T) };
        architecture.forward(m, config, t, sample ? step : full, { B, T });
        architecture.advance(m, step, { B, T });
      }),
    );
  return {
    carried,
    io,
    scratch: scratch.storages,
    greedy: plans("step", 1, { greedy: true }),
    sampled: plans("sampled step", 1, { greedy: false }),
    prefill: new Map(sizes.map((T) => [T, plans("prefill", T)])),
    fill: record("fill", (m) => architecture.fillCache(m, carried.kv, io.view(1), { B })),
  };
}

/** The chunk that takes `left` tokens with the least work: padding up to half a chunk beats a second run. */
export function chunkFor({ prefill }: SessionLayout, left: number): number {
  const sizes = [...prefill.keys()].sort((a, b) => a - b);
  return sizes.find((T) => T >= left && left > T / 2) ?? sizes.filter((T) => T <= left).at(-1)!;
}

const parities = (carried: CarriedTensors): readonly (0 | 1)[] =>
  carried.sides[0].length > 0 ? [0, 1] : [0];

/** The uses of kernels that sessions of this architecture make most, steps and whole chunks: what a race is run over. */
export function contests(
  architecture: Architecture,
  config: unknown,
  size: Omit<SessionSize, "allLogits">,
): readonly Op[] {
  const { tensors } = layTree(architecture.weights(config), "weights", architecture.name);
  const { greedy, sampled, prefill } = laySession(architecture, config, tensors, {
    ...size,
    allLogits: false,
  });
  return [...greedy, ...sampled, ...prefill.get(size.chunk)!].flatMap((plan) => plan.ops);
}
