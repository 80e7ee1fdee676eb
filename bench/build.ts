// npm run build: the page as a static site that works under any path, from any file server, and offline.

import { createHash } from "node:crypto";
import { cp, readdir, readFile, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { Command } from "commander";
import { build, type InlineConfig } from "vite";
import { checkpoints, parse, project, runCommand } from "./commandLine.ts";
import { formatBytes } from "./units.ts";
import { buildCommit, pageVersions } from "./versions.ts";

const page = join(project, "bench/page");
const shared: InlineConfig = { configFile: false, envDir: false, logLevel: "warn", publicDir: false };
const SERVICE_WORKER = "offline.js";
/** Larger files are kept once they were asked for: they are of other runtimes. */
const MOST_KEPT = 2 ** 20;

await runCommand(async (argv) => {
  const command = new Command("npm run build --")
    .description(
      "Builds the page as static files: copy the folder to any file server, under any path. The shipped checkpoints are in it.",
    )
    .option("--out <dir>", "folder, which is emptied first", "dist")
    .helpOption("-h, --help", "print this");
  const parsed = parse<{ out: string }>(command, argv);
  if (!parsed) return 0;
  const out = resolve(parsed.flags.out);
  await expectOurs(out);
  await build(pageConfig(out));
  await cp(checkpoints, join(out, "models/checkpoints"), { recursive: true });
  const files = await filesIn(out);
  await build(serviceWorkerConfig(out, files));
  const bytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const first = files.filter(({ first }) => first).reduce((sum, { zipped }) => sum + zipped, 0);
  console.log(
    `${out}: ${files.length} files, ${formatBytes(bytes)}; page and race without weights: ${Math.ceil(first / 1000)} kB gzipped`,
  );
  return 0;
});

/** Throws where the folder holds something else: it will be emptied. */
async function expectOurs(out: string): Promise<void> {
  const found: string[] = await readdir(out).catch(() => []);
  if (found.length > 0 && !found.includes("index.html"))
    throw new Error(
      `${out} holds other files (${found.slice(0, 3).join(", ")}), wanted an empty folder or a page that was built before`,
    );
  await rm(out, { recursive: true, force: true });
}

function pageConfig(outDir: string): InlineConfig {
  return {
    ...shared,
    root: page,
    base: "./",
    define: {
      "globalThis.LONGTAPE_BUILD": JSON.stringify({ commit: buildCommit(), versions: pageVersions() }),
      "globalThis.LONGTAPE_OFFLINE": JSON.stringify(SERVICE_WORKER),
    },
    worker: { format: "es" },
    build: {
      outDir,
      emptyOutDir: false,
      target: "esnext",
      // the page's policy takes no data: address but for images
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      chunkSizeWarningLimit: 4096,
    },
  };
}

interface Built {
  /** From the folder, with slashes. */
  path: string;
  bytes: number;
  zipped: number;
  /** Fetched before a race has its weights. */
  first: boolean;
}

async function filesIn(out: string): Promise<Built[]> {
  const all = await readdir(out, { recursive: true, withFileTypes: true });
  const files: Built[] = [];
  const html = await readFile(join(out, "index.html"), "utf8");
  for (const entry of all.filter((one) => one.isFile())) {
    const file = join(entry.parentPath, entry.name);
    const path = file.slice(out.length + 1).replaceAll("\\", "/");
    const { size } = await stat(file);
    const first = path === "index.html" || html.includes(path) || path.includes("raceWorker-");
    files.push({ path, bytes: size, zipped: first ? gzipSync(await readFile(file)).length : 0, first });
  }
  return files;
}

function serviceWorkerConfig(outDir: string, files: readonly Built[]): InlineConfig {
  const kept = files.filter(({ path, bytes }) => !path.startsWith("models/") && bytes <= MOST_KEPT);
  const names = ["./", ...kept.map(({ path }) => `./${path}`)];
  // hashes stand in the names; index.html says which, and the sizes tell checkpoints apart
  const version = createHash("sha256")
    .update(JSON.stringify(files.map(({ path, bytes }) => [path, bytes])))
    .digest("hex")
    .slice(0, 16);
  return {
    ...shared,
    define: { FILES: JSON.stringify(names), VERSION: JSON.stringify(version) },
    build: {
      outDir,
      emptyOutDir: false,
      target: "esnext",
      lib: { entry: join(page, "serviceWorker.ts"), formats: ["es"], fileName: () => SERVICE_WORKER },
    },
  };
}
