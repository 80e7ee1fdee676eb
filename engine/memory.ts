// The one door for GPU memory: nothing else creates a GPUBuffer.

import { OutOfMemoryError } from "./errors.ts";
import { type Bytes, CATEGORIES, noBytes, type Storage } from "./tensor.ts";

export const formatBytes = (n: number): string => {
  if (n < 1024) return `${n} B`;
  const power = Math.min(4, Math.floor(Math.log2(n) / 10));
  return `${(n / 1024 ** power).toFixed(2)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
};

export const total = (bytes: Bytes): number => CATEGORIES.reduce((n, c) => n + bytes[c], 0);

/** Live and peak bytes by category, counted at the door; also the whole of what the ledger does for memory. */
export class Tally {
  readonly live: Bytes = noBytes();
  readonly peak: Bytes = noBytes();
  /** Largest sum over all categories at one time. */
  peakTotal = 0;

  add(storage: Storage, sign: 1 | -1): void {
    const { category, bytes } = storage;
    this.live[category] += sign * bytes;
    this.peak[category] = Math.max(this.peak[category], this.live[category]);
    this.peakTotal = Math.max(this.peakTotal, total(this.live));
  }
}

export class Memory {
  readonly tally = new Tally();
  /** Bytes that may be held at once: the user's limit, or Infinity. */
  readonly maxBytes: number;
  readonly #device: GPUDevice;
  readonly #buffers = new Map<Storage, GPUBuffer>();
  /** Bytes of allocations that are under way: two at once must not both take the last room. */
  #pending = 0;

  constructor(device: GPUDevice, maxBytes = Number.POSITIVE_INFINITY) {
    this.#device = device;
    this.maxBytes = maxBytes;
  }

  /** All or none. Throws OutOfMemoryError; the message says what was asked and what is held. */
  async allocate(storages: readonly Storage[]): Promise<void> {
    const asked = storages.reduce((n, s) => n + s.bytes, 0);
    const held = total(this.tally.live) + this.#pending;
    const refuse = (why: string) => {
      throw new OutOfMemoryError(
        `${why}; asked ${formatBytes(asked)}, held ${formatBytes(held)}`,
        asked,
        held,
      );
    };
    const { maxBufferSize } = this.#device.limits;
    for (const s of storages) {
      if (s.bytes > maxBufferSize) {
        refuse(
          `${s.label} needs a buffer of ${formatBytes(s.bytes)}, this adapter's largest is ${formatBytes(maxBufferSize)}`,
        );
      }
    }
    if (held + asked > this.maxBytes)
      refuse(`the limit of ${formatBytes(this.maxBytes)} (maxBytes) would be passed`);

    const made = new Map<Storage, GPUBuffer>();
    this.#device.pushErrorScope("out-of-memory");
    try {
      for (const s of storages) {
        const staging = s.category === "staging";
        const usage = staging
          ? GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST
          : (s.category === "uniform" ? GPUBufferUsage.UNIFORM : GPUBufferUsage.STORAGE) |
            GPUBufferUsage.COPY_DST |
            GPUBufferUsage.COPY_SRC;
        made.set(s, this.#device.createBuffer({ label: `${s.category}: ${s.label}`, size: s.bytes, usage }));
      }
    } catch (error) {
      for (const buffer of made.values()) buffer.destroy();
      await this.#device.popErrorScope().catch(() => null);
      // Dawn throws a RangeError where the process itself has no memory for a mapped buffer
      refuse(error instanceof Error ? error.message : String(error));
    }
    this.#pending += asked;
    const failure = await this.#device.popErrorScope().finally(() => {
      this.#pending -= asked;
    });
    if (failure) {
      for (const buffer of made.values()) buffer.destroy();
      refuse(`the GPU is out of memory (${storages.length} buffers, the first is ${storages[0]?.label})`);
    }
    for (const [storage, buffer] of made) {
      this.#buffers.set(storage, buffer);
      this.tally.add(storage, 1);
    }
  }

  buffer(storage: Storage): GPUBuffer {
    const buffer = this.#buffers.get(storage);
    if (!buffer) throw new Error(`${storage.label} is not allocated`);
    return buffer;
  }

  free(storages: readonly Storage[]): void {
    for (const storage of storages) {
      const buffer = this.#buffers.get(storage);
      if (!buffer) continue;
      buffer.destroy();
      this.#buffers.delete(storage);
      this.tally.add(storage, -1);
    }
  }

  /** Destroys what is left: after this nothing is held. */
  destroy(): void {
    this.free([...this.#buffers.keys()]);
  }
}
