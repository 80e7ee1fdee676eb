import { cp, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Verdict, verdictLine } from "../bench/golden.ts";
import { project, run } from "./tools/command.ts";

const good = join(project, "test/goldens/mamba");
let folder: string;
let broken: Record<"flipped" | "truncated" | "goldenless" | "misshapen" | "missing", string>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-verify-"));
  const copy = async (name: string) => {
    await cp(good, join(folder, name), { recursive: true });
    return join(folder, name);
  };
  broken = {
    flipped: await copy("flipped"),
    truncated: await copy("truncated"),
    goldenless: await copy("goldenless"),
    misshapen: await copy("misshapen"),
    missing: join(folder, "missing"),
  };
  await flipBits(join(broken.flipped, "model.safetensors"));
  await truncate(join(broken.truncated, "model.safetensors"), 60_000);
  await rm(join(broken.goldenless, "golden.safetensors"));
  await cp(
    join(project, "models/checkpoints/mamba/golden.safetensors"),
    join(broken.misshapen, "golden.safetensors"),
  );
});

afterAll(() => rm(folder, { recursive: true }));

/** The lowest bit of the exponent of every 100th weight of the last quarter: finite, and wrong. */
async function flipBits(file: string): Promise<void> {
  const bytes = await readFile(file);
  for (let at = bytes.length - 4 * Math.floor(bytes.length / 16); at < bytes.length; at += 400)
    bytes[at + 2]! ^= 0x80;
  await writeFile(file, bytes);
}

test("a line a folder: what is broken fails with its reason, and the others still run", async () => {
  const folders = [broken.flipped, broken.truncated, broken.goldenless, broken.misshapen, broken.missing];
  const { code, out, err } = await run("verify", [...folders, good]);
  expect(code, err).toBe(1);
  const lines = out.trimEnd().split("\n");
  expect(lines).toHaveLength(6);
  const [flipped, truncated, goldenless, misshapen, missing, passed] = lines as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  expect(flipped).toMatch(
    /^FAIL .*flipped: NMSE GPU \d.*, CPU \d.*greedy .*equal; adapter: .+; GPU machine: NMSE \S+, wanted at most 1e-9/,
  );
  expect(truncated).toMatch(/^FAIL .*truncated: .*model\.safetensors: .*the file holds 60000/);
  expect(goldenless).toMatch(/^FAIL .*goldenless: .*holds no golden\.safetensors$/);
  expect(misshapen).toMatch(
    /^FAIL .*misshapen: .*golden\.safetensors: logits are \[1, 300, 256\], the model's vocabulary wants \[1, 300, 64\]$/,
  );
  expect(missing).toMatch(/^FAIL .*missing: .*missing holds no golden\.safetensors$/);
  expect(passed).toMatch(
    /^ok {3}\S*test\/goldens\/mamba: NMSE GPU [\d.]+e-\d+, CPU .*; largest difference GPU .*; greedy equal; adapter: /,
  );
  expect(err).not.toContain("    at ");
});

test("--json prints one document", async () => {
  const { code, out, err } = await run("verify", ["--json", "--tune", "off", good]);
  expect(code, err).toBe(0);
  expect(JSON.parse(out)).toEqual({
    schema: "longtape-verify/1",
    ok: true,
    runtime: "node",
    nmse_limit: 1e-9,
    folders: [
      {
        folder: good,
        arch: "mamba",
        ok: true,
        reason: null,
        adapter: expect.any(String),
        software: expect.any(Boolean),
        gpu: { nmse: expect.any(Number), largest: expect.any(Number), greedy: true },
        cpu: { nmse: expect.any(Number), largest: expect.any(Number), greedy: true },
      },
    ],
  });
});

test("a page of Chrome does the same, and calls a folder by its name", async () => {
  const { code, out, err } = await run("verify", [
    "--runtime",
    "chrome",
    "--tune",
    "off",
    good,
    broken.missing,
  ]);
  expect(code, err).toBe(1);
  expect(out).toMatch(/^ok {3}\S*test\/goldens\/mamba: /m);
  expect(out).toMatch(/^FAIL .*; \S*missing holds no golden\.safetensors$/m);
});

test.each([
  [["--frob"], /^unknown option '--frob'/],
  [["--runtime", "moon"], /'--runtime <name>' argument 'moon' is invalid/],
  [["--tune", "maybe"], /choices are off, cached, full/],
])("%j is a wrong command line", async (args, message) => {
  const { code, out, err } = await run("verify", args);
  expect([code, out, err.trimEnd().split("\n").length]).toEqual([2, "", 1]);
  expect(err).toMatch(message);
});

test("a logit that is not finite is said to be one", () => {
  const verdict: Verdict = {
    folder: "some",
    arch: "mamba",
    ok: false,
    reason: "GPU machine: a logit is not finite",
    adapter: "SwiftShader",
    software: true,
    gpu: { nmse: null, largest: null, greedy: false },
    cpu: { nmse: 1e-14, largest: 1e-6, greedy: true },
  };
  expect(verdictLine(verdict)).toBe(
    "FAIL some: NMSE GPU not finite, CPU 1.0e-14; largest difference GPU not finite, CPU 1.0e-6; greedy not equal; adapter: SwiftShader, a software adapter; GPU machine: a logit is not finite",
  );
});
