// The count from outside is turned off while time is measured, and is right when it goes on.

import { expect, onTestFinished, test } from "vitest";
import { startCounting } from "../bench/meters/asked.ts";

test("a pause counts no buffer that is made, and every buffer that is destroyed", async () => {
  const counter = await startCounting();
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter!.requestDevice();
  onTestFinished(() => device.destroy());
  const make = (size: number) => device.createBuffer({ size, usage: GPUBufferUsage.STORAGE });
  const [kept, grown] = [make(1024), make(512)];
  expect(counter.bytes(device)).toBe(1536);
  const uncounted = await counter.paused(async () => {
    grown.destroy();
    return make(4096);
  });
  expect(counter.bytes(device)).toBe(1024);
  uncounted.destroy();
  expect(counter.bytes(device)).toBe(1024);
  make(256);
  kept.destroy();
  expect(counter.bytes(device)).toBe(256);
});
