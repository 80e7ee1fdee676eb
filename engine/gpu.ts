// The GPU machine: encodes dispatches over prepared pipelines and bind groups.

import { DeviceLostError, ShaderError } from "./errors.ts";
import type { LaidDispatch, Machine, Run, VariantTable } from "./machine.ts";
import { memo } from "./memo.ts";
import { Memory } from "./memory.ts";
import type { Dispatch } from "./plan.ts";
import {
  type Bytes,
  type Data,
  elements,
  pack,
  pageSpec,
  product,
  type Spec,
  type Storage,
  storedBytes,
  type Tensor,
  unpack,
} from "./tensor.ts";
import type { AdapterVerdicts } from "./verdicts.ts";

interface Prepared {
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
}

export class GpuMachine implements Machine {
  readonly kind = "gpu";
  readonly device: GPUDevice;
  readonly memory: Memory;
  readonly variants: VariantTable;
  /** Where verdicts outlive the machine; null: nowhere. */
  readonly verdicts: AdapterVerdicts | null;
  /** Set when the device is lost. */
  lost: DeviceLostError | null = null;
  #fault: Error | null = null;
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #prepared = new WeakMap<LaidDispatch, Prepared>();

  constructor(
    device: GPUDevice,
    variants: VariantTable,
    { maxBytes, verdicts = null }: { maxBytes?: number | undefined; verdicts?: AdapterVerdicts | null } = {},
  ) {
    this.device = device;
    this.variants = variants;
    this.verdicts = verdicts;
    this.memory = new Memory(device, maxBytes);
    device.lost.then((info) => {
      this.lost = new DeviceLostError(info.reason, info.message);
    });
    device.onuncapturederror = (event) => {
      this.#fault ??= new Error(`WebGPU: ${event.error.message}`);
    };
  }

  allocate(storages: readonly Storage[]): Promise<void> {
    this.#check();
    return this.#guard(this.memory.allocate(storages));
  }

  get maxBytes(): number {
    return this.memory.maxBytes;
  }

  get maxBindingBytes(): number {
    return this.device.limits.maxStorageBufferBindingSize;
  }

  free(storages: readonly Storage[]): void {
    this.memory.free(storages);
  }

  live(): Bytes {
    return { ...this.memory.tally.live };
  }

  write(tensor: Tensor, data: Data): void {
    this.#check();
    const put = (storage: Storage, offset: number, stored: Data) =>
      this.device.queue.writeBuffer(
        this.memory.buffer(storage),
        offset,
        stored as Data & { buffer: ArrayBuffer },
      );
    if (!tensor.pages) put(tensor.storages[0]!, tensor.offset, pack(tensor.spec, data));
    else
      for (const { storage, spec, indices } of pagesOf(tensor, slotsIn(tensor.spec, data)))
        put(storage, 0, pack(spec, indices.gather(data)));
  }

  async read(tensor: Tensor, slots?: number): Promise<Data> {
    if (!tensor.pages) return this.#readOne(tensor.storages[0]!, tensor.offset, tensor.spec);
    const taken = slots ?? tensor.spec.shape[tensor.spec.pagedAxis!]!;
    const out = new Float32Array(elements(pageSpec(tensor.spec, taken)));
    // one at a time: staging is then never more than a page
    for (const { storage, spec, indices } of pagesOf(tensor, taken))
      indices.scatter(await this.#readOne(storage, 0, spec), out);
    return out;
  }

  async #readOne(storage: Storage, offset: number, spec: Spec): Promise<Data> {
    const staging: Storage = {
      category: "staging",
      label: `read ${storage.label}`,
      bytes: storedBytes(spec),
    };
    await this.allocate([staging]);
    try {
      return await this.#fetch(storage, offset, spec, staging);
    } finally {
      this.free([staging]);
    }
  }

  fetch(tensor: Tensor, staging: Storage): Promise<Data> {
    return this.#fetch(tensor.storages[0]!, tensor.offset, tensor.spec, staging);
  }

  async #fetch(storage: Storage, offset: number, spec: Spec, staging: Storage): Promise<Data> {
    this.#check();
    const buffer = this.memory.buffer(staging);
    const bytes = storedBytes(spec);
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.memory.buffer(storage), offset, buffer, 0, bytes);
    this.device.queue.submit([encoder.finish()]);
    await this.#guard(buffer.mapAsync(GPUMapMode.READ, 0, bytes));
    const stored = buffer.getMappedRange(0, bytes).slice(0);
    buffer.unmap();
    this.#check();
    return unpack(spec, spec.type === "f32" ? new Float32Array(stored) : new Uint32Array(stored));
  }

  copy(pairs: readonly (readonly [Storage, Storage])[]): void {
    this.#check();
    if (pairs.length === 0) return;
    const encoder = this.device.createCommandEncoder();
    for (const [from, to] of pairs) {
      encoder.copyBufferToBuffer(
        this.memory.buffer(from),
        0,
        this.memory.buffer(to),
        0,
        Math.min(from.bytes, to.bytes),
      );
    }
    this.device.queue.submit([encoder.finish()]);
  }

  /**
   * Compiles what these dispatches need, all at once; equal keys share one pipeline. Needs no buffer. Throws ShaderError,
   * DeviceLostError.
   */
  compile(dispatches: readonly Dispatch[]): Promise<GPUComputePipeline[]> {
    this.#check();
    return this.#guard(Promise.all(dispatches.map((d) => this.#pipeline(d))));
  }

  async prepare(dispatches: readonly LaidDispatch[]): Promise<void> {
    this.#check();
    const fresh = dispatches.filter((d) => !this.#prepared.has(d));
    const pipelines = await this.compile(fresh);
    fresh.forEach((d, i) => {
      const pipeline = pipelines[i]!;
      this.#prepared.set(d, { pipeline, bindGroup: this.#bindGroup(d, pipeline) });
    });
  }

  submit(runs: readonly Run[], timestamps?: GPUComputePassTimestampWrites): void {
    this.#check();
    const encoder = this.device.createCommandEncoder();
    for (const { dispatches } of runs) {
      const pass = encoder.beginComputePass(timestamps ? { timestampWrites: timestamps } : undefined);
      let current: GPUComputePipeline | undefined;
      for (const d of dispatches) {
        const prepared = this.#prepared.get(d);
        if (!prepared) throw new Error(`${d.key} was not prepared`);
        if (prepared.pipeline !== current) {
          current = prepared.pipeline;
          pass.setPipeline(current);
        }
        pass.setBindGroup(0, prepared.bindGroup);
        pass.dispatchWorkgroups(...d.grid);
      }
      pass.end();
    }
    this.device.queue.submit([encoder.finish()]);
  }

  /** Resolves when all that was submitted is done. */
  async idle(): Promise<void> {
    await this.#guard(this.device.queue.onSubmittedWorkDone());
    this.#check();
  }

  /** Frees every buffer, then the device. */
  destroy(): void {
    this.memory.destroy();
    this.device.destroy();
  }

  #pipeline(d: Dispatch): Promise<GPUComputePipeline> {
    return memo(this.#pipelines, d.key, () => this.#compile(d));
  }

  async #compile(d: Dispatch): Promise<GPUComputePipeline> {
    const { device } = this;
    const { code, bindings, params } = d.pass;
    // explicit: "auto" would drop every binding that a body happens not to use
    const types: GPUBufferBindingType[] = bindings.map((b) =>
      b.access === "read" ? "read-only-storage" : "storage",
    );
    if (params.length > 0) types.unshift("uniform");
    const entries = types.map((type, binding) => ({
      binding,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type },
    }));
    const group = device.createBindGroupLayout({ label: d.key, entries });
    const layout = device.createPipelineLayout({ label: d.key, bindGroupLayouts: [group] });
    // what is wrong with it comes back below: it is not the device's fault
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: d.key, code });
    device.popErrorScope().catch(() => null);
    try {
      return await device.createComputePipelineAsync({
        label: d.key,
        layout,
        compute: { module, entryPoint: "main" },
      });
    } catch (error) {
      const { messages } = await module.getCompilationInfo();
      const errors = messages
        .filter((m) => m.type === "error")
        .map((m) => `${m.lineNum}:${m.linePos} ${m.message}`);
      const numbered = code.split("\n").map((line, i) => `${String(i + 1).padStart(4)} ${line}`);
      throw new ShaderError(
        `${d.key}: ${errors.join("; ") || (error as Error).message}`,
        numbered.join("\n"),
      );
    }
  }

  #bindGroup(d: LaidDispatch, pipeline: GPUComputePipeline): GPUBindGroup {
    const resources: GPUBufferBinding[] = d.bindings.map((b) => ({
      buffer: this.memory.buffer(b.storage),
      offset: b.offset,
      size: b.bytes,
    }));
    if (d.uniform) {
      const { storage, offset } = d.uniform;
      resources.unshift({ buffer: this.memory.buffer(storage), offset, size: 4 * d.params.length });
    }
    const entries = resources.map((resource, binding) => ({ binding, resource }));
    return this.device.createBindGroup({ label: d.key, layout: pipeline.getBindGroupLayout(0), entries });
  }

  #check(): void {
    if (this.lost) throw this.lost;
    if (this.#fault) throw this.#fault;
  }

  /** Turns what a lost device does to a promise into the one typed error. */
  async #guard<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      // `lost` resolves after the rejection that it causes
      await new Promise((resolve) => setTimeout(resolve));
      throw this.lost ?? error;
    }
  }
}

interface Page {
  storage: Storage;
  spec: Spec;
  indices: PageIndices;
}

/** The way between a page and the whole, both in logical order. */
interface PageIndices {
  gather(whole: Data): Data;
  scatter(page: Data, whole: Data): void;
}

/** The slots that there are elements for. */
const slotsIn = ({ shape, pagedAxis }: Spec, data: Data): number =>
  data.length / product(shape.filter((_, axis) => axis !== pagedAxis));

/** The pages that hold the first `slots`, which are the whole. */
function* pagesOf({ spec, pages, storages }: Tensor, slots: number): Generator<Page> {
  const axis = spec.pagedAxis!;
  const inner = product(spec.shape.slice(axis + 1));
  const outer = product(spec.shape.slice(0, axis));
  let base = 0;
  for (const [i, own] of pages!.entries()) {
    if (base >= slots) return;
    const first = base;
    const taken = Math.min(own, slots - first);
    const runs = (copy: (page: number, whole: number, length: number) => void) => {
      for (let o = 0; o < outer; o++) copy(o * own * inner, (o * slots + first) * inner, taken * inner);
    };
    const indices: PageIndices = {
      gather(whole) {
        const page = new Float32Array(outer * own * inner);
        runs((p, w, n) => page.set(whole.subarray(w, w + n), p));
        return page;
      },
      scatter: (page, whole) => runs((p, w, n) => whole.set(page.subarray(p, p + n), w)),
    };
    yield { storage: storages[i]!, spec: pageSpec(spec, own), indices };
    base += own;
  }
}
