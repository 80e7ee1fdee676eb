// From an adapter to a GPU machine.

import { AdapterError } from "./errors.ts";
import { GpuMachine } from "./gpu.ts";
import { VariantTable } from "./machine.ts";
import { AdapterVerdicts, type VerdictStore } from "./verdicts.ts";

export interface DeviceOptions {
  /** Any WebGPU implementation: `navigator.gpu`, or Dawn in Node. Default: `navigator.gpu`. */
  gpu?: GPU;
  powerPreference?: GPUPowerPreference;
  /** Ask for the fallback (software) adapter. */
  software?: boolean;
  /** Bytes that may be held at once. */
  maxBytes?: number;
  /** Where the verdicts of races are kept between runs: `verdictDatabase()` in a page, `verdictFile()` in Node. Default: nowhere. */
  verdicts?: VerdictStore;
}

/** What is known of an adapter, in words and numbers. */
export interface AdapterDescription {
  name: string;
  vendor: string;
  architecture: string;
  description: string;
  /** True on a CPU implementation such as SwiftShader, llvmpipe or WARP. */
  software: boolean;
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|\bwarp\b|basic render|google inc/i;

export function describeAdapter(adapter: GPUAdapter): AdapterDescription {
  const { vendor, architecture, device, description } = adapter.info;
  const words = [vendor, architecture, device, description].filter((w) => w !== "");
  const software = adapter.info.isFallbackAdapter === true || SOFTWARE.test(words.join(" "));
  const name = description || words.join(" ") || "an adapter that does not say its name";
  return { name, vendor, architecture, description, software };
}

/** All of an adapter that a verdict may hang on, and what compiles for it: a browser's next version does it otherwise. */
function adapterKey({ info }: GPUAdapter, device: GPUDevice): string {
  const { vendor, architecture, description, subgroupMinSize, subgroupMaxSize } = info;
  return [
    ...[vendor, architecture, info.device, description],
    `subgroups ${subgroupMinSize}-${subgroupMaxSize}`,
    [...device.features].sort().join(" "),
    `workgroup storage ${device.limits.maxComputeWorkgroupStorageSize}`,
    globalThis.navigator?.userAgent ?? "Node.js",
  ].join("; ");
}

/** Dawn in Node ends, and the process with it, when its GPU is collected: it lives as long as what was made from it. */
const alive = new WeakMap<GPUDevice, GPU>();

/**
 * A machine on the adapter's own limits and features.
 * Throws AdapterError, with the cure, where there is no WebGPU or no adapter.
 */
export async function openGpu(
  options: DeviceOptions = {},
): Promise<{ machine: GpuMachine; adapter: AdapterDescription; limits: GPUSupportedLimits }> {
  const gpu = options.gpu ?? (globalThis.navigator as Navigator | undefined)?.gpu;
  if (!gpu) {
    throw new AdapterError(
      "there is no WebGPU here: use Chrome, Edge or Safari over https or on localhost, or in Node pass `gpu` from the package `webgpu`",
    );
  }
  if (typeof GPUBufferUsage === "undefined") {
    throw new AdapterError(
      "WebGPU's flags (GPUBufferUsage and so on) are not defined: in Node call Object.assign(globalThis, globals), with the globals of the package `webgpu`",
    );
  }
  const adapter = await gpu.requestAdapter({
    ...(options.powerPreference ? { powerPreference: options.powerPreference } : {}),
    ...(options.software ? { forceFallbackAdapter: true } : {}),
  });
  if (!adapter) {
    throw new AdapterError(
      "WebGPU found no adapter: enable hardware acceleration, or start Chrome with --enable-unsafe-webgpu --use-webgpu-adapter=swiftshader for the software adapter",
    );
  }
  const wanted = ["subgroups", "timestamp-query", "shader-f16"] as GPUFeatureName[];
  const requiredFeatures = wanted.filter((f) => adapter.features.has(f));
  const limits: Record<string, number> = {};
  for (const name of [
    "maxBufferSize",
    "maxStorageBufferBindingSize",
    "maxComputeWorkgroupStorageSize",
  ] as const) {
    limits[name] = adapter.limits[name];
  }
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits: limits });
  alive.set(device, gpu);
  const description = describeAdapter(adapter);
  const variants = new VariantTable(description.software ? "cpu" : "gpu", new Set(requiredFeatures));
  const { maxBytes, verdicts } = options;
  const kept = verdicts ? new AdapterVerdicts(verdicts, adapterKey(adapter, device)) : null;
  return {
    machine: new GpuMachine(device, variants, { maxBytes, verdicts: kept }),
    adapter: description,
    limits: device.limits,
  };
}
