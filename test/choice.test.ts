import { expect, test } from "vitest";
import { fromQuery, readNumber, toQuery, usual } from "../bench/page/race/choice.ts";

test("an address carries the whole choice, and what is usual is left out of it", () => {
  const choice = {
    ...usual,
    archs: ["gru", "mamba"],
    prompt: "To be,\nor not & to be?",
    tokens: 65_536,
    streams: 4,
    temperature: 0,
    seed: 7,
    tune: "full" as const,
    scale: "log" as const,
    everything: true,
  };
  expect(fromQuery(new URLSearchParams(toQuery(choice).toString()))).toEqual(choice);
  expect([...toQuery(usual).keys()]).toEqual(["tab", "a"]);
});

test("what an address says wrong is left as is usual", () => {
  const query = new URLSearchParams(
    "a=gru,nonsense&tokens=-4&streams=many&temperature=&tune=maybe&scale=cubic",
  );
  expect(fromQuery(query)).toEqual({ ...usual, archs: ["gru"] });
});

test.each([
  ["tokens", "1,048,576", 1_048_576],
  ["tokens", "2000000", /^Tokens to generate: found "2000000", wanted a whole number from 1 to 1,048,576\.$/],
  ["streams", "2.5", /^Streams: found "2\.5", wanted a whole number/],
  ["temperature", "0.7", 0.7],
  ["temperature", "", /^Temperature: found "", wanted a number from 0 to 10\.$/],
] as const)("%s of %j", (field, text, wanted) => {
  const found = readNumber(field, text);
  if (typeof wanted === "number") expect(found).toBe(wanted);
  else expect(found).toMatch(wanted);
});
