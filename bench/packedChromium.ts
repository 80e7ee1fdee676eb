// The Chromium inside @sparticuz/chromium: a plain npm package, so it is there wherever `npm ci` ran. It is
// meant for a cloud function, and unpacks into fixed names under the temporary folder; here it is unpacked
// once, into a cache folder of the user's own.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const packageName = "@sparticuz/chromium";

export interface PackedChromium {
  executablePath: string;
  /** Added to the environment of the browser: its own libraries and fonts. */
  env: Record<string, string>;
  vulkanLoader: string;
  swiftShaderDriver: string;
}

export async function packedChromium(
  cacheRoot = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "longtape"),
): Promise<PackedChromium> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error(
      `the Chromium inside ${packageName} runs on linux x64 only, this is ${process.platform} ${process.arch}`,
    );
  }
  const require = createRequire(import.meta.url);
  const entry = require.resolve(packageName);
  const { version } = require(join(dirname(entry), "../../package.json")) as { version: string };
  const folder = join(cacheRoot, `chromium-${version}`);
  if (!existsSync(folder)) await unpack(folder, cacheRoot);
  return {
    executablePath: join(folder, "chromium"),
    env: {
      LD_LIBRARY_PATH: [join(folder, "al2023", "lib"), process.env.LD_LIBRARY_PATH].filter(Boolean).join(":"),
      FONTCONFIG_FILE: join(folder, "longtape-fonts.conf"),
    },
    vulkanLoader: join(folder, "libvulkan.so.1"),
    swiftShaderDriver: join(folder, "vk_swiftshader_icd.json"),
  };
}

async function unpack(folder: string, cacheRoot: string): Promise<void> {
  await mkdir(cacheRoot, { recursive: true });
  const staging = await mkdtemp(join(cacheRoot, "unpacking-"));
  try {
    // The package reads its target and whether to bring its libraries from the environment, and one of the
    // two while it is imported, so it works in a process of its own.
    const script = `import chromium from "${packageName}"; await chromium.executablePath();`;
    await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script], {
      cwd: import.meta.dirname,
      env: { ...process.env, NODE_OPTIONS: "", TMPDIR: staging, AWS_EXECUTION_ENV: "AWS_Lambda_nodejs20.x" },
    });
    await writeFile(join(staging, "longtape-fonts.conf"), fontsConfig);
    // The rename makes it whole or absent for every other process; whoever comes second uses the first's.
    await rename(staging, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

// The package's own configuration looks for its fonts in folders of a cloud function.
const fontsConfig = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
`;
