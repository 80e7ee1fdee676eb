// Which rows of a run a claim is tested by.

import type { Row } from "../row.ts";

/**
 * `prompt`: prompts of several lengths into an empty context. `decode`: generation at several depths. `streams`: the same
 * generation in several streams.
 */
export type Kind = "prompt" | "decode" | "streams";

/** Rows of one architecture, of at least so many sizes. */
export interface Need {
  arch: string;
  kind: Kind;
  least: number;
  /** A figure that each row must have. */
  figure?: "theory_pairs";
}

export const prompts = (arch: string, least = 3): Need => ({ arch, kind: "prompt", least });
export const decodes = (arch: string, least = 3): Need => ({ arch, kind: "decode", least });
export const streams = (arch: string, least = 2): Need => ({ arch, kind: "streams", least });

const words: Record<Kind, string> = {
  prompt: "prompt lengths at depth 0",
  decode: "depths of generation",
  streams: "numbers of streams at one depth",
};

export const kinds = Object.keys(words) as Kind[];

const sizes: Record<Kind, (row: Row) => number> = {
  prompt: (row) => row.n_prompt,
  decode: (row) => row.n_depth,
  streams: (row) => row.n_parallel,
};

/** The rows that meet a need, one a size, by size. */
export function select({ arch, kind, figure }: Omit<Need, "least">, rows: readonly Row[]): Row[] {
  const measured = candidates(arch, kind, rows).filter(
    (row) => row.status === "ok" && row.avg_ns !== null && row.mem_live !== null,
  );
  const complete = figure ? measured.filter((row) => row[figure] !== null) : measured;
  const bySize = new Map(complete.map((row) => [sizes[kind](row), row]));
  return [...bySize.values()].sort((a, b) => sizes[kind](a) - sizes[kind](b));
}

/** What is missing, in words; null where nothing is. */
export function unmet(need: Need, rows: readonly Row[]): string | null {
  const { arch, kind, least, figure } = need;
  const found = select(need, rows).length;
  if (found >= least) return null;
  const broken = candidates(arch, kind, rows)
    .filter(({ status }) => status !== "ok")
    .map(({ test, status, reason }) => `${test} ${status}${reason ? `: ${reason}` : ""}`);
  const because = broken.length > 0 ? ` (${broken.join("; ")})` : "";
  return `${arch}: ${found} of ${least} ${words[kind]}${figure ? ` with ${figure}` : ""}${because}`;
}

function candidates(arch: string, kind: Kind, rows: readonly Row[]): Row[] {
  const own = rows.filter((row) => row.arch === arch && row.peer === "longtape");
  if (kind === "prompt")
    return own.filter((row) => row.n_gen === 0 && row.n_depth === 0 && row.n_parallel === 1);
  const generated = own.filter((row) => row.n_prompt === 0 && row.n_gen > 0);
  if (kind === "decode") return generated.filter((row) => row.n_parallel === 1);
  const depths = generated.filter((row) => row.n_parallel > 1).map((row) => row.n_depth);
  return generated.filter((row) => row.n_depth === Math.max(...depths));
}
