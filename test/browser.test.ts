import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { adapterLine } from "../bench/adapter.ts";
import {
  type BrowserPlaces,
  browserFlags,
  browserPlaces,
  findBrowser,
  launchBrowser,
} from "../bench/browser.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-browser-"));
});

afterEach(() => rm(folder, { recursive: true }));

async function fakeBrowser(name: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, "#!/bin/sh\nexit 1\n");
  await chmod(path, 0o755);
  return path;
}

test("the order is explicit, installed, Playwright's, packed", async () => {
  const packed = { executablePath: join(folder, "packed"), env: { FONTCONFIG_FILE: "fonts.conf" } };
  const places: BrowserPlaces = {
    explicit: { path: await fakeBrowser("explicit"), from: "--browser" },
    installed: [join(folder, "absent"), await fakeBrowser("chromium"), await fakeBrowser("edge")],
    playwright: await fakeBrowser("playwright"),
    packed: async () => packed,
  };
  const describe = async (some: Partial<BrowserPlaces>) =>
    (await findBrowser({ ...places, ...some })).description.replace(`${folder}/`, "");
  expect(await describe({})).toBe("explicit (--browser)");
  expect(await describe({ explicit: undefined })).toBe("chromium (installed)");
  expect(await describe({ explicit: undefined, installed: [] })).toBe("playwright (Playwright's own)");
  const bare = { explicit: undefined, installed: [], playwright: join(folder, "absent") };
  expect(await describe(bare)).toBe("packed (packed in @sparticuz/chromium)");
  expect(await findBrowser({ ...places, ...bare })).toMatchObject({ ...packed, packed: true });
});

test("a flag goes before the environment, and both before what is installed", () => {
  const env = { LONGTAPE_BROWSER: "/from/env", PATH: folder };
  expect(browserPlaces("/from/flag", env).explicit).toEqual({ path: "/from/flag", from: "--browser" });
  expect(browserPlaces(undefined, env).explicit).toEqual({ path: "/from/env", from: "LONGTAPE_BROWSER" });
  expect(browserPlaces(undefined, { PATH: folder }).explicit).toBeUndefined();
});

test("an installed browser is looked for where each system keeps it", () => {
  const linux = browserPlaces(undefined, { PATH: "/a:/b" }, "linux").installed;
  expect(linux.slice(0, 2)).toEqual(["/a/google-chrome", "/b/google-chrome"]);
  expect(linux).toContain("/b/chromium");
  expect(linux.at(-1)).toBe("/opt/microsoft/msedge/msedge");

  const mac = browserPlaces(undefined, {}, "darwin").installed;
  expect(mac[0]).toBe("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome");

  const windows = browserPlaces(undefined, { PROGRAMFILES: "C:\\Program Files" }, "win32").installed;
  expect(windows).toEqual([
    "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
    "C:\\Program Files\\Chromium\\Application\\chrome.exe",
    "C:\\Program Files\\Microsoft\\Edge\\Application\\msedge.exe",
  ]);
});

test("an explicit browser that is not there is an error that names it, never another browser", async () => {
  const missing = join(folder, "absent");
  await expect(findBrowser(browserPlaces(missing))).rejects.toThrow(
    `--browser: found no executable file at ${missing}, wanted a Chrome, Chromium or Edge`,
  );
  await writeFile(join(folder, "text"), "not a program");
  await expect(findBrowser(browserPlaces(join(folder, "text")))).rejects.toThrow("found no executable file");
  await expect(findBrowser(browserPlaces(folder))).rejects.toThrow("found no executable file");
});

test("a browser that does not start is an error with its cure", async () => {
  const broken = await fakeBrowser("broken");
  await expect(launchBrowser({ path: broken })).rejects.toThrow(
    /broken \(--browser\) did not start.*LONGTAPE_BROWSER/,
  );
});

test("where nothing is found, the error says what to do", async () => {
  const packed = () => Promise.reject(new Error("runs on linux x64 only"));
  const places = { explicit: undefined, installed: [], playwright: undefined, packed };
  await expect(findBrowser(places)).rejects.toThrow(
    /found no installed Chrome.*\(runs on linux x64 only\): install Chrome/,
  );
});

test("the software adapter is asked for only where it is wanted", () => {
  expect(browserFlags({ software: true })).toContain("--use-webgpu-adapter=swiftshader");
  expect(browserFlags({ software: false }).join(" ")).not.toContain("swiftshader");
  expect([...browserFlags({ software: true }), ...browserFlags({ software: false })]).not.toContain(
    "--no-sandbox",
  );
});

test("a software adapter is said to be one", () => {
  expect(adapterLine({ name: "NVIDIA H100", software: false })).toBe("adapter: NVIDIA H100");
  expect(adapterLine({ name: "SwiftShader", software: true })).toBe(
    "adapter: SwiftShader, a software adapter",
  );
});
