// What command lines open: the place where they run, and the file that they end with.

import { spawn } from "node:child_process";
import type { Runtime, RuntimeRequest } from "./runtime.ts";

/** Loads only what the place takes. Throws BrowserError or AdapterError. */
export async function openRuntime(name: "chrome" | "node", request: RuntimeRequest): Promise<Runtime> {
  if (name === "node") return (await import("./nodeRuntime.ts")).nodeRuntime(request);
  return (await import("./chromeRuntime.ts")).chromeRuntime(request);
}

/** In whatever the system opens such a file with. */
export function openFile(path: string): void {
  const [command, ...args] = {
    darwin: ["open", path],
    win32: ["cmd", "/c", "start", "", path],
  }[process.platform as string] ?? ["xdg-open", path];
  spawn(command!, args, { stdio: "ignore", detached: true })
    .on("error", (error) => console.error(`--open: ${path} could not be opened (${error.message})`))
    .unref();
}
