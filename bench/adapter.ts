import type { AdapterDescription } from "../engine/gpuDevice.ts";

/** How a run says which adapter it took: test runs, command lines and reports alike. */
export const adapterLine = ({ name, software }: Pick<AdapterDescription, "name" | "software">): string =>
  `adapter: ${name}${software ? ", a software adapter" : ""}`;
