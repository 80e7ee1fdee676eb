import { expect, test } from "vitest";
import { peerMeansAnswer, peersAnswer, ratioOf } from "../bench/peers/table.ts";
import { emptyRow, type Row } from "../bench/row.ts";
import { timing } from "../bench/stats.ts";

const row = (peer: string, model: string, rates: number[], more: Partial<Row> = {}): Row => {
  const { avg_ts, samples_ts } = timing(
    rates.map((rate) => 1e9 / rate),
    1,
  );
  return emptyRow({ peer, model, arch: model, test: "tg32", avg_ts, samples_ts, ...more });
};

const rows = [
  row("longtape", "gru", [100, 120, 110]),
  row("ort-wasm", "gru", [200, 60, 110]),
  row("longtape", "llama", [90]),
  row("ort-wasm", "llama", [10], { mem_left: 4096, remark: "Gather ran on the CPU" }),
  row("ort-wasm", "mamba", [10]),
  emptyRow({ peer: "tfjs-webgpu", model: "gru", test: "tg32", status: "unsupported", reason: "no such op" }),
];

test("a ratio is of the means, its spread of the rounds", () => {
  const found = ratioOf(rows, rows[1]!)!;
  expect(found.ratio).toBeCloseTo(110 / (370 / 3), 12);
  expect(found.low).toBeCloseTo(0.5, 12);
  expect(found.high).toBeCloseTo(2, 12);
});

test("there is none without longtape's row, or where nothing was timed", () => {
  expect(ratioOf(rows, rows[4]!)).toBeNull();
  expect(ratioOf(rows, rows[5]!)).toBeNull();
});

test("the table shows who wins the same way, failures as rows", () => {
  const { rows: lines, note } = peersAnswer(rows, [
    { peer: "ort-wasm", version: "1", settings: "2 threads" },
  ])!;
  expect(lines[0]!.slice(0, 5)).toEqual(["gru", "tg32", "longtape", "110.0", "–"]);
  expect(lines[1]!.slice(2, 5)).toEqual(["ort-wasm", "123.3", "0.89 [0.50 to 2.0]"]);
  expect(lines[3]).toContain("4.00 KiB");
  expect(lines[3]!.at(-1)).toBe("Gather ran on the CPU");
  expect(lines[5]!.at(-1)).toBe("unsupported: no such op");
  expect(note).toContain("ort-wasm 1: 2 threads.");
  expect(note).not.toContain("penalises barriers");
});

test("a software adapter's table begins by saying what that means", () => {
  const { note } = peersAnswer(rows.map((found) => ({ ...found, software: true })))!;
  expect(note).toMatch(/^The adapter computes on the CPU: it penalises barriers/);
});

test("means are geometric, over what both ran", () => {
  const { rows: lines } = peerMeansAnswer(rows)!;
  const mean = Math.sqrt((110 / (370 / 3)) * 9);
  expect(lines).toEqual([["ort-wasm", "tg32", mean.toFixed(1), "0.89", "9.0", "2"]]);
});

test("alone, longtape has no such table", () => {
  const ours = rows.filter(({ peer }) => peer === "longtape");
  expect(peersAnswer(ours)).toBeNull();
  expect(peerMeansAnswer(ours)).toBeNull();
});
