import { join } from "node:path";
import { expect, test } from "vitest";
import { TextStop } from "../bench/textStop.ts";
import { ended, project, run, start } from "./tools/command.ts";

const untrained = join(project, "test/goldens/mamba");
const figures =
  /^mamba: prompt 6 tokens at [\d.]+ t\/s; generated 24 tokens at [\d.]+ t\/s; first token after [\d.]+ m?s; ready in [\d.]+ m?s; holds weights \S+ MiB, state .+; adapter: .+\n$/;

const generate = (...args: string[]) => run("generate", ["--tune", "off", ...args]);

test("text streams to stdout and figures end on stderr; the same seed draws the same text", async () => {
  const sampled = ["-m", "mamba", "-p", "ROMEO:", "-n", "24", "--temperature", "0.8", "--top-p", "0.95"];
  const first = await generate(...sampled, "--seed", "7");
  expect(first.code, first.err).toBe(0);
  expect(first.err).toMatch(figures);
  expect(Buffer.byteLength(first.out)).toBe(24);
  const again = await generate(...sampled, "--seed", "7");
  expect(again.out).toBe(first.out);
  const other = await generate(...sampled, "--seed", "8");
  expect(other.out).not.toBe(first.out);
});

test("a prompt comes from stdin, and a stop text ends the answer", async () => {
  const whole = await run("generate", ["--tune", "off", "-m", "mamba", "-p", "-", "-n", "24"], "ROMEO:");
  expect(whole.code, whole.err).toBe(0);
  const stop = whole.out.slice(5, 9);
  const cut = await generate("-m", "mamba", "-p", "ROMEO:", "-n", "24", "--stop", stop);
  expect(cut.out).toBe(whole.out.slice(0, whole.out.indexOf(stop) + stop.length));
  expect(cut.err).toContain(" (stop); ");
});

test("a page of Chrome streams text, too", async () => {
  const { code, out, err } = await generate("-m", "mamba", "-p", "ROMEO:", "-n", "24", "--runtime", "chrome");
  expect(code, err).toBe(0);
  expect(Buffer.byteLength(out)).toBe(24);
  expect(err.split("\n").at(-2)).toMatch(/^mamba: prompt 6 tokens at .*; adapter: /);
});

test("Ctrl-C keeps the text, prints the figures and exits 130", async () => {
  const child = start("generate", ["--tune", "off", "-m", "mamba", "-p", "ROMEO:", "-n", "1000000"]);
  child.stdin!.end();
  child.stdout!.once("data", () => child.kill("SIGINT"));
  const { code, out, err } = await ended(child);
  expect(code, err).toBe(130);
  expect(out.length).toBeGreaterThan(0);
  expect(err).toMatch(/generated \d+ tokens.* \(interrupted\); .*; adapter: /);
});

test("a model without a tokenizer takes ids and gives ids", async () => {
  const { code, out, err } = await generate("-m", untrained, "--ids", "1,2,3", "-n", "4");
  expect(code, err).toBe(0);
  expect(out).toMatch(/^\d+( \d+){3}$/);
});

test.each([
  ["an unknown flag", ["-m", "mamba", "-p", "x", "--frob"], 2, /^unknown option '--frob'/],
  ["no model", ["-p", "x"], 2, /-m, --model <folder>' not specified/],
  ["no prompt", ["-m", "mamba"], 2, /wanted -p TEXT, -p - or --ids LIST/],
  ["two prompts", ["-m", "mamba", "-p", "x", "--ids", "1"], 2, /wanted -p TEXT, -p - or --ids LIST/],
  ["an empty prompt", ["-m", "mamba", "-p", ""], 2, /holds no tokens, wanted at least one/],
  [
    "a wrong number",
    ["-m", "mamba", "-p", "x", "--top-p", "2"],
    2,
    /--top-p.*Wanted a number above 0, up to 1/,
  ],
  ["an impossible size", ["-m", "mamba", "-p", "x", "-n", "0"], 2, /Wanted a whole number from 1/],
  ["words", ["-m", "mamba", "-p", "two", "words"], 2, /too many arguments/],
  [
    "an id past the vocabulary",
    ["-m", untrained, "--ids", "1,64"],
    2,
    /token 1 is 64, outside the vocabulary of 64/,
  ],
  ["text without a tokenizer", ["-m", untrained, "-p", "x"], 1, /holds no tokenizer\.json/],
  ["a missing folder", ["-m", "no/such/folder", "-p", "x"], 1, /^no\/such\/folder holds /],
  ["too little memory", ["-m", "mamba", "-p", "x", "--max-bytes", "1M"], 1, /1\.00 MiB/],
])("%s is one sentence", async (_, args, code, message) => {
  const ended = await generate(...args);
  expect([ended.code, ended.out, ended.err.trimEnd().split("\n").length], ended.err).toEqual([code, "", 1]);
  expect(ended.err).toMatch(message);
});

test("a stop text is found across pieces, and nothing after it is let through", () => {
  const stop = new TextStop(["END", "\n\n"]);
  expect(["one E", "N", "x EN", "D and more"].map((piece) => stop.push(piece)).join("")).toBe("one ENx END");
  expect(stop.stopped).toBe(true);
  const lines = new TextStop(["END", "\n\n"]);
  expect(["a\n", "\nEND"].map((piece) => lines.push(piece)).join("")).toBe("a\n\n");
  const none = new TextStop([""]);
  expect([none.push("all"), none.stopped]).toEqual(["all", false]);
});
