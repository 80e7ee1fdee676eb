/** What an adapter is called in every row, report and test run, whichever implementation gave it. */
export interface AdapterName {
  description: string;
  /** True for SwiftShader, llvmpipe and WARP: WebGPU run by the processor. */
  software: boolean;
}

type AdapterFields = Pick<
  GPUAdapterInfo,
  "vendor" | "architecture" | "device" | "description" | "isFallbackAdapter"
>;

/**
 * Chrome gives the device's name as `description` and a PCI number as `device`, Dawn in Node the driver's name
 * and the device's: show every part but the number.
 */
export function nameAdapter(info: AdapterFields): AdapterName {
  const device = info.device.startsWith("0x") ? "" : info.device.replace(/-+$/, "");
  const codes = [info.vendor, info.architecture, device].filter(Boolean).join(" ");
  const description = info.description ? `${info.description} (${codes})` : codes;
  return {
    description: description || "an adapter that does not say its name",
    software:
      info.isFallbackAdapter || /swiftshader|llvmpipe|lavapipe|basic render|\bwarp\b/i.test(description),
  };
}

export function adapterLine(adapter: AdapterName): string {
  return `adapter: ${adapter.description}${adapter.software ? ", a software adapter" : ""}`;
}

/** No WebGPU adapter where one was needed; the message carries the cure. */
export class NoAdapterError extends Error {
  override name = "NoAdapterError";
}
