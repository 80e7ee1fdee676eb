import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import * as source from "../index.ts";

const project = resolve(import.meta.dirname, "..");
const run = promisify(execFile);
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-package-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: project });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf("[")));
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }');
  await run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", `./${filename}`], {
    cwd: folder,
  });
}, 180_000);

afterAll(() => rm(folder, { recursive: true }));

test("the installed package exports in plain Node what index.ts exports", async () => {
  const script = 'console.log(JSON.stringify(Object.keys(await import("longtape"))))';
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", script], { cwd: folder });
  expect(JSON.parse(stdout).sort()).toEqual(Object.keys(source).sort());
});

test("a folder on disk runs in plain Node, without WebGPU", async () => {
  const script = `
    import { createEngine } from "longtape";
    import { directorySource } from "longtape/node";
    const engine = await createEngine({ machine: "cpu" });
    const model = await engine.load(directorySource(process.argv[1]));
    const session = await model.session({ chunk: 8 });
    await session.prefill([1, 2, 3]);
    const ids = [];
    for await (const id of session.stream({ maxTokens: 4 })) ids.push(id);
    console.log(JSON.stringify(ids));`;
  const golden = join(project, "test/goldens/mamba");
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", script, golden], {
    cwd: folder,
  });
  expect(JSON.parse(stdout)).toHaveLength(4);
});

test("the README's lines pass a strict compiler that knows nothing of this project", async () => {
  const readme = await readFile(join(project, "README.md"), "utf8");
  const [engine, , kept, branches] = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, lines]) => lines);
  const node =
    'import { directorySource, verdictFile } from "longtape/node";\n' +
    'engine.load(directorySource("folder"));\ncreateEngine({ verdicts: verdictFile() });\n';
  await writeFile(join(folder, "user.ts"), `${engine}${branches}${node}`);
  await writeFile(join(folder, "kept.ts"), kept!);
  const tsc = join(project, "node_modules/typescript/bin/tsc");
  const flags = [
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--module",
    "nodenext",
    "--target",
    "es2023",
    "--lib",
    "esnext,dom",
  ];
  await run(process.execPath, [tsc, ...flags, "user.ts", "kept.ts"], { cwd: folder });
});

test("whoever installs it gets no peer and no browser", async () => {
  const files = await readdir(join(folder, "node_modules"), { recursive: true });
  const unwanted = /onnxruntime|tensorflow|chromium|playwright|vite|\/webgpu\//;
  expect(files.filter((file) => unwanted.test(file))).toEqual([]);
  expect(files.filter((file) => file.endsWith(".test.ts") || file.includes("checkpoints"))).toEqual([]);
});
