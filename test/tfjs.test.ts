import * as tf from "@tensorflow/tfjs";
import { expect, test } from "vitest";
import { openTfjs } from "../bench/peers/tfjs.ts";
import { directorySource } from "../models/directory.ts";
import { againstGolden, goldenModel, PEER_GOLDENS, theSame, twoFromOnePlace } from "./tools/peers.ts";

test.each(PEER_GOLDENS)(
  "%s in TensorFlow.js gives the golden logits, and holds no more from step to step",
  async (name) => {
    const { peer } = await openTfjs("cpu");
    const before = tf.memory().numTensors;
    const golden = await goldenModel(directorySource(`test/goldens/${name}`));
    const found = await againstGolden(peer, golden);
    expect(found.nmse).toBeLessThanOrEqual(found.most);
    expect(found.greedy).toEqual(found.wanted);

    const held = tf.memory().numTensors;
    await peer.step();
    expect(tf.memory().numTensors).toBe(held);
    const places = await twoFromOnePlace(peer, golden.model);
    expect(places).toEqual(theSame(places));
    await peer.dispose();
    expect(tf.memory().numTensors).toBe(before);
  },
);
