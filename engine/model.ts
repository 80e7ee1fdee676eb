// What a model is: sizes, weights, state, scratch, and one forward over T >= 1 tokens. Nothing here knows which machine
// runs it.

import type { Machine } from "./machine.ts";
import type { Recorder } from "./plan.ts";
import { type Spec, type Storage, type Tensor, withType } from "./tensor.ts";
import type { StoredType } from "./tiles.ts";

/** Reads a tensor of the checkpoint, in logical order; throws where the name or the shape is not what is wanted. */
export type ReadWeight = (name: string, shape: readonly number[]) => Promise<Float32Array>;

/** A weight and how it is made from the checkpoint's tensors (rows joined, a norm folded in, …). */
export interface Weight extends Spec {
  load(read: ReadWeight): Promise<Float32Array>;
}

/** What is carried from token to token. */
export interface Carried extends Spec {
  kind: "state" | "kv";
  /** Of a ring: the stream's first tokens, which it keeps for good before those of the window. */
  sinks?: number;
}

/** A carried tensor that a kernel cannot update in place: read as `now`, written as `next`, then the two change places. */
export interface Twin {
  twin: Carried;
}

export const weight = (spec: Spec, load: Weight["load"]): Weight => ({ ...spec, load });
export const state = (spec: Spec): Carried => ({ ...spec, kind: "state" });
export const kv = (spec: Spec, sinks = 0): Carried => ({ ...spec, kind: "kv", sinks });
/** Keys and values that grow by pages along `axis`, whose size in `spec.shape` is 0. */
export const pagedKv = (axis: number, spec: Spec): Carried => ({ ...spec, kind: "kv", pagedAxis: axis });
export const twin = (spec: Spec): Twin => ({ twin: state(spec) });

type Leaf = Spec | Twin;
// biome-ignore lint/suspicious/noExplicitAny: a tree of specs of any form
export type Tree = any;

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

/** Keys and values: pages, or a ring with this many sinks before it. */
export interface Kept {
  tensor: Tensor;
  sinks: number;
}

/** B streams of T tokens each. */
export interface Chunk {
  B: number;
  T: number;
}

export interface Architecture<C = Tree, W = Tree, S = Tree, X = Tree> {
  /** longtape's name for it: `llama`, `mamba`, … */
  name: string;
  /** How matrices and caches are stored, where not as f32. */
  types?: Types;
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
  /**
   * Fills the positions from each stream's own to its count further on with random keys and values of its seed: in all that
   * the state declares as `kv`, in order.
   */
  fillCache(m: Recorder, kv: readonly Kept[], io: Io, sizes: { B: number }): void;
}

/** Element types of what a model holds in tiles; all else, and all arithmetic, is f32. */
export interface Types {
  /** Of the matrices among its weights. */
  readonly dtype: StoredType;
  /** Of keys and values. */
  readonly cacheType: StoredType;
}

/** The same architecture with its matrices, keys and values stored as these types. Recurrent state stays f32. */
export const withTypes = (architecture: Architecture, types: Types): Architecture => ({
  ...architecture,
  types,
  weights: (c) => mapTree(architecture.weights(c), (weight: Weight) => withType(weight, types.dtype)),
  state: (c, B) =>
    mapTree(architecture.state(c, B), (leaf: Carried | Twin) =>
      "twin" in leaf || leaf.kind !== "kv" ? leaf : withType(leaf, types.cacheType),
    ),
});

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

/** A loaded model: an architecture, its configuration, and weights on a machine. */
export interface Model<C = Tree> {
  readonly architecture: Architecture<C>;
  readonly config: C;
  readonly machine: Machine;
  readonly weights: Tree;
  readonly storages: readonly Storage[];
  /** Numbers in the checkpoint's tensors, each counted once. */
  readonly parameters: number;
  /** 16 hex digits: architecture, configuration and weights. Two models with the same are the same. */
  readonly hash: string;
  destroy(): void;
}
