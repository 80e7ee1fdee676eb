// What the adapter can do at best, measured in the same run: reading memory, multiply-adds, and a dispatch that does nothing.

export interface Roof {
  /** 1e9 bytes a second. */
  readGbs: number;
  /** 1e9 floating-point operations a second, a multiply-add being two. */
  gflops: number;
  /** Nanoseconds of one more empty dispatch in a pass. */
  dispatchNs: number;
}

const ROUNDS = 8;
const TILE_BYTES = 64;

interface Candidate {
  code: string;
  workgroups: number;
}

/** The sum of all 4x4 tiles: a thread owns a run of them, which a CPU likes, or takes turns, which a GPU likes. */
function reader(tiles: number, owned: boolean): Candidate {
  const [threads, workgroup] = owned ? [1024, 16] : [65_536, 64];
  const each = tiles / threads;
  return {
    workgroups: threads / workgroup,
    code: `
@group(0) @binding(0) var<storage, read> w: array<mat4x4f, ${tiles}>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(${workgroup})
fn main(@builtin(global_invocation_id) id: vec3u) {
  var sum = mat4x4f();
  for (var i = 0u; i < ${each}u; i++) { sum += w[${owned ? `id.x * ${each}u + i` : `i * ${threads}u + id.x`}]; }
  y[id.x] = sum[0] + sum[1] + sum[2] + sum[3];
}`,
  };
}

const MULTIPLY_ADD_STEPS = 256;
/** vec4f of results that are kept, so that nothing is left out as useless. */
const SUMS = 65_536;

/** Products of a tile in registers, so many sums at once; and what they take. */
function multiplyAdder(sums: number, software: boolean): Candidate & { flops: number } {
  const [workgroups, workgroup] = software ? [64, 16] : [16_384, 64];
  const each = (line: (i: number) => string, between = " ") =>
    Array.from({ length: sums }, (_, i) => line(i)).join(between);
  return {
    workgroups,
    flops: 32 * sums * MULTIPLY_ADD_STEPS * workgroups * workgroup,
    code: `
@group(0) @binding(0) var<storage, read> w: array<mat4x4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(${workgroup})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let m = w[0];
  ${each((i) => `var a${i} = vec4f(f32(id.x + ${i}u));`)}
  for (var i = 0u; i < ${MULTIPLY_ADD_STEPS}u; i++) { ${each((i) => `a${i} += m * a${i};`)} }
  y[id.x % ${SUMS}u] = ${each((i) => `a${i}`, " + ")};
}`,
  };
}

const empty: Candidate = {
  workgroups: 1,
  code: `
@group(0) @binding(0) var<storage, read> w: array<mat4x4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3u) { if (w[0][0].x == 1.0) { y[id.x] = vec4f(1.0); } }`,
};

/** So many dispatches of multiply-adds that a submit does not count. */
const REPEATED = 2;

/** Each by the best of several kernels. Takes about a second; what it allocates is freed. */
export async function measureRoof(device: GPUDevice, software: boolean): Promise<Roof> {
  const w = await largest(device, software ? 2 ** 26 : 2 ** 29);
  const y = device.createBuffer({ label: "roof: sums", size: 16 * SUMS, usage: GPUBufferUsage.STORAGE });
  try {
    /** Nanoseconds of the fastest round of so many dispatches. */
    const best = async ({ code, workgroups }: Candidate, dispatches = 1): Promise<number> => {
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
    let readNs = Number.POSITIVE_INFINITY;
    for (const owned of [true, false])
      readNs = Math.min(readNs, await best(reader(w.size / TILE_BYTES, owned)));
    let gflops = 0;
    for (const sums of [1, 2, 4, 8]) {
      const adder = multiplyAdder(sums, software);
      gflops = Math.max(gflops, (REPEATED * adder.flops) / (await best(adder, REPEATED)));
    }
    const few = await best(empty, 16);
    const many = await best(empty, 528);
    return { readGbs: w.size / readNs, gflops, dispatchNs: Math.max(0, (many - few) / 512) };
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
