// WGSL that the variants of the recurrence share.

import { cursorWgsl } from "../../engine/cursor.ts";
import type { Sizes } from "../../engine/kernel.ts";
import { ceilDiv } from "../../engine/tensor.ts";
import { featureWgsl } from "../featureMap.ts";
import type { Recurrence, RecurrenceLetter } from "../recurrence.ts";

export type S = Sizes<RecurrenceLetter>;

export const range = (n: number) => Array.from({ length: n }, (_, i) => i);
/** Text for i = 0..n-1. */
export const each = (n: number, text: (i: number) => string) => range(n).map(text).join(" ");
export const lines = (n: number, text: (i: number) => string) => range(n).map(text).join("\n      ");
export const when = (on: boolean, text: string) => (on ? text : "");
export const largestDivisor = (n: number, limit: number) =>
  range(limit).findLast((i) => n % (i + 1) === 0)! + 1;

/** What all variants start with: the feature map, and where a head's columns start in qkv. */
export const sharedWgsl = (r: Recurrence) => `${cursorWgsl}
const G = Hq / Hk;
const SCALE = inverseSqrt(f32(Dk));
${featureWgsl[r.featureMap]}
fn queries(token: u32, h: u32) -> u32 { return token * (W4 * 4u) + h * G * Dk; }
fn keys(token: u32, h: u32) -> u32 { return token * (W4 * 4u) + (Hq + h) * Dk; }
fn values(token: u32, h: u32) -> u32 { return token * (W4 * 4u) + (Hq + Hk) * Dk + h * Dv; }
`;

/** Vec4 columns of a head's state that a thread takes, up to `most`: they share what it reads of k and q. */
export const columnsOf = ({ Dv }: S, most: number) => largestDivisor(ceilDiv(Dv, 4), most);

/** Past the end of a head's values the padding of the state's rows is kept at what it was. */
export const valueText = ({ Dv }: S, at: string, column: string) =>
  Dv % 4 === 0 ? `qkv[${at}]` : `select(0.0, qkv[${at}], ${column} < Dv)`;
