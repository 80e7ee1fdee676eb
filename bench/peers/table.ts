// Runtimes side by side: the tables that people quote, from rows of one run.

import type { Answer } from "../answers.ts";
import type { PeerFacts, PeerResident, Row } from "../row.ts";
import { formatBytes, formatNs, show } from "../units.ts";
import { HELD_TOKENS } from "./peer.ts";

/** A peer's rate against longtape's in one test. */
export interface Ratio {
  model: string;
  test: string;
  peer: string;
  /** longtape's tokens a second over the peer's: of the means, and of the rounds, which went by turns, the extremes. */
  ratio: number;
  low: number;
  high: number;
}

const OURS = "longtape";
const others = (rows: readonly Row[]): Row[] => rows.filter(({ peer }) => peer !== OURS);

/** longtape's row of the same model, test, streams and chunk. */
const oursFor = (rows: readonly Row[], row: Row): Row | undefined =>
  rows.find(
    ({ peer, model, test, n_parallel, n_ubatch }) =>
      peer === OURS &&
      model === row.model &&
      test === row.test &&
      n_parallel === row.n_parallel &&
      n_ubatch === row.n_ubatch,
  );

/** null where one of the two was not timed. */
export function ratioOf(rows: readonly Row[], row: Row): Ratio | null {
  const ours = oursFor(rows, row);
  if (!ours?.samples_ts || !row.samples_ts || ours.status !== "ok" || row.status !== "ok") return null;
  const rounds = row.samples_ts.map((rate, i) => ours.samples_ts![i]! / rate);
  return {
    model: row.model,
    test: row.test,
    peer: row.peer,
    ratio: ours.avg_ts! / row.avg_ts!,
    low: Math.min(...rounds),
    high: Math.max(...rounds),
  };
}

const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

const ratioText = (ratio: number): string =>
  ratio >= 10 ? ratio.toFixed(0) : ratio >= 1 ? ratio.toFixed(1) : ratio.toFixed(2);

const number = (title: string) => ({ title, kind: "number" as const });

const SOFTWARE =
  "The adapter computes on the CPU: it penalises barriers, which kernels written for GPUs are full of, and ort-wasm uses the same cores natively. ";

/** A test a row: rate, ratio to longtape's, bytes and dispatches of each runtime. */
export function peersAnswer(rows: readonly Row[], peers: readonly PeerFacts[] = []): Answer | null {
  if (others(rows).length === 0) return null;
  const software = rows.some((row) => row.software);
  const settings = peers.map(({ peer, version, settings }) => `${peer} ${version}: ${settings}`).join("; ");
  return {
    title: "Side by side",
    note:
      `${software ? SOFTWARE : ""}The same weights and tokens in the same run, rounds by turns. ` +
      "Times longtape: its tokens a second over the runtime's, in brackets the extremes of the rounds; below 1 the runtime is faster. " +
      "Asked and peak: bytes of live GPUBuffers on the runtime's device, counted from outside, at the end of the test and the most at once; its own: what it says itself; left: what its device still held after it gave back all it could. " +
      `To the first token: from loading on, of a prompt in an empty context.${settings && ` ${settings}.`}`,
    columns: [
      { title: "model", kind: "model" },
      { title: "test", kind: "text" },
      { title: "runtime", kind: "text" },
      number("t/s"),
      number("times longtape"),
      number("to the first token"),
      number("asked"),
      number("peak"),
      number("its own"),
      number("left"),
      number("dispatches a token"),
      { title: "", kind: "prose" },
    ],
    rows: rows.map((row) => {
      const found = row.peer === OURS ? null : ratioOf(rows, row);
      const ratio =
        found && `${ratioText(found.ratio)} [${ratioText(found.low)} to ${ratioText(found.high)}]`;
      return [
        row.model,
        row.test,
        row.peer,
        show(row.avg_ts, (rate) => rate.toFixed(1)),
        ratio ?? "–",
        show(row.ttft_ns, formatNs),
        show(row.mem_asked, formatBytes),
        show(row.mem_peak, formatBytes),
        show(row.mem_own, formatBytes),
        show(row.mem_left, formatBytes),
        show(row.dispatches_per_token, (dispatches) => dispatches.toFixed(1)),
        row.status === "ok" ? (row.remark ?? "") : `${row.status}: ${row.reason}`,
      ];
    }),
  };
}

/** What a browser of its own costs. */
export function residentsAnswer(residents: readonly PeerResident[] = []): Answer | null {
  const [first] = residents;
  if (!first) return null;
  return {
    title: "A browser for each runtime alone",
    note:
      `Resident bytes of all processes of a fresh browser, above those that it held with an empty page: the runtime's code, its heaps and its buffers, after ${first.model} was loaded, ` +
      `read a prompt of ${HELD_TOKENS.prompt} tokens and wrote ${HELD_TOKENS.generated}.`,
    columns: [{ title: "runtime", kind: "text" }, number("resident"), { title: "by", kind: "prose" }],
    rows: residents.map(({ peer, bytes, method }) => [peer, show(bytes, formatBytes), method]),
  };
}

/** Geometric means over the models that both ran. */
export function peerMeansAnswer(rows: readonly Row[]): Answer | null {
  const tests = [...new Set(rows.map(({ test }) => test))];
  const peers = [...new Set(others(rows).map(({ peer }) => peer))];
  const lines = peers.flatMap((peer) =>
    tests.flatMap((test) => {
      const ratios = rows
        .filter((row) => row.peer === peer && row.test === test)
        .flatMap((row) => ratioOf(rows, row)?.ratio ?? []);
      if (ratios.length === 0) return [];
      const extremes = [Math.min(...ratios), Math.max(...ratios)].map(ratioText);
      return [[peer, test, ratioText(geometricMean(ratios)), ...extremes, String(ratios.length)]];
    }),
  );
  if (lines.length === 0) return null;
  return {
    title: "longtape's tokens a second over each runtime's",
    note: "Geometric means over the models that both ran.",
    columns: [
      { title: "runtime", kind: "text" },
      { title: "test", kind: "text" },
      number("mean"),
      number("least"),
      number("most"),
      number("models"),
    ],
    rows: lines,
  };
}
