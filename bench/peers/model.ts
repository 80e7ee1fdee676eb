// A model as peers get it.

import type { ReadWeight } from "../../engine/model.ts";
import type { openConfig } from "../../models/load.ts";
import { type Forward, forwardOf, readStored, toleranceOf } from "./forward.ts";
import { type PeerModel, Unsupported } from "./peer.ts";

/** Reads the weights. A model that peers have no form of is one that throws Unsupported when it is run. */
export async function peerModelOf(
  opened: ReturnType<typeof openConfig>,
  read: ReadWeight,
  { parameters, context }: Pick<PeerModel, "parameters" | "context">,
): Promise<PeerModel> {
  let forward: Forward;
  let weights: PeerModel["weights"] = new Map();
  try {
    forward = forwardOf(opened);
    weights = await readStored(forward, read);
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error;
    forward = () => {
      throw error;
    };
  }
  const { architecture, config } = opened;
  const vocabulary = architecture.vocabulary(config);
  return {
    arch: architecture.name,
    forward,
    vocabulary,
    parameters,
    weights,
    tolerance: toleranceOf(opened),
    context,
  };
}
