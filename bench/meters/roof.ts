// What the adapter can do at best, measured in the same run: reading memory, multiply-adds, and a dispatch that does nothing.

import { swapped } from "../../kernels/quad.ts";

export interface Roof {
  /** 1e9 bytes a second. */
  readGbs: number;
  /**
   * 1e9 floating-point operations a second, a multiply-add being two, with operands that are loaded from memory in cache:
   * what a product of matrices can reach. From registers alone adapters do more, but no kernel has its operands there.
   */
  gflops: number;
  /** Nanoseconds of one more empty dispatch in a pass, of another pipeline than the one before, as in a model's. */
  dispatchNs: number;
}

const ROUNDS = 12;
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

/** vec4f of results that are kept, so that nothing is left out as useless. */
const SUMS = 65_536;

/**
 * A product of matrices that fit in caches: a thread multiplies the tiles that it loads with so many rows. With `shared`, the
 * lanes of a quad load a quarter of the rows each and swap them.
 */
function multiplyAdder(
  { tiles, rows }: { tiles: number; rows: number },
  shared: boolean,
  software: boolean,
): Candidate & { flops: number } {
  // of x rows, of w rows of tiles, of both columns of four
  const [all, outputs, inputs] = software ? [256, 64, 64] : [8192, 256, 64];
  const workgroup = software ? 16 : 64;
  const columns = outputs / tiles;
  const each = (count: number, line: (i: number) => string, between = " ") =>
    Array.from({ length: count }, (_, i) => line(i)).join(between);
  const loads = shared ? rows / 4 : rows;
  const row = (j: number) => (shared ? `${4 * j}u + id.x % 4u` : `${j}u`);
  const value = (r: number) => (shared ? swapped(`x${r >> 2}`, r % 4) : `x${r}`);
  const eachSum = (line: (t: number, r: number) => string, between = " ") =>
    each(tiles, (t) => each(rows, (r) => line(t, r), between), between);
  return {
    workgroups: (columns * all) / rows / workgroup,
    flops: 2 * 16 * all * outputs * inputs,
    code: `${shared ? "enable subgroups;" : ""}
@group(0) @binding(0) var<storage, read> w: array<mat4x4f, ${outputs * inputs}>;
@group(0) @binding(1) var<storage, read> x: array<vec4f, ${all * inputs}>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f, ${SUMS}>;
@compute @workgroup_size(${workgroup})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let first = id.x % ${columns}u * ${inputs * tiles}u;
  let m = id.x / ${columns}u * ${rows}u;
  ${each(loads, (j) => `let row${j} = (m + ${row(j)}) * ${inputs}u;`)}
  ${eachSum((t, r) => `var sum${t}_${r} = vec4f();`)}
  for (var k = 0u; k < ${inputs}u; k++) {
    ${each(tiles, (t) => `let tile${t} = w[first + ${t * inputs}u + k];`)}
    ${each(loads, (j) => `let x${j} = x[row${j} + k];`)}
    ${each(rows, (r) => `{ let v = ${value(r)}; ${each(tiles, (t) => `sum${t}_${r} += tile${t} * v;`)} }`)}
  }
  y[id.x % ${SUMS}u] = ${eachSum((t, r) => `sum${t}_${r}`, " + ")};
}`,
  };
}

/** What a thread owns: a row of tiles or two, by so many rows. */
const BLOCKS = [
  { tiles: 1, rows: 8 },
  { tiles: 1, rows: 16 },
  { tiles: 2, rows: 16 },
];

const empty = (value: number): Candidate => ({
  workgroups: 1,
  code: `
@group(0) @binding(0) var<storage, read> w: array<mat4x4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3u) { if (w[0][0].x == ${value}.0) { y[id.x] = vec4f(1.0); } }`,
});

/**
 * Each by the best of several kernels, which run by turns: what disturbs the machine for a while takes a round from each,
 * not all rounds from one. Takes one to two seconds; what it allocates is freed.
 */
export async function measureRoof(device: GPUDevice, software: boolean): Promise<Roof> {
  const w = await largest(device, software ? 2 ** 26 : 2 ** 29);
  const y = device.createBuffer({ label: "roof: sums", size: 16 * SUMS, usage: GPUBufferUsage.STORAGE });
  try {
    const runners: { run: () => void; ns: number }[] = [];
    /** Gives what reads, in the end, the nanoseconds of the fastest round of so many dispatches, of each in turn. */
    const add = async (candidates: readonly Candidate[], dispatches = 1, buffers = [w, y]) => {
      const prepared = await Promise.all(candidates.map((candidate) => prepare(device, candidate, buffers)));
      const runner = { run: () => submit(device, prepared, dispatches), ns: Number.POSITIVE_INFINITY };
      runners.push(runner);
      return () => runner.ns;
    };
    const readers = [
      await add([reader(w.size / TILE_BYTES, true)]),
      await add([reader(w.size / TILE_BYTES, false)]),
    ];
    const adders: (() => number)[] = [];
    for (const shared of device.features.has("subgroups") ? [true, false] : [false]) {
      for (const block of BLOCKS) {
        const adder = multiplyAdder(block, shared, software);
        const ns = await add([adder], 1, [w, w, y]);
        adders.push(() => adder.flops / ns());
      }
    }
    const few = await add([empty(1), empty(2)], 16);
    const many = await add([empty(1), empty(2)], 528);
    for (let round = 0; round <= ROUNDS; round++) {
      for (const runner of runners) {
        const started = performance.now();
        runner.run();
        await device.queue.onSubmittedWorkDone();
        // the first compiles, and fills the buffer with zeros
        if (round > 0) runner.ns = Math.min(runner.ns, (performance.now() - started) * 1e6);
      }
    }
    return {
      readGbs: w.size / Math.min(...readers.map((ns) => ns())),
      gflops: Math.max(...adders.map((gflops) => gflops())),
      dispatchNs: Math.max(0, (many() - few()) / 512),
    };
  } finally {
    w.destroy();
    y.destroy();
  }
}

/** The better of two in each: a roof that was found while something else ran is too low. */
export const higherRoof = (a: Roof, b: Roof): Roof => ({
  readGbs: Math.max(a.readGbs, b.readGbs),
  gflops: Math.max(a.gflops, b.gflops),
  dispatchNs: Math.min(a.dispatchNs, b.dispatchNs),
});

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

interface Prepared {
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  workgroups: number;
}

async function prepare(
  device: GPUDevice,
  { code, workgroups }: Candidate,
  buffers: readonly GPUBuffer[],
): Promise<Prepared> {
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const bindGroup = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return { pipeline, bindGroup, workgroups };
}

function submit(device: GPUDevice, prepared: readonly Prepared[], dispatches: number): void {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (let i = 0; i < dispatches; i++) {
    const { pipeline, bindGroup, workgroups } = prepared[i % prepared.length]!;
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(workgroups);
  }
  pass.end();
  device.queue.submit([encoder.finish()]);
}
