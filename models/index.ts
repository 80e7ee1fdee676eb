// Every architecture that longtape runs: a family is in when its line is here.

import type { Family } from "./family.ts";
import { hybridFamily, jambaFamily } from "./hybrid.ts";
import { glaFamily, linearAttentionFamily } from "./linearAttention.ts";
import { mambaFamily } from "./mamba.ts";
import { rnnFamily } from "./rnn.ts";
import { transformerFamily } from "./transformer.ts";

export const families: readonly Family[] = [
  glaFamily,
  hybridFamily,
  jambaFamily,
  linearAttentionFamily,
  mambaFamily,
  rnnFamily,
  transformerFamily,
];
