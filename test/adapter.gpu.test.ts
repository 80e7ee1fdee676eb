import { expect, test } from "vitest";
import { adapterLine } from "../bench/adapter.ts";
import { describeAdapter } from "../engine/gpuDevice.ts";

async function requestAdapter(): Promise<GPUAdapter> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    throw new Error("the browser gave no WebGPU adapter: name another one with LONGTAPE_BROWSER");
  }
  return adapter;
}

test("the adapter says its name", async () => {
  const adapter = describeAdapter(await requestAdapter());
  console.log(adapterLine(adapter));
  expect(adapter.name).not.toBe("");
});

test("a dispatch writes what it should", async () => {
  const device = await (await requestAdapter()).requestDevice();
  const module = device.createShaderModule({
    code: `@group(0) @binding(0) var<storage, read_write> out: array<u32>;
      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { out[id.x] = id.x * id.x; }`,
  });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module } });
  const bytes = 256;
  const out = device.createBuffer({ size: bytes, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const read = device.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const entries = [{ binding: 0, resource: { buffer: out } }];
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, read, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  expect([...new Uint32Array(read.getMappedRange())]).toEqual(Array.from({ length: 64 }, (_, i) => i * i));
  device.destroy();
});

test("tests can fetch goldens and checkpoints", async () => {
  for (const path of ["/test/goldens/llama/config.json", "/models/checkpoints/llama/config.json"]) {
    const config = (await (await fetch(path)).json()) as { model_type: string };
    expect(config.model_type, path).toBe("llama");
  }
  const weights = await (await fetch("/test/goldens/llama/model.safetensors")).arrayBuffer();
  const headerBytes = Number(new DataView(weights).getBigUint64(0, true));
  expect(headerBytes).toBeLessThan(weights.byteLength);
});
