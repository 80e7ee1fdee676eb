// What the adapter can do at best, measured in the same run: reading memory, and a dispatch that does nothing.

export interface Roof {
  /** 1e9 bytes a second. */
  readGbs: number;
  /** Nanoseconds of one more empty dispatch in a pass. */
  dispatchNs: number;
}

const ROUNDS = 4;
const TILE_BYTES = 64;

/** The sum of all 4x4 tiles: a thread owns a run of them, which a CPU likes, or takes turns, which a GPU likes. */
function reader(tiles: number, software: boolean): { code: string; workgroups: number } {
  const [threads, workgroup] = software ? [1024, 16] : [65_536, 64];
  const each = tiles / threads;
  return {
    workgroups: threads / workgroup,
    code: `
@group(0) @binding(0) var<storage, read> w: array<mat4x4f, ${tiles}>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(${workgroup})
fn main(@builtin(global_invocation_id) id: vec3u) {
  var sum = mat4x4f();
  for (var i = 0u; i < ${each}u; i++) { sum += w[${software ? `id.x * ${each}u + i` : `i * ${threads}u + id.x`}]; }
  y[id.x] = sum[0] + sum[1] + sum[2] + sum[3];
}`,
  };
}

const EMPTY = `
@group(0) @binding(0) var<storage, read> w: array<mat4x4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3u) { if (w[0][0].x == 1.0) { y[id.x] = vec4f(1.0); } }`;

/** Takes well under a second; what it allocates is freed. */
export async function measureRoof(device: GPUDevice, software: boolean): Promise<Roof> {
  const w = await largest(device, software ? 2 ** 26 : 2 ** 29);
  const y = device.createBuffer({ label: "roof: sums", size: 2 ** 20, usage: GPUBufferUsage.STORAGE });
  try {
    const best = async (code: string, workgroups: number, dispatches: number): Promise<number> => {
      const run = await prepare(device, code, [w, y]);
      let shortest = Number.POSITIVE_INFINITY;
      for (let round = 0; round <= ROUNDS; round++) {
        const started = performance.now();
        run(workgroups, dispatches);
        await device.queue.onSubmittedWorkDone();
        // the first compiles, and fills the buffer with zeros
        if (round > 0) shortest = Math.min(shortest, performance.now() - started);
      }
      return shortest * 1e6;
    };
    const { code, workgroups } = reader(w.size / TILE_BYTES, software);
    const readGbs = w.size / (await best(code, workgroups, 1));
    const few = await best(EMPTY, 1, 16);
    const many = await best(EMPTY, 1, 528);
    return { readGbs, dispatchNs: Math.max(0, (many - few) / 512) };
  } finally {
    w.destroy();
    y.destroy();
  }
}

/** A buffer larger than caches, halved until there is memory for it. */
async function largest(device: GPUDevice, wanted: number): Promise<GPUBuffer> {
  const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
  let size = 2 ** Math.floor(Math.log2(Math.min(wanted, maxStorageBufferBindingSize, maxBufferSize)));
  for (;;) {
    device.pushErrorScope("out-of-memory");
    const buffer = device.createBuffer({ label: "roof: read", size, usage: GPUBufferUsage.STORAGE });
    const failure = await device.popErrorScope();
    if (!failure) return buffer;
    buffer.destroy();
    if (size <= 2 ** 22) throw new Error(`${size} bytes to measure the roof with: ${failure.message}`);
    size /= 2;
  }
}

async function prepare(device: GPUDevice, code: string, buffers: readonly GPUBuffer[]) {
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const bindGroup = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return (workgroups: number, dispatches: number): void => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindGroup);
    for (let i = 0; i < dispatches; i++) pass.dispatchWorkgroups(workgroups);
    pass.end();
    device.queue.submit([encoder.finish()]);
  };
}
