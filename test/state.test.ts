import { directorySource } from "../models/directory.ts";
import { createEngine } from "../models/engine.ts";
import { stateCases } from "./tools/stateCases.ts";

stateCases(
  () => createEngine({ machine: "cpu" }),
  (name) => directorySource(new URL(`goldens/${name}`, import.meta.url).pathname),
);
