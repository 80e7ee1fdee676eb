import { createEngine } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";
import { stateCases } from "./tools/stateCases.ts";

stateCases(
  () => createEngine(),
  (name) => urlSource(new URL(`/test/goldens/${name}/`, location.href)),
);
