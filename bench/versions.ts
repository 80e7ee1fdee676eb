import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { project } from "./commandLine.ts";

const versionIn = (folder: string): string =>
  (JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string }).version;

export const ownVersion = (): string => versionIn(project);
/** Of a package that is installed. */
export const packageVersion = (name: string): string => versionIn(join(project, "node_modules", name));

/** What a page's results name: longtape, and the package that counts. */
export const pageVersions = () => ({
  longtape: ownVersion(),
  "webgpu-memory": packageVersion("webgpu-memory"),
});

/** Short commit of the working tree, "-dirty" where it has changes; null where it is no git repository. */
export function buildCommit(): string | null {
  const git = (...args: string[]) =>
    execFileSync("git", args, { cwd: project, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const commit = git("rev-parse", "--short", "HEAD");
    return git("status", "--porcelain") === "" ? commit : `${commit}-dirty`;
  } catch {
    return null;
  }
}
