// A peer against the goldens: two prompts, so that what is carried is under test, then the tokens that follow.

import { nmse } from "../../bench/gate.ts";
import { readGolden } from "../../bench/golden.ts";
import { forwardOf, readStored, toleranceOf } from "../../bench/peers/forward.ts";
import type { Peer, PeerModel } from "../../bench/peers/peer.ts";
import { openCheckpoint } from "../../models/checkpoint.ts";
import { openConfig } from "../../models/load.ts";
import type { Source } from "../../models/source.ts";

export const PEER_GOLDENS = [
  "elman",
  "gru",
  "lstm",
  "llama",
  "mistral-window",
  "linear-attention",
  "gla",
  "mamba",
  "falcon-mamba",
  "jamba",
];

export interface PeerAgreement {
  /** What may be found. */
  most: number;
  /** Of the logits after either prompt and after the last token. */
  nmse: number;
  greedy: number[];
  wanted: readonly number[];
}

/** `tokens`: only as many of the prompt, and nothing after them. */
export async function goldenModel(source: Source, tokens?: number) {
  const checkpoint = await openCheckpoint(source);
  const opened = openConfig(checkpoint.config);
  const forward = forwardOf(opened);
  const { inputs, logits, greedy, T, V } = await readGolden(source);
  const model: PeerModel = {
    arch: opened.architecture.name,
    forward,
    vocabulary: V,
    parameters: 0,
    tolerance: toleranceOf(opened),
    weights: await readStored(forward, (tensor, shape) => checkpoint.read(tensor, shape)),
    // and the tokens that tests go on with
    context: T + greedy[0]!.length + 8,
  };
  return {
    model,
    ids: inputs[0]!.slice(0, tokens),
    logits: logits.subarray(0, T * V),
    greedy: tokens === undefined ? greedy[0]! : [],
  };
}

/** Loads the model, feeds it, and leaves it loaded. */
export async function againstGolden(
  peer: Peer,
  { model, ids, logits, greedy: wanted }: Awaited<ReturnType<typeof goldenModel>>,
): Promise<PeerAgreement> {
  const { vocabulary: V } = model;
  await peer.load(model);
  const half = Math.ceil(ids.length / 2);
  const after = (count: number) => logits.subarray((count - 1) * V, count * V);
  await peer.prefill(ids.slice(0, half));
  const first = await peer.logits();
  await peer.prefill(ids.slice(half));
  const second = await peer.logits();
  const greedy: number[] = [];
  while (greedy.length < wanted.length) greedy.push(await peer.step());
  const expected = Float32Array.from([...after(half), ...after(ids.length)]);
  return { most: model.tolerance.nmse, nmse: nmse(expected, [first, second]), greedy, wanted };
}

const two = async (peer: Peer): Promise<number[]> => [await peer.step(), await peer.step()];

/** Two tokens, each time from the same place: as they come, rolled back on the device, and saved for the model that is loaded anew. */
export async function twoFromOnePlace(peer: Peer, model: PeerModel): Promise<Record<string, number[]>> {
  const saved = await peer.save();
  peer.mark();
  const first = await two(peer);
  peer.rollback();
  const rolledBack = await two(peer);
  await peer.dispose();
  await peer.load(model);
  await peer.restore(saved!);
  peer.mark();
  const restored = await two(peer);
  peer.rollback();
  return { first, rolledBack, restored, restoredAgain: await two(peer) };
}

/** What `twoFromOnePlace` has to give. */
export const theSame = (found: Record<string, number[]>) => {
  const { first } = found;
  return Object.fromEntries(Object.keys(found).map((name) => [name, first]));
};
