// WebGPU in Node: Dawn, through the npm package `webgpu`. Where no Vulkan driver answers (a bare Linux
// machine), the SwiftShader that every Chromium brings is put in its place.
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { AdapterError } from "../engine/errors.ts";
import { type AdapterDescription, describeAdapter } from "../engine/gpuDevice.ts";
import { packedChromium } from "./packedChromium.ts";

export interface NodeGpu {
  gpu: GPU;
  adapter: AdapterDescription;
}

/** Also puts WebGPU's classes and flags (`GPUBufferUsage` and so on) on globalThis, as a browser does. */
export async function dawnInNode(request: { software?: boolean | undefined } = {}): Promise<NodeGpu> {
  const { software = false } = request;
  const onLinux = process.platform === "linux";
  if (!software && (!onLinux || loadVulkan(systemVulkan))) {
    const found = await openDawn();
    if (found) return found;
  }
  if (onLinux) {
    await useSwiftShader();
    const found = await openDawn();
    if (found) return found;
  }
  throw new AdapterError(
    `Dawn in Node found no ${software ? "software " : ""}adapter on ${process.platform} ${process.arch}: install a Vulkan driver, or use Chrome (--runtime chrome)`,
  );
}

/** Held until the process ends: Dawn ends when its GPU object is collected, under all that was made from it. */
const opened: GPU[] = [];

async function openDawn(): Promise<NodeGpu | undefined> {
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  // As --enable-webgpu-developer-features does in Chrome: timestamps that are not rounded.
  const gpu = create(["disable-dawn-features=timestamp_quantization"]);
  opened.push(gpu);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  return adapter ? { gpu, adapter: describeAdapter(adapter) } : undefined;
}

const systemVulkan = "libvulkan.so.1";

const installedSwiftShaders = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
  "/opt/microsoft/msedge/vk_swiftshader_icd.json",
];

async function useSwiftShader(): Promise<void> {
  const hasLoader = loadVulkan(systemVulkan);
  let driver = hasLoader ? installedSwiftShaders.find((file) => existsSync(file)) : undefined;
  if (!driver) {
    const packed = await packedChromium();
    if (!hasLoader) loadVulkan(packed.vulkanLoader);
    driver = packed.swiftShaderDriver;
  }
  // Read whenever a Vulkan instance is made, so this is in time after a first try; the second name is for
  // loaders before 1.3.207.
  process.env.VK_DRIVER_FILES = driver;
  process.env.VK_ICD_FILENAMES = driver;
}

/**
 * Loads a Vulkan loader and keeps it: Dawn later asks for `libvulkan.so.1` by name and gets the one in memory.
 * Node loads any shared library on its way to finding that it is not an addon, which is what it then says.
 */
function loadVulkan(library: string): boolean {
  const keepLoaded = 0x1000; // RTLD_NODELETE of glibc and musl, which Node does not name
  try {
    process.dlopen({ exports: {} }, library, constants.dlopen.RTLD_NOW | keepLoaded);
    return true;
  } catch (error) {
    return error instanceof Error && error.message.includes("did not self-register");
  }
}
