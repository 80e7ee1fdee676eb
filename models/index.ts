// Every architecture that longtape runs: a family is in when its line is here.

import type { Family } from "./family.ts";
import { mambaFamily } from "./mamba.ts";

export const families: readonly Family[] = [mambaFamily];
