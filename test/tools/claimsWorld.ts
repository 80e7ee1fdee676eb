// A made-up run in which every architecture behaves as one says.

import type { Findings, Judged } from "../../bench/claims/claim.ts";
import { judgeAll } from "../../bench/claims/index.ts";
import { emptyRow, type Row } from "../../bench/row.ts";
import { timing } from "../../bench/stats.ts";
import { testName } from "../../bench/tests.ts";

/** How a made-up architecture behaves: bytes over the tokens in its context, tokens a second over depth or length. */
interface Behaviour {
  parameters: number;
  state(tokens: number): number;
  /** What alignment adds to the state. */
  padding: number;
  kv(tokens: number): number;
  scratch(tokens: number): number;
  /** Tokens a second of one stream. */
  decode(depth: number): number;
  prompt(length: number): number;
  /** Share of full attention's pairs. */
  pairs: number | null;
  /** Slowest repetition over the fastest. */
  noise: number;
}

export const flat = (value: number) => () => value;
const cell: Behaviour = {
  parameters: 850_000,
  state: flat(2048),
  padding: 0,
  kv: flat(0),
  scratch: flat(300_000),
  decode: flat(500),
  prompt: flat(1400),
  pairs: null,
  noise: 1.02,
};
export const llama: Behaviour = {
  ...cell,
  parameters: 857_216,
  state: flat(0),
  kv: (tokens) => 4096 * tokens,
  scratch: (tokens) => 300_000 + 18.25 * tokens,
  decode: (depth) => 400 / (1 + depth / 1000),
  prompt: (length) => 2000 / (1 + length / 2000),
  pairs: 1,
};
const window: Behaviour = { ...llama, kv: flat(262_144), scratch: flat(300_000), pairs: 0.06 };
const usual: Record<string, Behaviour> = {
  elman: { ...cell, state: flat(3840), padding: 128 },
  gru: cell,
  lstm: { ...cell, state: flat(3584) },
  llama,
  materialised: { ...llama, scratch: (tokens) => llama.scratch(tokens) + 16 * tokens ** 2 },
  "mistral-window": window,
  sinks: window,
  local: { ...llama, pairs: 0.06 },
  strided: { ...llama, pairs: 0.07 },
  "linear-attention": { ...cell, state: flat(67_584), prompt: flat(3000) },
  gla: { ...cell, state: flat(32_768), prompt: flat(3000) },
  mamba: { ...cell, state: flat(116_736), prompt: flat(3000) },
};

export type World = Record<string, Partial<Behaviour>>;

export function rowsOf(changes: World, prompts = [256, 512, 1024]): Row[] {
  return Object.entries(usual).flatMap(([arch, behaviour]) => {
    const b = { ...behaviour, ...changes[arch] };
    const row = (n_prompt: number, n_gen: number, n_depth: number, n_parallel = 1): Row => {
      const context = n_prompt + n_gen + n_depth;
      const rate = n_parallel * (n_prompt > 0 ? b.prompt(n_prompt) : b.decode(n_depth));
      const tokens = n_parallel * (n_prompt + n_gen);
      const figures = {
        mem_weights: 4 * b.parameters,
        mem_state: n_parallel * (b.state(context) + b.padding),
        mem_kv: n_parallel * b.kv(context),
        mem_scratch: n_parallel * b.scratch(context),
      };
      return emptyRow({
        arch,
        model: arch,
        model_n_params: b.parameters,
        test: testName({ n_prompt, n_gen, n_depth }),
        n_prompt,
        n_gen,
        n_depth,
        n_parallel,
        ...timing(
          [1, (1 + b.noise) / 2, b.noise].map((slower) => (slower * tokens * 1e9) / rate),
          tokens,
        ),
        ...figures,
        mem_live: Object.values(figures).reduce((a, b) => a + b),
        closed_state: n_parallel * b.state(context),
        closed_kv: figures.mem_kv,
        theory_pairs: b.pairs === null ? null : Math.round(b.pairs * n_gen * 16 * context),
        nmse_vs_reference: 2e-14,
      });
    };
    return [
      ...prompts.map((length) => row(length, 0, 0)),
      ...[0, 240, 1008, 2032].map((depth) => row(0, 16, depth)),
      ...[2, 4].map((streams) => row(0, 16, 1008, streams)),
    ];
  });
}

export const models: Findings["models"] = {
  elman: { layers: [{ kind: "elman", layers: 2, hidden: 480 }], weights: "elman" },
  gru: { layers: [{ kind: "gru", layers: 2, hidden: 256 }], weights: "gru" },
  lstm: { layers: [{ kind: "lstm", layers: 2, hidden: 224 }], weights: "lstm" },
  llama: { layers: [], weights: "llama" },
  sinks: { layers: [], weights: "llama" },
  "mistral-window": { layers: [], weights: "mistral-window" },
  "linear-attention": {
    layers: [{ kind: "linear", layers: 4, heads: 4, keyDim: 32, valueDim: 32, normaliser: true }],
    weights: "linear-attention",
  },
  gla: {
    layers: [{ kind: "linear", layers: 4, heads: 4, keyDim: 16, valueDim: 32, normaliser: false }],
    weights: "gla",
  },
};
/** The serial form is the faster one, as where few threads run. */
export const race = {
  kernel: "selectiveScan",
  sizes: "B=1 T=64 E=256 N=16 R=8",
  variant: "channels",
  times_ns: { channels: 1.9e6, quad: 3e6, chunks: 3.8e6 },
  kept: false,
};
/** The form that is parallel in time is. */
export const parallelRace = { ...race, variant: "chunks", times_ns: { ...race.times_ns, chunks: 0.95e6 } };

export const found = (changes: World = {}, more: Partial<Findings> = {}): Findings => ({
  rows: rowsOf(changes),
  races: [race],
  models,
  ...more,
});
export const claim = (id: number, findings: Findings): Judged =>
  judgeAll(findings).find((judged) => judged.id === id)!;
export const whole = (all: Record<string, number>): World =>
  Object.fromEntries(
    Object.entries(all).map(([arch, rate]) => [arch, { decode: flat(rate), prompt: flat(rate) }]),
  );
