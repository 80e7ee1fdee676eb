// What npm run bench -- --kernels finds of one variant of one kernel at one size.

import type { Status } from "../row.ts";

export interface KernelTime {
  kernel: string;
  /** Letters as text: "M=1 I=128 O=384 eps=0.000001". */
  sizes: string;
  used_by: string[];
  variant: string;
  /** The class of adapter that it is meant for. */
  suits: "cpu" | "gpu" | "any";
  status: Status;
  reason: string | null;
  /** Against the reference, the worst of the variant's cases: normalised mean squared error. */
  nmse: number | null;
  /** That must move whatever the variant, and floating-point operations. */
  bytes: number;
  flops: number;
  dispatches: number | null;
  /** By turns with the other variants. */
  rounds: number;
  /** Of one run: fastest and median of the rounds. */
  min_ns: number | null;
  median_ns: number | null;
  /** In the fastest round. */
  gbs: number | null;
  gflops: number | null;
  /** What the roofs allow: the larger of bytes by bandwidth and FLOPs by arithmetic, and the dispatches. */
  roof_ns: number | null;
  /** That over the fastest. */
  of_roof: number | null;
  /** The fastest of the variants here. */
  won: boolean;
}

/** What the adapter can do at best, measured in the same run. */
export interface Roofs {
  /** 1e9 bytes a second, by the best read kernel. */
  read_gbs: number;
  /** 1e9 floating-point operations a second, by the best multiply-add kernel. */
  gflops: number;
  /** Nanoseconds of one more empty dispatch in a pass. */
  dispatch_ns: number;
}

export interface Target {
  /** What is held against what. */
  figure: string;
  wanted: number;
  /** Is less better? */
  most: boolean;
  found: number | null;
  /** Why there is none, or how it was found. */
  how: string;
}

export const isReached = ({ wanted, most, found }: Target): boolean =>
  found !== null && (most ? found <= wanted : found >= wanted);

/** Is it one of these, by its whole name or by what stands before its options? `linear` takes in `linear[norm]`; none, all. */
export const isNamed = (kernel: { name: string }, names: readonly string[]): boolean =>
  names.length === 0 || names.some((name) => kernel.name === name || kernel.name.startsWith(`${name}[`));
