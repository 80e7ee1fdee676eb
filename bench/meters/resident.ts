// What a process holds, by the operating system's count.

import { readFile } from "node:fs/promises";

export interface Resident {
  bytes: number;
  method: string;
}

/** The resident set of a process; null where the system does not tell. */
export async function residentBytes(pid: number): Promise<Resident | null> {
  if (process.platform !== "linux") return null;
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(status);
  return match ? { bytes: 1024 * Number(match[1]), method: "VmRSS of /proc" } : null;
}
