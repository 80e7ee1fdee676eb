import { expect, test } from "vitest";
import { startCounting } from "../bench/meters/asked.ts";
import { openOrt } from "../bench/peers/ort.ts";
import { urlSource } from "../models/source.ts";
import { goldenModel } from "./tools/peers.ts";

test("debug ort", async () => {
  const counter = await startCounting();
  const { getWebGPUMemoryUsage } = await import("webgpu-memory");
  const { peer } = await openOrt("webgpu");
  console.log(
    "opened",
    counter.bytes(peer.device!),
    JSON.stringify(getWebGPUMemoryUsage()),
    JSON.stringify(getWebGPUMemoryUsage(peer.device!)),
  );
  const { model, ids } = await goldenModel(urlSource(new URL("/test/goldens/gru/", location.href)));
  await peer.load(model);
  console.log("loaded", counter.bytes(peer.device!), JSON.stringify(getWebGPUMemoryUsage()), peer.remarks());
  await peer.prefill(ids);
  console.log(await peer.step(), await peer.step());
  await peer.dispose();
  console.log("disposed", JSON.stringify(getWebGPUMemoryUsage().memory));
  await peer.load(model).catch((e) => console.log("again", e.stack));
  await peer.prefill(ids);
  console.log(await peer.step(), await peer.step());
  expect(1).toBe(1);
});
