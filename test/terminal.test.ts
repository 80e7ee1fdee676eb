import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { createProgress } from "../bench/terminal.ts";

function terminal(isTTY: boolean, columns = 60, rows = 20) {
  const written: string[] = [];
  const place = { isTTY, columns, rows, write: (text: string) => written.push(text) };
  /** What the screen shows of all that was written from here on. */
  const shown = (from = 0) => stripVTControlCharacters(written.slice(from).join("")).split("\n");
  return { place, written, shown, last: () => stripVTControlCharacters(written.at(-1)!).split("\n") };
}
const tests = [
  ["pp512", "tg128"],
  ["pp512", "tg128"],
];

test("where all is kept, a finished row is a line, and steps are none", () => {
  const { place, written } = terminal(false);
  const progress = createProgress(tests, place);
  progress.step("gru", "pp512", "warm-up");
  progress.done("gru", "pp512", 0, "2276.00 ± 1.00");
  expect(written).toHaveLength(1);
  expect(written[0]).toMatch(/^\[1\/4\] gru pp512, about .* left\n$/);
});

test("in a terminal a table fills: a model a line, a test a column, a bar below", () => {
  const { place, last } = terminal(true);
  const progress = createProgress(tests, place);
  progress.step("gru", "pp512", "warm-up");
  progress.done("gru", "pp512", 0, "2276.00 ± 230.00");
  progress.done("gru", "tg128", 1, "1140.00 ± 163.00");
  progress.done("linear-attention", "pp512", 0, "refused");
  const lines = last();
  expect(lines[0]).toMatch(/^ {16} +pp512 +tg128$/);
  expect(lines[1]).toMatch(/^gru {15}2276\.00 ± 230\.00 {2}1140\.00 ± 163\.00$/);
  expect(lines[2]).toMatch(/^linear-attention {11}refused/);
  expect(lines[3]).toMatch(/^█{18}░{6} 3 of 4, about .* left$/);
  expect(lines[4]).toBe("gru pp512: warm-up");
});

test("a small terminal shows the last models and tests that fit", () => {
  const { place, written, shown } = terminal(true, 40, 8);
  const names = ["a", "b", "c", "d", "e", "f"];
  const columns = ["pp64", "tg16", "tg16 @ d1024"];
  const progress = createProgress(
    names.map(() => columns),
    place,
  );
  progress.step("a", "pp64", "a step whose description is longer than the terminal is wide");
  for (const name of names)
    for (const [i, test] of columns.entries()) progress.done(name, test, i, "1000.00 ± 10.00");
  // what did not change is not written again: all is, after something else was
  progress.clear();
  const from = written.length;
  progress.done("f", "pp64", 0, "1000.00 ± 10.00");
  const lines = shown(from);
  expect(lines).toHaveLength(7);
  expect(lines[0]!.trim()).toMatch(/^tg16 +tg16 @ d1024$/);
  expect(lines.slice(1, 4).map((line) => line[0])).toEqual(["d", "e", "f"]);
  for (const line of lines) expect(line.length).toBeLessThan(40);
});

test("what has no figure is counted, and stands in no column", () => {
  const { place, last } = terminal(true);
  const progress = createProgress([["a", "b"]], place);
  progress.step("kernels", "a", "timing");
  progress.done("kernels", "a", 0);
  expect(last()).toEqual([expect.stringMatching(/ 1 of 2/), "kernels a: timing", ""]);
});
