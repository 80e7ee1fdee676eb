import type { AdapterDescription } from "../engine/gpuDevice.ts";
import type { Tune } from "../engine/tune.ts";

/** How a run says which adapter it took: test runs, command lines and reports alike. */
export const adapterLine = ({ name, software }: Pick<AdapterDescription, "name" | "software">): string =>
  `adapter: ${name}${software ? ", a software adapter" : ""}`;

/** How variants are chosen where nobody says: races cost a software adapter more than they bring. */
export const usualTune = ({ software }: Pick<AdapterDescription, "software">): Tune =>
  software ? "off" : "cached";
