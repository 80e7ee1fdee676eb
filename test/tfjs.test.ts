import * as tf from "@tensorflow/tfjs";
import { expect, test } from "vitest";
import { openTfjs } from "../bench/peers/tfjs.ts";
import { directorySource } from "../models/directory.ts";
import { againstGolden, goldenModel, PEER_GOLDENS } from "./tools/peers.ts";

test.each(PEER_GOLDENS)(
  "%s in TensorFlow.js gives the golden logits, and holds no more from step to step",
  async (name) => {
    const { peer } = await openTfjs("cpu");
    const before = tf.memory().numTensors;
    const found = await againstGolden(peer, await goldenModel(directorySource(`test/goldens/${name}`)));
    expect(found.nmse).toBeLessThanOrEqual(found.most);
    expect(found.greedy).toEqual(found.wanted);

    const held = tf.memory().numTensors;
    await peer.step();
    expect(tf.memory().numTensors).toBe(held);
    peer.mark();
    const ahead = [await peer.step(), await peer.step()];
    peer.rollback();
    expect([await peer.step(), await peer.step()]).toEqual(ahead);
    await peer.dispose();
    expect(tf.memory().numTensors).toBe(before);
  },
);
