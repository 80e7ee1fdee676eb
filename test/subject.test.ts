import { expect, test } from "vitest";
import { benchArchs } from "../bench/shipped.ts";
import { subjectsOf } from "../bench/subject.ts";
import { namedHybrid } from "../models/hybridConfig.ts";

const files: Record<string, string[]> = {
  "models/tiny": ["config.json", "model.safetensors"],
  "/far/sizes/": ["config.json"],
};
const subjects = (models: string[], archs: string[] = []) =>
  subjectsOf({ models, archs }, "shipped", (folder) => files[folder] ?? []);

test("nothing named: all that is shipped", () => {
  expect(subjects([]).map(({ arch }) => arch)).toEqual(benchArchs);
});

test("an architecture without weights of its own runs another's, its configuration overlaid", () => {
  expect(subjects([], ["strided", "llama"])).toEqual([
    {
      arch: "strided",
      model: "strided",
      folder: "shipped/llama",
      seededConfig: null,
      overlay: { longtape_attention: { pattern: "strided", stride: 64 } },
    },
    { arch: "llama", model: "llama", folder: "shipped/llama", seededConfig: null, overlay: null },
  ]);
});

test("a folder is a checkpoint; its architecture is known when it is opened", () => {
  expect(subjects(["models/tiny", "nowhere"], ["gru"])).toEqual([
    { arch: "gru", model: "gru", folder: "shipped/gru", seededConfig: null, overlay: null },
    { arch: "", model: "tiny", folder: "models/tiny", seededConfig: null, overlay: null },
    { arch: "", model: "nowhere", folder: "nowhere", seededConfig: null, overlay: null },
  ]);
});

test("a configuration, or a folder with nothing else in it, has its weights seeded", () => {
  expect(subjects(["/far/sizes/", "models/tiny/config.json", "wide.json"])).toEqual([
    { arch: "", model: "sizes (seeded)", folder: "/far/sizes/", seededConfig: "config.json", overlay: null },
    { arch: "", model: "tiny (seeded)", folder: "models/tiny/", seededConfig: "config.json", overlay: null },
    { arch: "", model: "wide (seeded)", folder: ".", seededConfig: "wide.json", overlay: null },
  ]);
});

test("a hybrid is named by its layers, and has a configuration in the place of a folder", () => {
  const [hybrid] = subjects([], ["hybrid:mamba*3+attn"]);
  expect(hybrid).toEqual({
    arch: "hybrid:mamba*3+attn",
    model: "hybrid:mamba*3+attn (seeded)",
    folder: "",
    seededConfig: namedHybrid("hybrid:mamba*3+attn").config,
    overlay: null,
  });
});
