// How long the GPU was busy, by timestamps around each pass.

import type { GpuMachine } from "../../engine/gpu.ts";
import type { Run } from "../../engine/machine.ts";

/** Passes that one query set times. WebGPU allows 4,096 queries, two a pass. */
const PASSES = 512;

/**
 * Nanoseconds of all passes that the machine runs during `work`; null where the adapter has no timestamps. Each plan
 * becomes a submit of its own, so nothing else may be timed meanwhile.
 */
export async function gpuNs(machine: GpuMachine, work: () => Promise<void>): Promise<number | null> {
  const { device } = machine;
  if (!device.features.has("timestamp-query")) return null;
  const bytes = 2 * 8 * PASSES;
  const querySet = device.createQuerySet({ type: "timestamp", count: 2 * PASSES });
  const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const resolved = device.createBuffer({ size: bytes, usage: QUERY_RESOLVE | COPY_SRC });
  const stagings: { buffer: GPUBuffer; passes: number }[] = [];
  let passes = 0;
  const flush = () => {
    if (passes === 0) return;
    const buffer = device.createBuffer({ size: bytes, usage: MAP_READ | COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.resolveQuerySet(querySet, 0, 2 * passes, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, buffer, 0, bytes);
    device.queue.submit([encoder.finish()]);
    stagings.push({ buffer, passes });
    passes = 0;
  };
  const submit = machine.submit.bind(machine);
  machine.submit = (runs: readonly Run[]) => {
    for (const run of runs) {
      submit([run], {
        querySet,
        beginningOfPassWriteIndex: 2 * passes,
        endOfPassWriteIndex: 2 * passes + 1,
      });
      if (++passes === PASSES) flush();
    }
  };
  try {
    await work();
    flush();
    let sum = 0n;
    for (const { buffer, passes } of stagings) {
      await buffer.mapAsync(GPUMapMode.READ);
      const stamps = new BigUint64Array(buffer.getMappedRange());
      // a driver may give a pass whose end is before its beginning
      for (let i = 0; i < 2 * passes; i += 2) {
        const [begin, end] = [stamps[i]!, stamps[i + 1]!];
        if (end > begin) sum += end - begin;
      }
    }
    return Number(sum);
  } finally {
    Reflect.deleteProperty(machine, "submit");
    for (const { buffer } of stagings) buffer.destroy();
    resolved.destroy();
    querySet.destroy();
  }
}
