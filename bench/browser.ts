// Finds a Chromium and starts it, headless, with WebGPU: on the real GPU where there is one, on the software
// adapter where there is none or where it is asked for.
import { accessSync, constants, statSync } from "node:fs";
import { homedir } from "node:os";
import { posix, win32 } from "node:path";
import { type Browser, chromium, type LaunchOptions } from "playwright-core";
import { AdapterError } from "../engine/errors.ts";
import { type AdapterDescription, describeAdapter } from "../engine/gpuDevice.ts";
import { packedChromium } from "./packedChromium.ts";

export interface FoundBrowser {
  executablePath: string;
  /** What the browser needs in its environment beside ours. */
  env: Record<string, string>;
  /** Which place it was found in, for people. */
  description: string;
  packed: boolean;
}

export class BrowserError extends Error {
  override name = "BrowserError";
}

/** Where to look, in this order. */
export interface BrowserPlaces {
  explicit: { path: string; from: string } | undefined;
  installed: string[];
  playwright: string | undefined;
  packed: () => Promise<Pick<FoundBrowser, "executablePath" | "env">>;
}

export function browserPlaces(
  path?: string,
  env = process.env,
  platform: NodeJS.Platform = process.platform,
): BrowserPlaces {
  const fromEnv = env.LONGTAPE_BROWSER ? { path: env.LONGTAPE_BROWSER, from: "LONGTAPE_BROWSER" } : undefined;
  return {
    explicit: path ? { path, from: "--browser" } : fromEnv,
    installed: installedPaths(env, platform),
    playwright: playwrightPath(),
    packed: packedChromium,
  };
}

export async function findBrowser(places: BrowserPlaces = browserPlaces()): Promise<FoundBrowser> {
  const { explicit, installed, playwright, packed } = places;
  const foundAt = (executablePath: string, place: string): FoundBrowser => {
    return { executablePath, env: {}, description: `${executablePath} (${place})`, packed: false };
  };
  if (explicit) {
    if (isExecutable(explicit.path)) return foundAt(explicit.path, explicit.from);
    throw new BrowserError(
      `${explicit.from}: found no executable file at ${explicit.path}, wanted a Chrome, Chromium or Edge`,
    );
  }
  const present = installed.find(isExecutable);
  if (present) return foundAt(present, "installed");
  if (playwright && isExecutable(playwright)) return foundAt(playwright, "Playwright's own");
  try {
    const { executablePath, env } = await packed();
    return {
      executablePath,
      env,
      description: `${executablePath} (packed in @sparticuz/chromium)`,
      packed: true,
    };
  } catch (cause) {
    throw new BrowserError(
      `found no installed Chrome, Chromium or Edge and no Playwright browser, and could not use the packed one (${messageOf(cause)}): install Chrome, or name a browser with --browser PATH or LONGTAPE_BROWSER`,
      { cause },
    );
  }
}

function installedPaths(env: NodeJS.ProcessEnv, platform: NodeJS.Platform): string[] {
  const under = (folders: (string | undefined)[], names: string[]) =>
    names.flatMap((name) =>
      folders.flatMap((folder) =>
        folder ? [(platform === "win32" ? win32 : posix).join(folder, name)] : [],
      ),
    );
  switch (platform) {
    case "darwin":
      return under(
        ["/Applications", `${homedir()}/Applications`],
        ["Google Chrome", "Chromium", "Microsoft Edge"].map((name) => `${name}.app/Contents/MacOS/${name}`),
      );
    case "win32":
      return under(
        [env.PROGRAMFILES, env["PROGRAMFILES(X86)"], env.LOCALAPPDATA],
        ["Google/Chrome", "Chromium", "Microsoft/Edge"].map(
          (name) => `${name}/Application/${name.endsWith("Edge") ? "msedge" : "chrome"}.exe`,
        ),
      );
    default: {
      const chrome = ["google-chrome", "google-chrome-stable", "chromium", "chromium-browser"];
      const edge = ["microsoft-edge", "microsoft-edge-stable"];
      return [
        ...under((env.PATH ?? "").split(":"), [...chrome, ...edge]),
        "/opt/google/chrome/chrome",
        "/snap/bin/chromium",
        "/opt/microsoft/msedge/msedge",
      ];
    }
  }
}

/** Playwright names the place of its download whether or not it was downloaded, and refuses some systems. */
function playwrightPath(): string | undefined {
  try {
    return chromium.executablePath();
  } catch {
    return undefined;
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The flags that turn WebGPU on. Developer features give timestamps that are not rounded to 100 µs. */
export function browserFlags({ software }: { software: boolean }): string[] {
  const webgpu = ["--enable-unsafe-webgpu", "--enable-webgpu-developer-features"];
  if (software) return [...webgpu, "--use-webgpu-adapter=swiftshader"];
  if (process.platform !== "linux") return [...webgpu, "--ignore-gpu-blocklist"];
  return [
    ...webgpu,
    "--ignore-gpu-blocklist",
    // Headless Chrome on Linux reaches the GPU through Vulkan without a window system. Only the last
    // --enable-features counts, so the one of Playwright's that keeps Chrome from the network is repeated.
    "--enable-features=Vulkan,SkipListAccountsWithoutGaiaCookies",
    "--use-angle=vulkan",
    "--disable-vulkan-surface",
  ];
}

export interface LaunchRequest {
  /** Takes this executable instead of looking for one. */
  path?: string | undefined;
  /** Takes the software adapter even where there is a GPU. */
  software?: boolean | undefined;
  /** More flags for the browser. */
  args?: string[] | undefined;
  /** False leaves Ctrl-C to the caller; otherwise Playwright closes the browser and exits 130. */
  handleSIGINT?: boolean | undefined;
}

export interface LaunchedBrowser {
  browser: Browser;
  adapter: AdapterDescription;
  found: FoundBrowser;
  /** What it was started with: another launch with these gets the same adapter. */
  launchOptions: LaunchOptions;
}

/** Asks the browser itself which adapter it has: flags and device files only suggest an answer. */
export async function launchBrowser(request: LaunchRequest = {}): Promise<LaunchedBrowser> {
  const found = await findBrowser(browserPlaces(request.path));
  for (const software of request.software ? [true] : [false, true]) {
    const { browser, launchOptions } = await start(found, optionsFor(found, software, request));
    const adapter = await askAdapter(browser).catch(async (error: unknown) => {
      await browser.close();
      throw error;
    });
    if (adapter && adapter.software === software) {
      console.error(`browser: ${found.description}, version ${browser.version()}`);
      return { browser, adapter, found, launchOptions };
    }
    await browser.close();
  }
  throw new AdapterError(
    `${found.description} has no WebGPU adapter, not even the software one: update it, or name another browser with --browser PATH or LONGTAPE_BROWSER`,
  );
}

function optionsFor(found: FoundBrowser, software: boolean, request: LaunchRequest): LaunchOptions {
  const { args = [], handleSIGINT = true } = request;
  return {
    executablePath: found.executablePath,
    env: { ...process.env, ...found.env },
    args: [...browserFlags({ software }), ...args],
    // Chromium refuses to run as root with its sandbox; everyone else keeps it.
    chromiumSandbox: process.getuid?.() !== 0,
    handleSIGINT,
  };
}

async function start(
  found: FoundBrowser,
  launchOptions: LaunchOptions,
): Promise<Pick<LaunchedBrowser, "browser" | "launchOptions">> {
  try {
    return { browser: await chromium.launch(launchOptions), launchOptions };
  } catch (cause) {
    const message = messageOf(cause);
    // Ubuntu and containers keep user namespaces from an executable that no package manager installed, and
    // the packed one has no other sandbox. It shows our own pages only.
    if (found.packed && launchOptions.chromiumSandbox && /sandbox/i.test(message)) {
      console.error("browser: the packed Chromium cannot have its sandbox here, starting it without");
      return start(found, { ...launchOptions, chromiumSandbox: false });
    }
    throw new BrowserError(
      `${found.description} did not start (${message.split("\n", 1)[0]}): name another browser with --browser PATH or LONGTAPE_BROWSER`,
      { cause },
    );
  }
}

async function askAdapter(browser: Browser): Promise<AdapterDescription | undefined> {
  const page = await browser.newPage();
  try {
    // WebGPU is there for secure contexts only, and about:blank is none.
    await page.route("http://localhost/", (route) => route.fulfill({ contentType: "text/html", body: "" }));
    await page.goto("http://localhost/");
    const info = await page.evaluate(async () => {
      const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
      if (!adapter) return undefined;
      const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
      return { vendor, architecture, device, description, isFallbackAdapter };
    });
    return info && describeAdapter({ info } as GPUAdapter);
  } finally {
    await page.close();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
