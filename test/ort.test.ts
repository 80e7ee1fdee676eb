import { expect, test } from "vitest";
import { openOrt, placedOnCpu } from "../bench/peers/ort.ts";
import { Unsupported } from "../bench/peers/peer.ts";
import { directorySource } from "../models/directory.ts";
import { againstGolden, goldenModel, PEER_GOLDENS, theSame, twoFromOnePlace } from "./tools/peers.ts";

/** The tiny ones have heads of 8, which ORT's attention does not take. */
const LARGER_HEADS = ["llama", "mistral-window", "jamba"];

test.each(PEER_GOLDENS)("%s as an ONNX graph gives the golden logits in ORT", async (name) => {
  const { peer } = await openOrt("wasm");
  const folder = LARGER_HEADS.includes(name) ? "models/checkpoints" : "test/goldens";
  const golden = await goldenModel(directorySource(`${folder}/${name}`));
  const found = await againstGolden(peer, golden);
  expect(found.nmse).toBeLessThanOrEqual(found.most);
  expect(found.greedy).toEqual(found.wanted);

  const places = await twoFromOnePlace(peer, golden.model);
  expect(places).toEqual(theSame(places));
  expect(peer.memory()).toBeGreaterThan(0);
  await peer.dispose();
});

test("heads that ORT's attention does not take are said so", async () => {
  const { peer } = await openOrt("wasm");
  const { model } = await goldenModel(directorySource("test/goldens/llama"));
  await expect(peer.load(model)).rejects.toThrow(Unsupported);
});

test("nodes that ORT placed on the CPU are found in its log", () => {
  const lines = [
    "Node(s) placed on [WebGpuExecutionProvider]. Number of nodes: 2",
    "  MatMul (MatMul_1)",
    "  Add (Add_2)",
    "Node(s) placed on [CPUExecutionProvider]. Number of nodes: 3",
    "  Gather (Gather_0)",
    "  RNN (RNN_3)",
    "  RNN (RNN_4)",
  ];
  expect(placedOnCpu(lines)).toEqual(["Gather ran on the CPU (1)", "RNN ran on the CPU (2)"]);
  expect(placedOnCpu(lines.slice(0, 3))).toEqual([]);
});
