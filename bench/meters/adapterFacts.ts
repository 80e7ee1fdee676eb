// What an adapter says of itself.

import { describeAdapter } from "../../engine/gpuDevice.ts";
import type { Adapter, Environment } from "../row.ts";
import { clockQuantumNs } from "./clock.ts";

/** The adapter that the bench takes. */
export const ADAPTER = { powerPreference: "high-performance" } as const;

export function adapterFacts(adapter: GPUAdapter): {
  adapter: Adapter;
  limits: Record<string, number>;
  features: string[];
} {
  const { vendor, architecture, device, description } = adapter.info;
  const limits: Record<string, number> = {};
  // limits are getters of the prototype
  for (const name of Object.keys(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(adapter.limits)))) {
    const value = adapter.limits[name as keyof GPUSupportedLimits];
    if (typeof value === "number") limits[name] = value;
  }
  return {
    adapter: { vendor, architecture, device, description, software: describeAdapter(adapter).software },
    limits,
    features: [...adapter.features].sort(),
  };
}

/** What is known of a place before anything has run in it. */
export type Facts = Pick<Environment, "adapter" | "limits" | "features" | "clock_quantum_ns">;

/** `gpu`: null where there is none. */
export async function factsOf(gpu: GPU | null): Promise<Facts> {
  const adapter = await gpu?.requestAdapter(ADAPTER);
  return {
    ...(adapter ? adapterFacts(adapter) : { adapter: null, limits: {}, features: [] }),
    clock_quantum_ns: clockQuantumNs(),
  };
}

/** Of GPUHeapProperty. */
const DEVICE_LOCAL = 1;

/** Bytes of the largest heap on the device; null where the adapter tells of none, as WebGPU without extensions does. */
export function largestHeap(adapter: GPUAdapter): number | null {
  const { memoryHeaps } = adapter.info as { memoryHeaps?: { size: number; properties: number }[] };
  const sizes = (memoryHeaps ?? []).filter((heap) => heap.properties & DEVICE_LOCAL).map(({ size }) => size);
  return sizes.length > 0 ? Math.max(...sizes) : null;
}

export interface Device {
  /** What was asked for. */
  request: "high performance" | "low power" | "fallback";
  /** What came; null: nothing. */
  name: string | null;
  software: boolean;
}

/** The adapters that WebGPU lets one ask for. */
export async function listDevices(gpu: GPU): Promise<Device[]> {
  const requests = [
    ["high performance", { powerPreference: "high-performance" }],
    ["low power", { powerPreference: "low-power" }],
    ["fallback", { forceFallbackAdapter: true }],
  ] as const;
  const devices: Device[] = [];
  for (const [request, options] of requests) {
    const adapter = await gpu.requestAdapter(options);
    const found = adapter && describeAdapter(adapter);
    devices.push({ request, name: found?.name ?? null, software: found?.software ?? false });
  }
  return devices;
}
