// What the bench asks of a runtime that it compares: one model, one stream. Another runtime is one more file beside this.

import type { Forward } from "./forward.ts";

/** A model as a peer gets it: the same configuration, the checkpoint's own weights. */
export interface PeerModel {
  /** longtape's name of the architecture. */
  arch: string;
  forward: Forward;
  /** V: logits of a token. */
  vocabulary: number;
  parameters: number;
  /** By the checkpoint's name: f32, row-major. */
  weights: ReadonlyMap<string, Float32Array>;
  /** Normalised mean squared error of logits that may be timed, and why it is more than PEER_NMSE, where it is. */
  tolerance: { nmse: number; reason: string | null };
  /** Tokens that the stream will hold at most; a cache of a fixed size is made for these. */
  context: number;
}

export interface Peer {
  /** Settings that its figures hang on, as a reader would repeat them. */
  readonly settings: string;
  /** The device that it computes on, for the meter; null where it computes on the CPU. */
  readonly device: GPUDevice | null;
  /** Throws Unsupported where the runtime cannot run the model, in the runtime's own words. */
  load(model: PeerModel): Promise<void>;
  /** Empties the stream. */
  reset(): Promise<void>;
  /** Remembers where the stream stands; a mark takes the place of the one before. */
  mark(): void;
  /** Puts the stream back to where it was marked, as often as that is asked. */
  rollback(): void;
  /** What the stream holds, in JavaScript's memory, or null where it is empty: a depth is fed once, and outlives the model. */
  save(): Promise<Saved | null>;
  /** Puts the stream where it was saved: of the same model, though it was loaded anew. */
  restore(saved: Saved): Promise<void>;
  /** Appends these tokens; over when the device has done it. */
  prefill(ids: readonly number[]): Promise<void>;
  /** The likeliest next token, which is appended: over when its id is in JavaScript. After a prefill. */
  step(): Promise<number>;
  /** f32 [V]: after the last token. */
  logits(): Promise<Float32Array>;
  /** Bytes by its own count; null where it has none. */
  memory(): number | null;
  /** Operators of this model that ran on the CPU where the GPU was asked for. */
  fallbacks(): string[];
  /** What else a row of this model has to say beside its figures. */
  remarks(): string[];
  /** All that the runtime has for giving back what the model holds. */
  dispose(): Promise<void>;
}

/** Where a stream stood: its states by name, the id that comes next, the tokens that it held. */
export interface Saved {
  states: ReadonlyMap<string, { data: Float32Array; dims: readonly number[] }>;
  id: number;
  position: number;
}

/** Of a peer's logits, against those of other people's code: f32 in another order stays below. */
export const PEER_NMSE = 1e-6;

/** A model that a runtime cannot run. */
export class Unsupported extends Error {
  override name = "Unsupported";
}

/** Names on the command line, and what runs each. */
export const PEERS = ["longtape", "ort-webgpu", "ort-wasm", "tfjs-webgpu"] as const;
export type PeerName = (typeof PEERS)[number];

/** Tokens of the prompt, and generated after it, before a browser of its own is measured. */
export const HELD_TOKENS = { prompt: 64, generated: 8 };
