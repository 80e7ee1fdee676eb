// Verdicts in the browser's own database.

import { createStore, set } from "idb-keyval";
import { expect, onTestFinished, test } from "vitest";
import { verdictDatabase } from "../engine/verdictDatabase.ts";
import type { Verdict } from "../engine/verdicts.ts";
import { createEngine } from "../models/engine.ts";
import { urlSource } from "../models/source.ts";

const verdict = (key: string, ms = 1): Verdict => ({ key, code: "c0de", winner: "a", ms: { a: ms, b: 2 } });

test("a second engine races nothing: its verdicts come from IndexedDB", async () => {
  const load = async () => {
    const engine = await createEngine({ verdicts: verdictDatabase("runs") });
    onTestFinished(() => engine.destroy());
    const found: Record<"kept" | "raced", Verdict[]> = { kept: [], raced: [] };
    await engine.load(urlSource(new URL("/test/goldens/llama/", location.href)), {
      chunk: 8,
      onVerdict: (verdict, kept) => found[kept ? "kept" : "raced"].push(verdict),
    });
    return found;
  };
  const first = await load();
  expect(first.raced.length).toBeGreaterThan(3);
  const second = await load();
  expect(second).toEqual({ kept: first.raced, raced: [] });
});

test("tabs that write at once lose nothing; an adapter has its own verdicts", async () => {
  const tabs = [0, 1, 2].map(() => verdictDatabase("tabs"));
  await Promise.all(tabs.map((tab, i) => tab.write("x", [verdict(`k${i}`), verdict("all", i)])));
  const found = await tabs[0]!.read("x");
  expect(found.map(({ key }) => key).sort()).toEqual(["all", "k0", "k1", "k2"]);
  expect(await tabs[0]!.read("y")).toEqual([]);
});

test("what is no verdict is left out and replaced", async () => {
  await set("x", "damaged", createStore("damaged", "verdicts"));
  const database = verdictDatabase("damaged");
  expect(await database.read("x")).toEqual([]);
  await database.write("x", [verdict("k")]);
  expect(await database.read("x")).toEqual([verdict("k")]);
});

test("a browser that gives no database is told of, and stops nothing", async () => {
  const open = indexedDB.open.bind(indexedDB);
  onTestFinished(() => {
    indexedDB.open = open;
  });
  indexedDB.open = () => {
    throw new DOMException("site data is turned off", "SecurityError");
  };
  const faults: string[] = [];
  const database = verdictDatabase("another", { onFault: (sentence) => faults.push(sentence) });
  expect(await database.read("x")).toEqual([]);
  await database.write("x", [verdict("k")]);
  expect(faults).toEqual(
    Array(2).fill("the verdicts kept in the database another cannot be reached: site data is turned off"),
  );
});
