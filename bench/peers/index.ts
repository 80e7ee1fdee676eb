// The runtimes that can be compared, each loaded when it is asked for.

import type { Peer, PeerName } from "./peer.ts";

export interface Opened {
  peer: Peer;
  version: string;
}

export type RivalName = Exclude<PeerName, "longtape">;

const openers: Record<RivalName, () => Promise<Opened>> = {
  "ort-webgpu": async () => (await import("./ort.ts")).openOrt("webgpu"),
  "ort-wasm": async () => (await import("./ort.ts")).openOrt("wasm"),
  "tfjs-webgpu": async () => (await import("./tfjs.ts")).openTfjs("webgpu"),
};

/** Throws what the runtime throws where it finds no device. */
export const openPeer = (name: RivalName): Promise<Opened> => openers[name]();
