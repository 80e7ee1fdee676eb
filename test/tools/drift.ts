// `npx tsx test/tools/drift.ts [TOKENS [CHUNK [VARIANT]]]`: how far the sums of the shipped linear attention's first layer
// drift from doubles over the shipped text, at powers of two from 1,024 tokens on, on Dawn in Node. Only the recurrence's
// kernel runs, CHUNK tokens at a time (default 512; 1 is decode); VARIANT: its form, where not the default.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DriftMeter, tensorOf } from "../../bench/drift.ts";
import { fillFor } from "../../bench/fill.ts";
import { dawnInNode } from "../../bench/node.ts";
import { TEXT_FILE } from "../../bench/runtime.ts";
import type { GpuMachine } from "../../engine/gpu.ts";
import { bindingSpec, constantsKey } from "../../engine/kernel.ts";
import { record } from "../../engine/plan.ts";
import { Workspace } from "../../engine/workspace.ts";
import { linearAttention } from "../../kernels/linearAttention.ts";
import { cursorOf } from "../../kernels/reference/cursor.ts";
import type { LinearAttentionConfig } from "../../models/configs.ts";
import { directorySource } from "../../models/directory.ts";
import { createEngine } from "../../models/engine.ts";
import { project } from "./command.ts";

const tokens = Number(process.argv[2] ?? 2 ** 20);
const T = Number(process.argv[3] ?? 512);
const variant = process.argv[4];
/** Runs between two waits for the GPU. */
const BURST = 64;

const checkpoints = join(project, "models/checkpoints");
const { gpu } = await dawnInNode();
const engine = await createEngine({ gpu });
const machine = engine.machine as GpuMachine;
const model = await engine.load(directorySource(join(checkpoints, "linear-attention")), { tune: "off" });
const fill = await fillFor(model, await readFile(join(checkpoints, TEXT_FILE), "utf8"), tokens, 0);
const meter = (await DriftMeter.open(model))!;

const { heads, kvHeads, keyDim, valueDim, featureMap } = model.loaded.config as LinearAttentionConfig;
const W = (heads + kvHeads) * keyDim + kvHeads * valueDim;
const sizes = { B: 1, T, Hq: heads, Hk: kvHeads, Dk: keyDim, Dv: valueDim, W };
const kernel = linearAttention({ featureMap, normalise: true });
const tensor = (name: keyof typeof kernel.bindings) =>
  tensorOf(name, bindingSpec(kernel.bindings[name], sizes));
const tensors = {
  qkv: tensor("qkv"),
  cursor: tensor("cursor"),
  state: tensor("state"),
  keySum: tensor("keySum"),
  o: tensor("o"),
  denominator: tensor("denominator"),
};
if (variant) machine.variants.verdicts.set(constantsKey(kernel, sizes), variant);
const plan = record("drift", (m) => m.run(kernel, tensors, sizes));
const workspace = new Workspace(machine, [plan]);
await machine.allocate(Object.values(tensors).flatMap(({ storages }) => storages));
await workspace.open();
machine.write(tensors.cursor, cursorOf([[0, T]]));
const run = workspace.run(plan, { first: 0, last: 0 });
await machine.prepare(run.dispatches);

console.log(
  `adapter: ${engine.adapter!.name}; ${machine.variants.choose(kernel, sizes)}, ${T} tokens at a time`,
);
console.log("tokens     state     keySum    outputs");
let reported = 1024;
for (let held = 0; held < tokens; ) {
  const ids = fill.ids(T, held);
  machine.write(tensors.qkv, meter.inputs(ids));
  machine.submit([run]);
  meter.add(ids);
  held += T;
  if ((held / T) % BURST === 0) await machine.idle();
  if (held < reported) continue;
  reported *= 2;
  const drift = meter.ofSums(await machine.read(tensors.state), await machine.read(tensors.keySum));
  const errors = [drift.state, drift.keySum!, drift.outputs];
  console.log(`${String(held).padEnd(10)} ${errors.map((x) => x.toExponential(2)).join("   ")}`);
}
engine.destroy();
