// Dispatches counted from outside, on WebGPU's own class: of whoever runs meanwhile.

/** Runs `work` and says how many dispatches were encoded meanwhile. */
export async function countDispatches(work: () => Promise<void>): Promise<number> {
  const { prototype } = GPUComputePassEncoder;
  const plain = {
    dispatchWorkgroups: prototype.dispatchWorkgroups,
    dispatchWorkgroupsIndirect: prototype.dispatchWorkgroupsIndirect,
  };
  let dispatches = 0;
  prototype.dispatchWorkgroups = function (...all) {
    dispatches++;
    return plain.dispatchWorkgroups.apply(this, all);
  };
  prototype.dispatchWorkgroupsIndirect = function (...all) {
    dispatches++;
    return plain.dispatchWorkgroupsIndirect.apply(this, all);
  };
  try {
    await work();
    return dispatches;
  } finally {
    Object.assign(prototype, plain);
  }
}
