import { expect, test } from "vitest";
import { adapterLine } from "../bench/adapter.ts";
import { dawnInNode } from "../bench/node.ts";

test("Dawn in Node has an adapter that makes a device", async () => {
  const { gpu, adapter } = await dawnInNode();
  console.log(`Dawn in Node, ${adapterLine(adapter)}`);
  const device = await (await gpu.requestAdapter())!.requestDevice();
  const buffer = device.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  expect(buffer.size).toBe(16);
  device.destroy();
});

test("the software adapter is there for the asking", async () => {
  const { adapter } = await dawnInNode({ software: true });
  expect(adapter.software).toBe(true);
});
