// The race on a real device: three counts that agree at the end of every turn, time shared alike, and who comes late.

import { expect, test } from "vitest";
import { Race, type RaceEvent, type RaceSettings } from "../bench/race/race.ts";
import { shippedSubject } from "../bench/subject.ts";
import { total } from "../engine/memory.ts";
import { urlSource } from "../models/source.ts";

const checkpoints = new URL("/models/checkpoints", location.href).href;
const settings: RaceSettings = {
  prompt: "ROMEO:\n",
  tokens: 300,
  streams: 1,
  temperature: 0.8,
  seed: 7,
  tune: "off",
  machine: "gpu",
  build_commit: null,
  version: null,
};

/** Runs these to their end; `onEvent` may interfere. */
async function race(
  archs: readonly string[],
  change: Partial<RaceSettings> = {},
  onEvent: (event: RaceEvent, race: () => Race) => void = () => {},
): Promise<RaceEvent[]> {
  const events: RaceEvent[] = [];
  let opened: Race;
  const idle = new Promise<void>((done) => {
    const tell = (event: RaceEvent) => {
      events.push(event);
      onEvent(event, () => opened);
      if (event.type === "idle" || event.type === "lost") done();
    };
    Race.open({ ...settings, ...change }, { source: (folder) => urlSource(folder), tell }).then((race) => {
      opened = race;
      for (const arch of archs) race.add(shippedSubject(arch, checkpoints));
    });
  });
  await idle;
  return events;
}

const of = <T extends RaceEvent["type"]>(events: readonly RaceEvent[], type: T) =>
  events.filter((event): event is Extract<RaceEvent, { type: T }> => event.type === type);

test("what is held, what was asked from outside and what theory says are the same after every turn", async () => {
  const archs = ["llama", "materialised", "jamba", "gru"];
  const events = await race(archs);
  expect(
    of(events, "finished")
      .map(({ racer }) => racer)
      .sort(),
  ).toEqual([0, 1, 2, 3]);
  const ladders = of(events, "loaded").map(({ loaded }) => loaded.ladder);
  for (const { racer, sample } of of(events, "sample")) {
    const { bytes, theory, row, context } = sample;
    expect(bytes).toEqual(theory);
    expect(row.mem_asked).toBe(total(bytes));
    // the line that is drawn before anything ran
    const step = ladders[racer]!.findLast((point) => point.context <= context)!;
    expect({ carried: bytes.state + bytes.kv, all: total(bytes) }).toEqual({
      carried: step.carried,
      all: step.all,
    });
  }
});

test("the same seed writes the same text, whatever the turns; another writes another", async () => {
  const written = async (seed: number) =>
    of(await race(["gru"], { seed, tokens: 100 }), "sample")
      .map(({ sample }) => sample.text)
      .join("");
  const first = await written(1);
  expect(first).toHaveLength(100);
  expect(await written(1)).toBe(first);
  expect(await written(2)).not.toBe(first);
});

test("who comes late has no more time than the others have from then on", async () => {
  let joined = false;
  const events = await race(["gru"], { tokens: 3000 }, (event, race) => {
    if (event.type !== "sample" || event.sample.generated < 1500 || joined) return;
    joined = true;
    race().add(shippedSubject("elman", checkpoints));
  });
  const at = events.findIndex((event) => event.type === "loaded" && event.racer === 1);
  const turns = of(events.slice(at), "sample").filter(({ sample }) => sample.turn.tokens > 0);
  const finished = events.findIndex((event, i) => i > at && event.type === "finished");
  const both = turns.filter((turn) => events.indexOf(turn) < finished);
  const longest = Math.max(...turns.map(({ sample }) => sample.turn.ns));
  const had = [0, 0];
  for (const { racer, sample } of both) {
    had[racer]! += sample.turn.ns;
    expect(Math.abs(had[0]! - had[1]!)).toBeLessThanOrEqual(longest);
  }
  expect(Math.min(...had)).toBeGreaterThan(0);
});

test("a model that cannot be loaded is out, and the others run", async () => {
  const events = await race(["gru", "llama"], { tokens: 20, prompt: "" });
  expect(of(events, "out").map(({ racer, status }) => [racer, status])).toEqual([
    [0, "refused"],
    [1, "refused"],
  ]);
  expect(of(events, "out")[0]!.reason).toBe("the prompt holds no tokens, wanted at least one");
});

test("many streams run in lock-step, and their bytes are theirs", async () => {
  const events = await race(["mistral-window"], { streams: 3, tokens: 80 });
  const { row } = of(events, "sample").at(-1)!.sample;
  expect(row).toMatchObject({ n_parallel: 3, n_gen: 80, theory_err_pct: 0 });
  expect(row.avg_ts! / row.avg_ts_stream!).toBeCloseTo(3);
});
