import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const project = resolve(import.meta.dirname, "..");

const forbidden = [
  ["engine", "../kernels/matvec.ts"],
  ["engine", "../models/mamba.ts"],
  ["engine", "../bench/row.ts"],
  ["engine", "../index.ts"],
  ["kernels", "../models/mamba.ts"],
  ["kernels", "../bench/row.ts"],
  ["kernels", "../index.ts"],
  ["models", "../bench/row.ts"],
  ["models", "../index.ts"],
  ["bench/page", "../../test/some.ts"],
] as const;

const allowed = [
  ["engine", "./kernel.ts"],
  ["kernels", "../engine/kernel.ts"],
  ["kernels", "./index.ts"],
  ["models", "../kernels/index.ts"],
  ["models", "../engine/kernel.ts"],
  ["bench", "../models/mamba.ts"],
  ["bench", "../index.ts"],
  ["test", "../bench/row.ts"],
] as const;

test("the linter holds the arrows bench -> models -> kernels -> engine", async () => {
  const folder = await mkdtemp(join(tmpdir(), "longtape-arrows-"));
  try {
    await copyFile(join(project, "biome.json"), join(folder, "biome.json"));
    const write = async (file: string, imported: string) => {
      await mkdir(join(folder, dirname(file)), { recursive: true });
      await writeFile(join(folder, file), `export * from "${imported}";\n`);
      return file;
    };
    const wrong = await Promise.all([
      ...forbidden.map(([place, imported], i) => write(`${place}/wrong${i}.ts`, imported)),
      write("index.ts", "./bench/row.ts"),
    ]);
    await Promise.all(allowed.map(([place, imported], i) => write(`${place}/right${i}.ts`, imported)));

    const biome = join(project, "node_modules/@biomejs/biome/bin/biome");
    const flags = [
      "lint",
      "--vcs-enabled=false",
      "--only=style/noRestrictedImports",
      "--max-diagnostics=none",
    ];
    const failure = await promisify(execFile)(process.execPath, [biome, ...flags], { cwd: folder }).catch(
      (error: { stderr: string }) => error,
    );
    const flagged = [...failure.stderr.matchAll(/^(\S+\.ts):\d+:\d+ lint\/style\/noRestrictedImports/gm)];
    expect(flagged.map((match) => match[1]).sort()).toEqual(wrong.sort());
  } finally {
    await rm(folder, { recursive: true });
  }
});
