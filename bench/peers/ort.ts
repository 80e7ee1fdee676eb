// onnxruntime-web: our models as ONNX graphs, on its WebGPU build or on WebAssembly. A graph of one token takes steps; a
// prompt runs in one of any length, or, where a recurrence has no operator, in unrolled runs of a few tokens. Its graph
// capture wants the same buffers in every run and nothing from the CPU: states alternate, and attention takes its lengths there.

import type * as Ort from "onnxruntime-web";
import type { Opened } from "./index.ts";
import { encodeModel } from "./onnx.ts";
import { exportGraph, type OnnxGraph, type StateSpec, TokensWanted } from "./onnxGraph.ts";
import { type Peer, type PeerModel, type Saved, Unsupported } from "./peer.ts";

type Kind = "webgpu" | "wasm";

/** Tokens of an unrolled run: more make a graph that takes long to load, and on a GPU each binds a buffer of its own. */
const unrolledOn = (device: GPUDevice | null): number =>
  Math.min(16, (device?.limits.maxStorageBuffersPerShaderStage ?? 18) - 2);

/** Tokens of a run where longer ones are wrong. */
const SHORT_PROMPT = 16;

/** Operators without a WebGPU kernel, which elementwise ones stand in for: on the CPU each would cost copies there and back. */
const LACKS: Record<Kind, ReadonlySet<string>> = {
  webgpu: new Set(["RNN", "Softplus"]),
  wasm: new Set(),
};

/** Throws what the runtime throws where it cannot start. */
export async function openOrt(kind: Kind): Promise<Opened> {
  const heap = watchHeap(kind);
  const threads = kind === "wasm" ? threadsHere() : 1;
  const ort = await hearing(async () => {
    const found = await imported(kind);
    found.env.wasm.numThreads = threads;
    // the first session makes the device and the heap, and the last takes the device with it: this one is never released
    await found.InferenceSession.create(probeGraph(), options(kind));
    return found;
  });
  const device = kind === "webgpu" ? await ort.env.webgpu.device : null;
  return {
    peer: new OrtPeer(ort, kind, { device, heap: heap(), threads }),
    version: ort.env.versions.web ?? "",
  };
}

const NODE_BUILD = "onnxruntime-web";

async function imported(kind: Kind): Promise<typeof Ort> {
  // Node's build is the WebAssembly one; pages and their workers, which have an address, must not fetch it
  if (globalThis.location === undefined) return import(/* @vite-ignore */ NODE_BUILD);
  return kind === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm");
}

const threadsHere = (): number => (globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1);

const options = (kind: Kind): Ort.InferenceSession.SessionOptions => ({
  executionProviders: [kind],
  graphOptimizationLevel: "all",
  // 3: errors
  logSeverityLevel: 3,
});

/**
 * In WebAssembly `Scan` was 1.1 to 1.4 times as fast as unrolled runs. On WebGPU it runs on the CPU, with copies there and back, and
 * unrolled runs were up to 1.3 times as fast.
 */
const SCANS: Record<Kind, boolean> = { webgpu: false, wasm: true };

/** A cache has room for the whole context from the start where one buffer can be past and present in one. */
interface Session {
  session: Ort.InferenceSession;
  graph: OnnxGraph;
  /** Tokens of a run; null: any. */
  tokens: number | null;
}

type States = ReadonlyMap<string, Ort.Tensor>;
interface Standing {
  states: States;
  id: number;
  logits: Ort.Tensor | null;
  position: number;
}

class OrtPeer implements Peer {
  readonly settings: string;
  readonly device: GPUDevice | null;
  readonly #ort: typeof Ort;
  readonly #kind: Kind;
  readonly #heap: WebAssembly.Memory | null;
  #step: Session | null = null;
  #prompt: Session | null = null;
  #model: PeerModel | null = null;
  #fallbacks: string[] = [];
  /** Buffers that are past and present in one. */
  #caches = new Map<string, Ort.Tensor>();
  #now: Standing = { states: new Map(), id: 0, logits: null, position: 0 };
  #marked: Standing | null = null;

  constructor(
    ort: typeof Ort,
    kind: Kind,
    { device, heap, threads }: { device: GPUDevice | null; heap: WebAssembly.Memory | null; threads: number },
  ) {
    this.#ort = ort;
    this.#kind = kind;
    this.#heap = heap;
    this.device = device;
    this.settings =
      kind === "webgpu"
        ? "execution provider webgpu, states and logits in GPU buffers, the id read back"
        : `execution provider wasm, SIMD, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  }

  async load(model: PeerModel): Promise<void> {
    this.#model = model;
    try {
      this.#step = await this.#session(1);
      this.#prompt = await this.#session(null).catch((error: unknown) => {
        if (!(error instanceof TokensWanted)) throw error;
        return this.#session(unrolledOn(this.device));
      });
    } catch (error) {
      await this.dispose();
      // no kernel for an operator: what it cannot run
      if (error instanceof Error && /not ?implemented|not supported|no kernel/i.test(error.message))
        throw new Unsupported(error.message);
      throw error;
    }
    await this.reset();
  }

  async reset(): Promise<void> {
    this.#unmark();
    this.#stand({ states: new Map(), id: 0, logits: null, position: 0 });
  }

  mark(): void {
    this.#unmark();
    this.#marked = this.#now;
  }

  rollback(): void {
    if (this.#marked) this.#stand(this.#marked);
  }

  async save(): Promise<Saved | null> {
    const { states, id, position } = this.#now;
    if (position === 0) return null;
    const saved: [string, { data: Float32Array; dims: readonly number[] }][] = [];
    for (const [name, tensor] of states)
      saved.push([name, { data: await this.#read(tensor), dims: tensor.dims }]);
    return { states: new Map(saved), id, position };
  }

  async restore({ states, id, position }: Saved): Promise<void> {
    await this.reset();
    const restored = new Map<string, Ort.Tensor>();
    const specs = this.#step!.graph.states;
    for (const [name, { data, dims }] of states) {
      const spec = specs.find((one) => one.name === name)!;
      const cache = spec.slots === null ? null : this.#empty(spec);
      restored.set(name, this.#filled(cache, name, data, dims));
    }
    this.#stand({ states: restored, id, logits: null, position });
  }

  /** By a staging buffer of ours, which is destroyed: ORT would keep its own, and its memory is being measured. */
  async #read(tensor: Ort.Tensor): Promise<Float32Array> {
    if (!this.device) return (await tensor.getData()) as Float32Array;
    const bytes = Math.max(4, 4 * tensor.size);
    return new Float32Array(await downloaded(this.device, tensor.gpuBuffer as GPUBuffer, bytes));
  }

  /** A tensor of these numbers, on the device where there is one: in the cache, or in a buffer of its own. */
  #filled(cache: Ort.Tensor | null, name: string, data: Float32Array, dims: readonly number[]): Ort.Tensor {
    const { device } = this;
    if (!device) return new this.#ort.Tensor("float32", data, dims);
    const tensor = cache ?? this.#onDevice(name, dims);
    device.queue.writeBuffer(tensor.gpuBuffer as GPUBuffer, 0, data as Float32Array<ArrayBuffer>);
    return tensor;
  }

  async prefill(ids: readonly number[]): Promise<void> {
    const prompt = this.#prompt!;
    const most = prompt.tokens ?? (this.#cutsPrompts ? SHORT_PROMPT : ids.length);
    let from = 0;
    for (; most > 1 && from + most <= ids.length; from += most)
      await this.#run(prompt, ids.slice(from, from + most));
    // a graph of any length takes the rest at once
    if (prompt.tokens === null && from < ids.length) {
      await this.#run(prompt, ids.slice(from));
      from = ids.length;
    }
    for (; from < ids.length; from++) await this.#run(this.#step!, ids.slice(from, from + 1));
  }

  async step(): Promise<number> {
    const { id } = this.#now;
    await this.#run(this.#step!, [id]);
    return id;
  }

  async logits(): Promise<Float32Array> {
    return (await this.#now.logits!.getData()) as Float32Array;
  }

  memory(): number | null {
    return this.#heap?.buffer.byteLength ?? null;
  }

  fallbacks(): string[] {
    return this.#fallbacks;
  }

  remarks(): string[] {
    return this.#cutsPrompts
      ? [`prompts in runs of ${SHORT_PROMPT}: from 32 tokens on its attention is wrong in subgroups of 4`]
      : [];
  }

  /** ORT 1.30's attention over 32 tokens or more gives other logits where subgroups have fewer than eight lanes. */
  get #cutsPrompts(): boolean {
    const lanes = this.device?.adapterInfo.subgroupMinSize;
    const { graph, tokens } = this.#prompt ?? {};
    return lanes !== undefined && lanes < 8 && graph?.positions === true && tokens === null;
  }

  async dispose(): Promise<void> {
    await this.reset();
    for (const cache of this.#caches.values()) cache.dispose();
    this.#caches = new Map();
    for (const one of [this.#step, this.#prompt]) await one?.session.release();
    this.#step = null;
    this.#prompt = null;
  }

  async #session(tokens: number | null): Promise<Session> {
    const graph = exportGraph(this.#model!, { tokens, lacks: LACKS[this.#kind], scans: SCANS[this.#kind] });
    const onGpu = this.#kind === "webgpu";
    const located: Record<string, "gpu-buffer" | "cpu"> = { logits: "gpu-buffer", id: "cpu" };
    for (const { name } of graph.states) located[`present.${name}`] = "gpu-buffer";
    const create = (more: Ort.InferenceSession.SessionOptions) =>
      this.#ort.InferenceSession.create(graph.bytes, {
        ...options(this.#kind),
        ...(onGpu ? { preferredOutputLocation: located } : {}),
        ...more,
      });
    if (onGpu) {
      // said only to who asks for the log, which would cost time in every run
      const { result, lines } = await listening(() => create({ logSeverityLevel: 0, logVerbosityLevel: 1 }));
      await result.release();
      for (const op of placedOnCpu(lines)) if (!this.#fallbacks.includes(op)) this.#fallbacks.push(op);
    }
    return { session: await create({}), graph, tokens };
  }

  async #run({ session, graph }: Session, ids: readonly number[]): Promise<void> {
    const { Tensor } = this.#ort;
    const { states, position } = this.#now;
    const end = position + ids.length;
    const feeds: Record<string, Ort.Tensor> = {
      ids: new Tensor("int32", Int32Array.from(ids), [1, ids.length]),
    };
    if (graph.positions) {
      feeds.seqlens_k = new Tensor("int32", Int32Array.of(end - 1), [1]);
      feeds.total_sequence_length = new Tensor("int32", Int32Array.of(end), [1]);
    }
    const fetches: Record<string, Ort.Tensor | null> = { logits: null, id: null };
    for (const spec of graph.states) {
      const past = states.get(spec.name) ?? this.#empty(spec);
      feeds[`past.${spec.name}`] = past;
      fetches[`present.${spec.name}`] = this.#caches.has(spec.name) ? past : null;
    }
    const found = await session.run(feeds, fetches);
    const after = new Map(graph.states.map(({ name }) => [name, found[`present.${name}`]!]));
    const [id] = found.id!.data as BigInt64Array;
    this.#stand({ states: after, id: Number(id), logits: found.logits!, position: end });
    // what an empty stream began with
    for (const { name } of graph.states)
      if (!states.has(name) && !this.#caches.has(name)) feeds[`past.${name}`]!.dispose();
  }

  #empty(spec: StateSpec): Ort.Tensor {
    const { Tensor } = this.#ort;
    if (spec.slots === null || !this.device) {
      const size = spec.dims.reduce((a, b) => a * b, 1);
      return new Tensor("float32", new Float32Array(size), spec.dims);
    }
    let cache = this.#caches.get(spec.name);
    if (!cache) {
      const dims = spec.dims.map((d, axis) => (axis === spec.slots ? this.#model!.context : d));
      cache = this.#onDevice(spec.name, dims);
      this.#caches.set(spec.name, cache);
    }
    return cache;
  }

  /** A tensor of zeros in a buffer of its own. */
  #onDevice(label: string, dims: readonly number[]): Ort.Tensor {
    const device = this.device!;
    const bytes = 4 * dims.reduce((a, b) => a * b, 1);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = device.createBuffer({ label, size: 16 * Math.ceil(bytes / 16), usage });
    return this.#ort.Tensor.fromGpuBuffer(buffer, {
      dataType: "float32",
      dims,
      dispose: () => buffer.destroy(),
    });
  }

  /** Gives back what nothing refers to any more. */
  #stand(now: Standing): void {
    const before = this.#now;
    this.#now = now;
    this.#release(before);
  }

  #unmark(): void {
    const marked = this.#marked;
    this.#marked = null;
    if (marked) this.#release(marked);
  }

  #release({ states, logits }: Standing): void {
    const kept = new Set(
      [this.#now, this.#marked].flatMap((s) => [...(s?.states.values() ?? []), s?.logits]),
    );
    for (const cache of this.#caches.values()) kept.add(cache);
    for (const tensor of [...states.values(), logits]) if (tensor && !kept.has(tensor)) tensor.dispose();
  }
}

async function downloaded(device: GPUDevice, buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
  const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
  const staging = device.createBuffer({ size: bytes, usage });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const copy = staging.getMappedRange().slice(0);
  staging.destroy();
  return copy;
}

/** Operators that ORT's log says it placed on the CPU, where it was to use the GPU: `Gather ran on the CPU (3)`. */
export function placedOnCpu(lines: readonly string[]): string[] {
  const counts = new Map<string, number>();
  let onCpu = false;
  for (const line of lines.flatMap((text) => text.split("\n"))) {
    if (/placed on \[/.test(line)) onCpu = /\[CPUExecutionProvider\]/.test(line);
    const node = onCpu && /^\s*(?:.*\]\s)?\s*(\w+) \(\w+_?\S*\)\s*$/.exec(line);
    if (node) counts.set(node[1]!, (counts.get(node[1]!) ?? 0) + 1);
  }
  return [...counts].map(([op, count]) => `${op} ran on the CPU (${count})`);
}

/** Lines of ORT's log, while someone listens. */
let heard: string[] | null = null;

/** ORT takes the console's functions when it starts: those that it then finds ask first whether someone listens. */
async function hearing<T>(start: () => Promise<T>): Promise<T> {
  const names = ["debug", "log", "info", "warn", "error"] as const;
  const plain = names.map((name) => console[name]);
  names.forEach((name, i) => {
    console[name] = (...all: unknown[]) => {
      if (heard) heard.push(all.map(String).join(" "));
      else plain[i]!(...all);
    };
  });
  try {
    return await start();
  } finally {
    names.forEach((name, i) => {
      console[name] = plain[i]!;
    });
  }
}

async function listening<T>(work: () => Promise<T>): Promise<{ result: T; lines: string[] }> {
  const lines: string[] = [];
  heard = lines;
  try {
    return { result: await work(), lines };
  } finally {
    heard = null;
  }
}

const heaps = new Map<Kind, WebAssembly.Memory>();

/** ORT names its heap to nobody: it is the memory that is made while it starts, once for all. */
function watchHeap(kind: Kind): () => WebAssembly.Memory | null {
  const plain = WebAssembly.Memory;
  WebAssembly.Memory = class extends plain {
    constructor(descriptor: WebAssembly.MemoryDescriptor) {
      super(descriptor);
      heaps.set(kind, this);
    }
  };
  return () => {
    WebAssembly.Memory = plain;
    return heaps.get(kind) ?? null;
  };
}

/** The smallest model that there is. */
function probeGraph(): Uint8Array {
  return encodeModel({
    nodes: [{ op: "Identity", domain: "", inputs: ["x"], outputs: ["y"], attributes: {} }],
    initializers: [],
    inputs: [{ name: "x", type: "f32", dims: [1] }],
    outputs: [{ name: "y", type: "f32", dims: [1] }],
  });
}
