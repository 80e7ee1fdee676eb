import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PEERS } from "../bench/peers/peer.ts";
import type { Results, Row } from "../bench/row.ts";
import { project } from "./tools/command.ts";

const minutes = 60_000;
let folder: string;
let results: Results;
let code: number | null;
let markdown: string;

/** A model that all run and one that peers have no form of, through every runtime in one Chrome. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-peers-"));
  const flags = "--peer all -a gru,sinks -p 8 -n 4 -d 0,16 -r 2 -ub 8 --tune off --out".split(" ");
  const child = spawn(process.execPath, ["--import", "tsx", "bench/cli.ts", ...flags, folder], {
    cwd: project,
    stdio: "ignore",
  });
  code = await new Promise((done) => child.on("close", done));
  results = JSON.parse(await readFile(join(folder, "results.json"), "utf8"));
  markdown = await readFile(join(folder, "results.md"), "utf8");
}, 5 * minutes);

afterAll(() => rm(folder, { recursive: true }));

const of = (model: string, peer: string): Row[] =>
  results.rows.filter((row) => row.model === model && row.peer === peer);

test("every test of every model is a row of every runtime, in turn", () => {
  expect(code).toBe(0);
  const tests = ["pp8", "tg4", "pp8 @ d16", "tg4 @ d16"];
  expect(results.rows.map(({ model, test, peer }) => `${model} ${test} ${peer}`)).toEqual(
    ["gru", "sinks"].flatMap((model) =>
      tests.flatMap((name) => PEERS.map((peer) => `${model} ${name} ${peer}`)),
    ),
  );
});

test.each(PEERS)(
  "%s agrees with the golden before it is timed, and is timed as often as longtape",
  (peer) => {
    for (const row of of("gru", peer)) {
      expect(row.status, row.reason ?? "").toBe("ok");
      expect(row.nmse_vs_reference).toBeLessThanOrEqual(1e-6);
      expect(row.samples_ns).toHaveLength(2);
      expect(row.load_ns).toBeGreaterThan(0);
      if (row.test === "pp8") expect(row.ttft_ns).toBeGreaterThan(row.load_ns!);
      expect(row.peer_version).toMatch(/^\d/);
    }
  },
);

test("bytes are counted from outside on every device, and beside them what each says itself", () => {
  for (const peer of PEERS) {
    for (const row of of("gru", peer)) {
      if (peer === "ort-wasm") {
        expect(row.backend).toBe("wasm");
        expect(row.mem_asked).toBeNull();
        expect(row.mem_own).toBeGreaterThan(0);
        continue;
      }
      expect(row.backend).toBe("webgpu");
      // the weights at least
      expect(row.mem_asked).toBeGreaterThan(4 * row.model_n_params!);
      expect(row.mem_peak).toBeGreaterThanOrEqual(row.mem_asked!);
      expect(row.dispatches_per_token).toBeGreaterThan(1);
      if (peer !== "longtape") expect(row.mem_left).toBeGreaterThanOrEqual(0);
    }
  }
});

test("what peers have no form of is said, and longtape runs it", () => {
  expect(of("sinks", "longtape").map(({ status }) => status)).toEqual(["ok", "ok", "ok", "ok"]);
  for (const peer of PEERS.slice(1))
    for (const { status, reason } of of("sinks", peer))
      expect({ status, reason }).toEqual({
        status: "unsupported",
        reason: "sinks has no form in operators that peers have",
      });
});

test("versions and settings stand in the environment, the tables in Markdown and the report", async () => {
  const { peers, versions } = results.environment;
  expect(peers!.map(({ peer }) => peer)).toEqual(PEERS.slice(1));
  for (const { peer, version, settings } of peers!) {
    expect(versions[peer]).toBe(version);
    expect(settings).not.toBe("");
  }
  const report = await readFile(join(folder, "report.html"), "utf8");
  for (const text of [markdown, report]) {
    expect(text).toContain("Side by side");
    expect(text).toContain("tokens a second over each runtime");
  }
  expect(report).toContain("Side by side: tg4");
});

test("what is left after all was given back is a column, of longtape too, and it leaves nothing", () => {
  for (const row of of("gru", "longtape")) expect(row.mem_left).toBe(0);
  for (const peer of ["ort-webgpu", "tfjs-webgpu"])
    for (const row of of("gru", peer)) expect(row.mem_left).toBeGreaterThanOrEqual(0);
});

test("a browser of its own is measured for each runtime", () => {
  const { residents } = results.environment;
  expect(residents!.map(({ peer, model }) => [peer, model])).toEqual(PEERS.map((peer) => [peer, "gru"]));
  for (const { bytes, method } of residents!) {
    expect(bytes, method).toBeGreaterThan(2 ** 20);
    expect(method).toBe("Pss of /proc, all processes");
  }
  expect(markdown).toContain("A browser for each runtime alone");
});
