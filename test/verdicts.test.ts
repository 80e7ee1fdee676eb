// Verdicts that outlive a run, on Dawn in Node and in the bench's own Chrome.

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { dawnInNode } from "../bench/node.ts";
import type { Results, Tuned } from "../bench/row.ts";
import { Bench, type BenchEvent } from "../bench/run.ts";
import { checkpoint } from "../bench/subject.ts";
import { openGpu } from "../engine/gpuDevice.ts";
import type { AnyKernel } from "../engine/kernel.ts";
import { race, type Tune } from "../engine/tune.ts";
import { verdictFile, verdictPath } from "../engine/verdictFile.ts";
import type { Verdict, VerdictStore } from "../engine/verdicts.ts";
import { argmax } from "../kernels/argmax.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine } from "../models/engine.ts";
import { project, run } from "./tools/command.ts";

let folder: string;
let gpu: GPU;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-verdicts-test-"));
  ({ gpu } = await dawnInNode({ software: true }));
});
afterAll(() => rm(folder, { recursive: true }));

/** Sentences that a store says. */
const faults: string[] = [];
const store = (name: string): VerdictStore =>
  verdictFile(join(folder, name), { onFault: (sentence) => faults.push(sentence) });

const verdict = (key: string, ms = 1): Verdict => ({ key, code: "c0de", winner: "a", ms: { a: ms, b: 2 } });

/** Loads a golden on a new engine: its verdicts, and which of them were kept. */
async function load(verdicts: VerdictStore, tune: Tune, times = 1) {
  const engine = await createEngine({ gpu, verdicts });
  const kept: Verdict[] = [];
  const raced: Verdict[] = [];
  for (let i = 0; i < times; i++) {
    await engine.load(directorySource(join(project, "test/goldens/llama")), {
      tune,
      chunk: 8,
      onVerdict: (verdict, before) => (before ? kept : raced).push(verdict),
    });
  }
  const { variants } = engine.machine;
  engine.destroy();
  return { kept, raced, variants };
}

test("a second run races nothing and runs the same variants; full races all; off asks nobody", async () => {
  const file = store("runs.json");
  const first = await load(file, "cached");
  expect(first.raced.length).toBeGreaterThan(3);
  expect(first.kept).toEqual([]);

  const second = await load(file, "cached");
  expect(second.raced).toEqual([]);
  expect(second.kept).toEqual(first.raced);
  expect([...second.variants.verdicts]).toEqual(first.raced.map(({ key, winner }) => [key, winner]));

  const full = await load(file, "full", 2);
  expect(full.kept).toEqual([]);
  expect(
    full.raced.map(({ key }) => key),
    "once an engine",
  ).toEqual(first.raced.map(({ key }) => key));
  expect((await load(file, "cached")).kept, "the new verdicts are kept").toEqual(full.raced);

  const asked = () => expect.fail("the store was asked");
  const off = await load({ read: asked, write: asked }, "off");
  expect([off.kept, off.raced, off.variants.verdicts.size]).toEqual([[], [], 0]);
  expect(faults).toEqual([]);
});

test("full races what this engine has from the store", async () => {
  const file = store("afresh.json");
  const { raced } = await load(file, "cached");
  const engine = await createEngine({ gpu, verdicts: file });
  onTestFinished(() => engine.destroy());
  const source = directorySource(join(project, "test/goldens/llama"));
  await engine.load(source, { tune: "cached", chunk: 8 });
  const again: [string, boolean][] = [];
  await engine.load(source, {
    tune: "full",
    chunk: 8,
    onVerdict: ({ key }, kept) => again.push([key, kept]),
  });
  expect(again).toEqual(raced.map(({ key }) => [key, false]));
});

test("a verdict holds for the code that raced, the adapter it raced on and no other", async () => {
  const file = store("code.json");
  const sizes = { B: 1, V: 64 };
  const raced = async (kernel: AnyKernel, verdicts = file) => {
    const { machine } = await openGpu({ gpu, verdicts });
    const kept: boolean[] = [];
    await race(machine, [{ kernel, sizes }], "cached", (_, before) => kept.push(before));
    machine.destroy();
    return kept.map((before) => (before ? "kept" : "raced"));
  };
  const [[name, variant]] = Object.entries(argmax.variants) as [[string, AnyKernel["variants"][string]]];
  const changed = (change: object): AnyKernel => ({
    ...argmax,
    variants: {
      ...argmax.variants,
      [name]: { ...variant, passes: variant.passes.map((pass) => ({ ...pass, ...change })) },
    },
  });
  expect(await raced(argmax)).toEqual(["raced"]);
  expect(await raced(argmax)).toEqual(["kept"]);
  const wgsl = `${variant.passes[0]!.wgsl} // otherwise`;
  expect(await raced(changed({ wgsl })), "another body").toEqual(["raced"]);
  expect(await raced(changed({ wgsl }))).toEqual(["kept"]);
  expect(await raced(changed({ wgsl, grid: () => 2 })), "another grid").toEqual(["raced"]);
  const { [name]: _, ...others } = argmax.variants;
  const renamed = { ...argmax, variants: { renamed: variant, ...others } };
  expect(await raced(renamed), "another name").toEqual(["raced"]);
  const elsewhere: VerdictStore = { ...file, read: (adapter) => file.read(`another than ${adapter}`) };
  expect(await raced(renamed, elsewhere), "another adapter").toEqual(["raced"]);
});

test.each([
  ["cut", '{"schema":"longtape-verdicts/1","adapt', /holds no verdicts and will be replaced: .*JSON/],
  ["foreign", '{"schema":"theirs"}', /its schema is "theirs", longtape-verdicts\/1 is wanted/],
  ["a number", "7", /its schema is undefined/],
])("a file that is %s is told of, counts as empty, and is replaced", async (name, text, sentence) => {
  const path = join(folder, `${name}.json`);
  await writeFile(path, text);
  faults.length = 0;
  const file = store(`${name}.json`);
  expect(await file.read("x")).toEqual([]);
  expect(faults).toEqual([expect.stringMatching(sentence)]);
  await file.write("x", [verdict("k")]);
  expect(await file.read("x")).toEqual([verdict("k")]);
});

test("what is no verdict is left out, and a winner that cannot run is raced", async () => {
  const path = join(folder, "junk.json");
  const text = {
    schema: "longtape-verdicts/1",
    adapters: { x: [1, null, {}, { ...verdict("k"), ms: { a: "fast" } }, verdict("k")], y: 3 },
  };
  await writeFile(path, JSON.stringify(text));
  expect(await store("junk.json").read("x")).toEqual([verdict("k")]);
  expect(await store("junk.json").read("y")).toEqual([]);

  const file = store("winner.json");
  const { raced } = await load(file, "cached");
  const lying: VerdictStore = {
    read: async (adapter) => (await file.read(adapter)).map((verdict) => ({ ...verdict, winner: "nobody" })),
    write: async () => {},
  };
  expect((await load(lying, "cached")).raced).toHaveLength(raced.length);
});

test("a file that cannot be written or read is told of and stops nothing", async () => {
  await writeFile(join(folder, "file"), "");
  await mkdir(join(folder, "directory.json"));
  faults.length = 0;
  for (const name of ["file/verdicts.json", "directory.json"]) {
    await store(name).write("x", [verdict("k")]);
    expect(await store(name).read("x")).toEqual([]);
  }
  expect(faults[0]).toMatch(/^the verdicts could not be kept at .*verdicts\.json: /);
  expect(faults.slice(1).join("\n")).toMatch(/^the verdicts kept at .*directory\.json cannot be read: /);
  expect((await load(store("directory.json"), "cached")).raced.length).toBeGreaterThan(3);
});

test("processes that write at once lose nothing, and leave one whole file", async () => {
  const path = join(folder, "shared", "verdicts.json");
  const script = `
    import { verdictFile } from ${JSON.stringify(join(project, "engine/verdictFile.ts"))};
    const [path, name] = process.argv.slice(1);
    for (let i = 0; i < 20; i++)
      await verdictFile(path).write("x", [{ key: name + i, code: "", winner: "a", ms: { a: 1 } }]);`;
  const names = ["a", "b", "c"];
  const started = names.map((name) =>
    promisify(execFile)(
      process.execPath,
      ["--import", "tsx", "--input-type=module", "--eval", script, path, name],
      {
        cwd: project,
      },
    ),
  );
  for (const { stderr } of await Promise.all(started)) expect(stderr).toBe("");
  const keys = (await verdictFile(path).read("x")).map(({ key }) => key);
  expect(keys.sort()).toEqual(names.flatMap((name) => Array.from({ length: 20 }, (_, i) => name + i)).sort());
  expect(await readdir(join(folder, "shared"))).toEqual(["verdicts.json"]);
});

test("a lock that a dead process left is taken over", async () => {
  const lock = join(folder, "dead.json.lock");
  await writeFile(lock, "");
  const hourAgo = Date.now() / 1000 - 3600;
  await utimes(lock, hourAgo, hourAgo);
  await store("dead.json").write("x", [verdict("k")]);
  expect(await store("dead.json").read("x")).toEqual([verdict("k")]);
});

test("the file lies where the platform keeps what can be made again, or where the environment says", () => {
  const home = process.env.HOME ?? "";
  expect(verdictPath({}, "linux")).toBe(join(home, ".cache/longtape/verdicts.json"));
  expect(verdictPath({ XDG_CACHE_HOME: "/x" }, "linux")).toBe("/x/longtape/verdicts.json");
  expect(verdictPath({ XDG_CACHE_HOME: "/x" }, "darwin")).toBe(
    join(home, "Library/Caches/longtape/verdicts.json"),
  );
  expect(verdictPath({ LOCALAPPDATA: "/l" }, "win32")).toBe("/l/longtape/verdicts.json");
  expect(verdictPath({ LONGTAPE_VERDICTS: "/v.json" }, "linux")).toBe("/v.json");
});

test("a subject that a claim races is raced afresh, whatever is kept and whatever the settings say", async () => {
  const verdicts = store("claimed.json");
  const host = {
    gpu,
    source: directorySource,
    text: async () => "To be",
    resident: async () => null,
    verdicts,
  };
  const about = { repetitions: 1, delaySeconds: 0, warmup: false, seed: 1, maxBytes: null };
  const pp8 = { n_prompt: 8, n_gen: 0, n_depth: 0, n_parallel: 1, n_ubatch: 8 };
  const tuned = async (tune: Tune, race: boolean) => {
    const bench = await Bench.open(host, { ...about, tune, build_commit: null, version: null });
    const events: BenchEvent[] = [];
    const subject = { ...checkpoint("gru", join(project, "test/goldens/gru")), race };
    await bench.run(subject, [pp8], (event) => void events.push(event));
    bench.close();
    return events.flatMap((event) => (event.type === "tuned" ? [event.tuned] : []));
  };
  const [{ raced }] = (await tuned("cached", false)) as [Tuned];
  expect(raced).toBeGreaterThan(0);
  expect(await tuned("cached", false)).toMatchObject([{ tune: "cached", kept: raced, raced: 0 }]);
  expect(await tuned("cached", true)).toMatchObject([{ tune: "full", kept: 0, raced }]);
  expect(await tuned("off", true)).toMatchObject([{ tune: "full", kept: 0, raced }]);
}, 120_000);

test.each(["chrome", "node"])(
  "the bench in %s races once, and says what it took from before",
  async (runtime) => {
    const verdicts = join(folder, `${runtime}.json`);
    const bench = async (out: string, tune: Tune) => {
      const sizes = ["-p", "8", "-n", "0", "-d", "0", "-r", "1", "-ub", "8", "--no-warmup"];
      const args = [...sizes, "-a", "gru", "--runtime", runtime, "--software", "--tune", tune, "-o", "none"];
      const path = join(folder, `${runtime}-${out}`);
      const ran = await run("cli", [...args, "--out", path], "", { LONGTAPE_VERDICTS: verdicts });
      expect(ran.code, ran.err).toBe(0);
      return (JSON.parse(await readFile(join(path, "results.json"), "utf8")) as Results).environment;
    };
    const first = await bench("first", "cached");
    const second = await bench("second", "cached");
    const [{ raced }] = first.tuned as [Tuned];
    expect(raced).toBeGreaterThan(0);
    expect(first.tuned).toEqual([
      { model: "gru", tune: "cached", kept: 0, raced, race_ns: expect.any(Number) },
    ]);
    expect(second.tuned).toEqual([
      { model: "gru", tune: "cached", kept: raced, raced: 0, race_ns: expect.any(Number) },
    ]);
    expect(second.tuned[0]!.race_ns).toBeLessThan(first.tuned[0]!.race_ns);
    expect(second.verdicts).toEqual(first.verdicts.map((verdict) => ({ ...verdict, kept: true })));
  },
  120_000,
);
