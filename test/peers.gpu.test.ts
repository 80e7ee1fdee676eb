// Every runtime in a page, for a few tokens: the wiring that Node's tests do not see.

import { describe, expect, test } from "vitest";
import { startCounting } from "../bench/meters/asked.ts";
import { countDispatches } from "../bench/meters/dispatches.ts";
import { openPeer, type RivalName } from "../bench/peers/index.ts";
import { urlSource } from "../models/source.ts";
import { againstGolden, goldenModel, theSame, twoFromOnePlace } from "./tools/peers.ts";

/** From 32 tokens on a run, ORT's attention is another. */
const PROMPT = 80;
const shipped = (name: string) => urlSource(new URL(`/models/checkpoints/${name}/`, location.href));

describe.each<RivalName>(["ort-webgpu", "ort-wasm", "tfjs-webgpu"])("%s", (name) => {
  test.each(["gru", "llama", "linear-attention", "mamba"])("%s gives the golden logits", async (arch) => {
    await startCounting();
    const { peer, version } = await openPeer(name);
    expect(version).toMatch(/^\d+\.\d+\.\d+/);
    const golden = await goldenModel(shipped(arch), PROMPT);
    const found = await againstGolden(peer, golden);
    expect(found.nmse).toBeLessThanOrEqual(found.most);
    expect(found.greedy).toEqual(found.wanted);

    const places = await twoFromOnePlace(peer, golden.model);
    expect(places).toEqual(theSame(places));
    await peer.dispose();
  });

  test("is counted from outside", async () => {
    const counter = await startCounting();
    const { peer } = await openPeer(name);
    const { model, ids } = await goldenModel(shipped("gru"));
    const weights = [...model.weights.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    await peer.load(model);
    await peer.prefill(ids.slice(0, 4));
    const dispatches = await countDispatches(async () => {
      await peer.step();
    });
    if (peer.device) {
      // what a test before gave back, runtimes keep and use again
      expect(counter.bytes(peer.device)).toBeGreaterThanOrEqual(weights);
      expect(counter.peak(peer.device)).toBeGreaterThanOrEqual(counter.bytes(peer.device));
      expect(dispatches).toBeGreaterThan(5);
      expect(peer.fallbacks()).toEqual([]);
    } else expect(dispatches).toBe(0);
    expect(peer.memory() ?? weights).toBeGreaterThanOrEqual(weights);
    await peer.dispose();
  });
});
