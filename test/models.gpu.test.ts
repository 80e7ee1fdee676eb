// Every folder of goldens and checkpoints, beside the numbers that other people's code computed from it.

import { afterAll, beforeAll, expect, test } from "vitest";
import { NMSE_LIMIT, verifyFolder } from "../bench/golden.ts";
import { total } from "../engine/memory.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";
import { checkpoints, goldens } from "./tools/folders.ts";

const folders = [
  ...goldens.map((name) => `test/goldens/${name}`),
  ...checkpoints.map((name) => `models/checkpoints/${name}`),
];

let engine: Engine;
let cpu: Engine;
beforeAll(async () => {
  engine = await createEngine();
  cpu = await createEngine({ machine: "cpu" });
});
afterAll(() => engine.destroy());

test("there are folders to verify", () => {
  expect(folders.length).toBeGreaterThanOrEqual(19);
});

test.each(folders)("%s", async (folder) => {
  const source = urlSource(new URL(`/${folder}/`, location.href));
  const verdict = await verifyFolder(engine, cpu, source, { tune: "off" });
  expect(verdict.reason).toBeNull();
  expect(verdict.ok).toBe(true);
  for (const found of [verdict.gpu, verdict.cpu]) {
    expect(found!.nmse).toBeLessThanOrEqual(NMSE_LIMIT);
    expect(found!.greedy).toBe(true);
  }
  expect(total(engine.memory()), "bytes left on the device").toBe(0);
});
