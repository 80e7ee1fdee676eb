// Bytes of live GPUBuffers counted from outside, on GPUDevice itself (the package webgpu-memory), for us and for every
// peer alike.

export interface Counter {
  /** Bytes of buffers that were made while counting was on and are not destroyed. */
  bytes(device: GPUDevice): number;
  /** The most that such buffers, and textures, ever held at once. */
  peak(device: GPUDevice): number;
  /**
   * Runs `work` with WebGPU as it came: counting costs time. Buffers made meanwhile are not counted. Destruction is, always:
   * a session that grows under the clock frees scratch that was counted, and destroys nothing from one token to the next.
   */
  paused<T>(work: () => Promise<T>): Promise<T>;
}

let counter: Promise<Counter> | null = null;

/**
 * Turns counting on, once for all who ask; a device must be requested afterwards to be counted. The package patches the prototypes of
 * WebGPU's classes when it is imported, so both the plain methods and the counting ones are kept, to change places.
 */
export const startCounting = (): Promise<Counter> => {
  counter ??= patch();
  return counter;
};

async function patch(): Promise<Counter> {
  const prototypes = webgpuClasses().map((name) => (globalThis as never as Classes)[name]!.prototype);
  const plain = prototypes.map(
    (prototype): PropertyDescriptorMap => Object.getOwnPropertyDescriptors(prototype),
  );
  const { getWebGPUMemoryUsage } = await import("webgpu-memory");
  const patched = prototypes.flatMap((prototype, i) =>
    Object.entries(Object.getOwnPropertyDescriptors(prototype))
      .filter(([name, { value }]) => name !== "destroy" && value !== plain[i]![name]?.value)
      .map(([name, counting]) => ({ prototype, name, counting, plain: plain[i]![name]! })),
  );
  const put = (which: "plain" | "counting") => {
    for (const { prototype, name, ...methods } of patched)
      Object.defineProperty(prototype, name, methods[which]);
  };
  return {
    bytes: (device) => getWebGPUMemoryUsage(device).memory.buffer,
    peak: (device) => getWebGPUMemoryUsage(device).memory.maxTotal,
    async paused(work) {
      put("plain");
      try {
        return await work();
      } finally {
        put("counting");
      }
    },
  };
}

type Classes = Record<string, { prototype: object }>;

const webgpuClasses = (): string[] =>
  Object.getOwnPropertyNames(globalThis).filter(
    (name) => /^GPU[A-Z]/.test(name) && typeof (globalThis as never as Classes)[name] === "function",
  );
