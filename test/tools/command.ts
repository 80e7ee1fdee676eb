// Runs a command of the bench as a person does, in a process of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";

export const project = resolve(import.meta.dirname, "../..");

export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** `bench/<name>.ts` with these arguments, and this laid over the environment. */
export function start(name: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, ["--import", "tsx", join(project, `bench/${name}.ts`), ...args], {
    cwd: project,
    env: { ...process.env, ...env },
  });
}

export async function ended(child: ChildProcess): Promise<Ended> {
  const [out, err, code] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    new Promise<number | null>((done) => child.on("close", done)),
  ]);
  return { code, out, err };
}

export function run(
  name: string,
  args: readonly string[],
  input = "",
  env: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  const child = start(name, args, env);
  child.stdin!.end(input);
  return ended(child);
}
