// What kernels and whole tokens must reach, and what they do: each a ratio of two times of the same run.

import type { GpuMachine } from "../../engine/gpu.ts";
import type { AnyKernel, Sizes } from "../../engine/kernel.ts";
import { Ledger } from "../../engine/ledger.ts";
import type { Model } from "../../engine/model.ts";
import { sketch } from "../../engine/rehearsal.ts";
import { Session } from "../../engine/session.ts";
import type { StoredType } from "../../engine/tiles.ts";
import { Trial } from "../../engine/trial.ts";
import { attention } from "../../kernels/attention.ts";
import { linear } from "../../kernels/linear.ts";
import { linearAttention } from "../../kernels/linearAttention.ts";
import { scanColumns, selectiveScan } from "../../kernels/selectiveScan.ts";
import type { Config } from "../../models/config.ts";
import { loadRandom, openConfig } from "../../models/load.ts";
import { failure } from "../failure.ts";
import type { Roof } from "../meters/roof.ts";
import { theoryOf } from "../meters/theory.ts";
import { median } from "../stats.ts";
import type { Test } from "../tests.ts";
import { generateTimed, prefillTimed } from "../timed.ts";
import type { KernelTime, Target } from "./kernelTime.ts";
import type { KernelBench } from "./measure.ts";
import { plainLinear, type Rival, recurrence, rivals } from "./rivals.ts";

/** What figures are found with. */
interface Place {
  machine: GpuMachine;
  roof: Roof;
  bench: KernelBench;
}
type Find = (place: Place) => Promise<{ found: number; how: string }>;

interface Aim {
  figure: string;
  wanted: number;
  most?: true;
  /** The class of adapter that it is asked of; without one, of all. */
  on?: "cpu" | "gpu";
  find: Find;
}

const timed = async ({ bench }: Place, kernel: AnyKernel, sizes: Sizes, suitable = true) => {
  const times = await bench.measure({ kernel, sizes, usedBy: [] }, suitable);
  const bad = times.find(({ status }) => status !== "ok");
  if (bad) throw new Error(`${bad.kernel}/${bad.variant}: ${bad.reason}`);
  return times;
};

const fastest = (times: readonly KernelTime[]): KernelTime => times.find(({ won }) => won)!;

/** A rival and the fastest of the others, at the same sizes and by turns. */
async function duel(place: Place, kernel: AnyKernel, rival: string, sizes: Sizes) {
  const times = await timed(place, kernel, sizes, false);
  const theirs = times.find(({ variant }) => variant === rival)!;
  const ours = times.filter((time) => time !== theirs).reduce((a, b) => (b.min_ns! < a.min_ns! ? b : a));
  return { ours, theirs, times: theirs.min_ns! / ours.min_ns! };
}

/** The fastest of ours over one variant. */
const against =
  (kernel: AnyKernel, rival: string, sizes: Sizes): Find =>
  async (place) => {
    const { ours, times } = await duel(place, kernel, rival, sizes);
    return { found: times, how: `${ours.variant} against ${rival}` };
  };

const rivalTo = (name: string): Rival => rivals.find(({ kernel }) => kernel.name.startsWith(name))!;

const rival = (name: string, sizes: Sizes): Find => {
  const { kernel, rival } = rivalTo(name);
  return against(kernel, rival, sizes);
};

/** The plain product is a kernel of its own. The one with its sizes compiled in is told beside it. */
const plainProduct =
  (sizes: Sizes): Find =>
  async (place) => {
    const plain = fastest(await timed(place, plainLinear, sizes));
    const { kernel, rival } = rivalTo("linear");
    const { ours, times } = await duel(place, kernel, rival, sizes);
    return {
      found: plain.min_ns! / ours.min_ns!,
      how: `${ours.variant} against ${plain.variant}; ${times.toFixed(1)} times one with its sizes compiled in`,
    };
  };

const roofText = ({ roof }: Place) => `the roof is ${roof.readGbs.toPrecision(2)} GB/s`;

/** A share of the read roof: the least of several sizes. */
const product =
  (...sides: number[]): Find =>
  async (place) => {
    const shares: string[] = [];
    let found = Number.POSITIVE_INFINITY;
    for (const side of sides) {
      const time = fastest(await timed(place, linear({}), { M: 1, I: side, O: side, eps: 0 }));
      const share = time.gbs! / place.roof.readGbs;
      shares.push(`${side}x${side}: ${share.toFixed(2)} (${time.variant})`);
      found = Math.min(found, share);
    }
    return { found, how: `${shares.join(", ")}; ${roofText(place)}` };
  };

/** A variant of a kernel at sizes. */
interface Piece {
  kernel: AnyKernel;
  sizes: Sizes;
  variant: string;
}

/** Rounds that tell a few percent apart, and how long each of two pieces runs in one. */
const FINE_ROUNDS = 101;
const FINE_MS = 5;

/** How many times as long as `b` does `a` take? The median over rounds in which both run. */
async function byTurns(machine: GpuMachine, a: Piece, b: Piece): Promise<number> {
  const trials: Trial[] = [];
  try {
    const runs: (() => Promise<number>)[] = [];
    for (const { kernel, sizes, variant } of [a, b]) {
      const trial = await Trial.open(machine, kernel, sizes);
      trials.push(trial);
      await trial.add(variant);
      await trial.time(variant, 1);
      const times = await trial.runsFor(variant, FINE_MS, 100);
      runs.push(() => trial.time(variant, times));
    }
    const ratios: number[] = [];
    for (let round = 0; round < FINE_ROUNDS; round++) {
      // who runs first takes turns too
      const first = round % 2;
      const ms = [0, 0];
      for (const i of [first, 1 - first]) ms[i] = await runs[i]!();
      ratios.push(ms[0]! / ms[1]!);
    }
    return median(ratios);
  } finally {
    for (const trial of trials) trial.destroy();
  }
}

/** What the norm adds to the product that it is folded into. */
const foldedNorm: Find = async (place) => {
  const piece = async (kernel: AnyKernel, eps: number): Promise<Piece> => {
    const sizes = { M: 1, I: 1024, O: 1024, eps };
    return { kernel, sizes, variant: fastest(await timed(place, kernel, sizes)).variant };
  };
  const bare = await piece(linear({}), 0);
  const norm = await piece(linear({ norm: true }), 1e-6);
  const found = (await byTurns(place.machine, norm, bare)) - 1;
  return { found, how: `${norm.variant} against ${bare.variant}, median of ${FINE_ROUNDS} rounds` };
};

/** Tokens generated: on a GPU enough for it to leave its idle clocks, and for one submit to be encoded while another runs. */
const tokensOn = ({ variants }: GpuMachine) => (variants.suits === "cpu" ? 32 : 256);
const ROUNDS = 9;

/** Milliseconds of a prompt, or of tokens generated, from an empty session: the fastest of the rounds. */
async function fastestMs(
  session: Session,
  machine: GpuMachine,
  { n_prompt, n_gen }: Pick<Test, "n_prompt" | "n_gen">,
): Promise<number> {
  const prompt = new Array<number>(Math.max(1, n_prompt)).fill(1);
  let ms = Number.POSITIVE_INFINITY;
  // the first compiles
  for (let round = 0; round <= ROUNDS; round++) {
    await session.reset();
    let timed = await prefillTimed(session, machine, [prompt]);
    if (n_gen > 0) timed = await generateTimed(session, n_gen);
    if (round > 0) ms = Math.min(ms, timed.ended - timed.started);
  }
  return ms;
}

/** Tests whose times are predicted, in sessions of this chunk. */
const CHUNK = 256;
const stepsOn = (machine: GpuMachine) => ({ n_prompt: 0, n_gen: tokensOn(machine) });
const PROMPT = { n_prompt: CHUNK, n_gen: 0 };

const theoryAt = (
  { machine, roof }: Place,
  { architecture, config }: Model,
  sizes: Pick<Test, "n_prompt" | "n_gen">,
) => theoryOf(machine, architecture, config, { ...sizes, n_depth: 0, n_parallel: 1, n_ubatch: CHUNK }, roof);

/** A model with seeded weights, and a session of it, while `work` lasts. */
async function withSession<T>(
  machine: GpuMachine,
  config: Config,
  work: (session: Session) => Promise<T>,
  dtype: StoredType = "f32",
): Promise<T> {
  const model = await loadRandom(machine, config, 1, { dtype });
  try {
    const session = await Session.open(model, { chunk: CHUNK });
    try {
      return await work(session);
    } finally {
      session.destroy();
    }
  } finally {
    model.destroy();
  }
}

/** Bytes that a token must move, over its time: a share of the read roof. */
const decode =
  (config: Config): Find =>
  (place) =>
    withSession(place.machine, config, async (session) => {
      const steps = stepsOn(place.machine);
      const ms = (await fastestMs(session, place.machine, steps)) / steps.n_gen;
      const bytes = (await theoryAt(place, session.model, steps)).bytesMoved / steps.n_gen;
      return {
        found: bytes / (1e6 * ms) / place.roof.readGbs,
        how: `${(bytes / 2 ** 20).toFixed(1)} MiB and ${ms.toFixed(2)} ms a token; ${roofText(place)}`,
      };
    });

/** Tokens generated from weights of two bytes: times those from weights of four. */
const narrower =
  (config: Config): Find =>
  async ({ machine }) => {
    const steps = stepsOn(machine);
    const ms = (dtype: StoredType) =>
      withSession(machine, config, (session) => fastestMs(session, machine, steps), dtype);
    const wide = (await ms("f32")) / steps.n_gen;
    const narrow = (await ms("f16")) / steps.n_gen;
    return { found: wide / narrow, how: `${wide.toFixed(3)} against ${narrow.toFixed(3)} ms a token` };
  };

/** Tokens in the cache: one, and as many as the pages hold that one dispatch reads on a software adapter. */
const CACHED = [1, 512];

/** Dispatches that a layer more costs a token, the most at these lengths. */
const perLayer =
  (config: (layers: number) => Config): Find =>
  async ({ machine: { variants, maxBindingBytes } }) => {
    const dispatches = async (layers: number, tokens: number) => {
      const { architecture, config: sizes } = openConfig(config(layers));
      const ledger = new Ledger(variants, maxBindingBytes);
      const session = await Session.open(sketch(architecture, sizes, ledger), { chunk: 1 });
      await session.reserve(tokens);
      return session.dispatchesPerToken;
    };
    const found = await Promise.all(
      CACHED.map(async (tokens) => ((await dispatches(4, tokens)) - (await dispatches(2, tokens))) / 2),
    );
    const how = found.map((n, i) => `${n} at ${CACHED[i]}`).join(", ");
    return { found: Math.max(...found), how: `by the ledger, tokens in the cache: ${how}` };
  };

const width = { vocab_size: 4096, hidden_size: 512 };
const llama = (num_hidden_layers: number, wider = 1): Config => ({
  model_type: "llama",
  vocab_size: 4096,
  hidden_size: 512 * wider,
  intermediate_size: 1376 * wider,
  num_hidden_layers,
  num_attention_heads: 8 * wider,
  num_key_value_heads: 8 * wider,
});
const mamba = (num_hidden_layers: number): Config => ({ model_type: "mamba", ...width, num_hidden_layers });
const linearModel = (num_hidden_layers: number): Config => ({
  model_type: "linear_attn",
  ...width,
  intermediate_size: 1376,
  num_hidden_layers,
  num_heads: 8,
  expand_k: 1,
  expand_v: 1,
  feature_map: "elu",
});
const gru = (num_layers: number): Config => ({
  model_type: "gru",
  vocab_size: 4096,
  embedding_size: 512,
  hidden_size: 512,
  num_layers,
});

/** Of a Mamba of width 512: twice as many channels, and time steps of rank 512 / 16. */
const scan = { B: 1, T: 256, E: 1024, N: 16, R: 32 };
const keys = { B: 1, T: 1, H: 8, D: 64, Y: 512, N: 16_384 };
const heads = { B: 1, T: 512, Hq: 8, Hk: 8, Dk: 64, Dv: 64, W: 1536 };
const scanSizes = (tokens: number) => ({ ...scan, T: tokens, P: scanColumns(scan).P, X: 2 * scan.E });

/** What the cost model predicts, over what is measured. */
async function predictedRatio(
  place: Place,
  session: Session,
  sizes: Pick<Test, "n_prompt" | "n_gen">,
): Promise<number> {
  const { workNs, dispatches } = await theoryAt(place, session.model, sizes);
  const predictedNs = workNs + dispatches * place.roof.dispatchNs;
  return predictedNs / (1e6 * (await fastestMs(session, place.machine, sizes)));
}

/** How far off the cost model is, in the median of these models' steps and prompts: predicted over measured, less 1. */
const costModel: Find = async (place) => {
  const ratios: [what: string, ratio: number][] = [];
  for (const config of [llama(4), mamba(4), linearModel(4), gru(2)]) {
    await withSession(place.machine, config, async (session) => {
      for (const [name, sizes] of Object.entries({ tg: stepsOn(place.machine), pp: PROMPT }))
        ratios.push([
          `${session.model.architecture.name} ${name}`,
          await predictedRatio(place, session, sizes),
        ]);
    });
  }
  return {
    found: median(ratios.map(([, ratio]) => Math.abs(ratio - 1))),
    how: `predicted over measured: ${ratios.map(([what, ratio]) => `${what} ${ratio.toFixed(2)}`).join(", ")}`,
  };
};

/** A token's time over what the cost model predicts. */
const overPredicted =
  (config: Config): Find =>
  (place) =>
    withSession(place.machine, config, async (session) => {
      const steps = stepsOn(place.machine);
      const { bytesMoved, dispatches } = await theoryAt(place, session.model, steps);
      const found = 1 / (await predictedRatio(place, session, steps));
      const mib = bytesMoved / steps.n_gen / 2 ** 20;
      return {
        found,
        how: `${mib.toFixed(0)} MiB and ${Math.round(dispatches / steps.n_gen)} dispatches a token; ${roofText(place)}, ${(place.roof.dispatchNs / 1000).toFixed(1)} µs a dispatch`,
      };
    });

const aims: readonly Aim[] = [
  {
    figure: "product with one row of x, weights of 1 MB and more: share of the read roof",
    on: "cpu",
    wanted: 0.75,
    find: product(512, 1024, 2048),
  },
  {
    figure: "a token of a llama of width 512: share of the read roof",
    on: "cpu",
    wanted: 0.65,
    find: decode(llama(4)),
  },
  {
    figure: "a token of a mamba of width 512: share of the read roof",
    on: "cpu",
    wanted: 0.65,
    find: decode(mamba(4)),
  },
  {
    figure: "product 256x512x512: times a plain thread an output",
    on: "cpu",
    wanted: 12,
    find: plainProduct({ M: 256, I: 512, O: 512, eps: 0 }),
  },
  {
    figure: "attention at 16,384 tokens, 8 heads of 64, 2 of keys: times a workgroup a split",
    on: "cpu",
    wanted: 8,
    find: against(attention({ pattern: "full" }), "split", { ...keys, K: 2 }),
  },
  {
    figure: "the same with 8 heads of keys",
    on: "cpu",
    wanted: 4,
    find: against(attention({ pattern: "full" }), "split", { ...keys, K: 8 }),
  },
  {
    figure:
      "selective scan, 256 tokens, 1,024 channels of 16 states: times a workgroup a channel with a tree",
    on: "cpu",
    wanted: 50,
    find: rival("selectiveScan", scanSizes(256)),
  },
  {
    figure: "linear attention, 512 tokens, 8 heads of 64: times a tree a token",
    on: "cpu",
    wanted: 40,
    find: rival("linearAttention", heads),
  },
  {
    figure: "norm folded into a product of 1,024x1,024: adds",
    on: "cpu",
    wanted: 0.05,
    most: true,
    find: foldedNorm,
  },
  { figure: "dispatches a layer and token, llama", wanted: 8, most: true, find: perLayer(llama) },
  { figure: "dispatches a layer and token, mamba", wanted: 6, most: true, find: perLayer(mamba) },
  { figure: "dispatches a layer and token, gru", wanted: 1, most: true, find: perLayer(gru) },
  {
    figure: "dispatches a layer and token, linear attention",
    wanted: 7,
    most: true,
    find: perLayer(linearModel),
  },
  { figure: "cost model: median row is off by", on: "cpu", wanted: 0.25, most: true, find: costModel },
  {
    figure: "product with one row of x, weights of 256 MiB: share of the read roof",
    on: "gpu",
    wanted: 0.8,
    find: product(8192),
  },
  {
    figure: "a token of a llama of width 2,048: times what the cost model says",
    on: "gpu",
    wanted: 1.5,
    most: true,
    find: overPredicted(llama(3, 4)),
  },
  {
    figure: "a token of a llama of width 512: times what the cost model says",
    on: "gpu",
    wanted: 1.5,
    most: true,
    find: overPredicted(llama(4)),
  },
  {
    figure: "a token of a mamba of width 512: times what the cost model says",
    on: "gpu",
    wanted: 1.5,
    most: true,
    find: overPredicted(mamba(4)),
  },
  {
    figure: "selective scan, 4,096 tokens: times the serial form",
    on: "gpu",
    wanted: 5,
    find: against(selectiveScan, "block", scanSizes(4096)),
  },
  {
    figure: "linear attention, 4,096 tokens: times the serial form",
    on: "gpu",
    wanted: 5,
    find: against(linearAttention(recurrence), "staged", { ...heads, T: 4096 }),
  },
  {
    figure: "a token of a llama of width 2,048, weights as f16: times f32",
    on: "gpu",
    wanted: 1.5,
    find: narrower(llama(3, 4)),
  },
  {
    figure: "a token of a llama of width 4,096, weights as f16: times f32",
    on: "gpu",
    wanted: 1.5,
    find: narrower(llama(3, 8)),
  },
];

/** All figures that are asked of this class of adapter; one that cannot be had says why. */
export async function findTargets(
  place: Place,
  onFigure: (figure: string) => void | Promise<void>,
): Promise<Target[]> {
  const out: Target[] = [];
  const { suits } = place.machine.variants;
  for (const { figure, wanted, most = false, find } of aims.filter(({ on = suits }) => on === suits)) {
    await onFigure(figure);
    const aim = { figure, wanted, most };
    try {
      out.push({ ...aim, ...(await find(place)) });
    } catch (error) {
      out.push({ ...aim, found: null, how: failure(error, "run").reason });
    }
  }
  return out;
}
