// What a process holds, by the operating system's count or the driver's.

import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { promisify } from "node:util";

export interface Resident {
  bytes: number;
  method: string;
}

/**
 * Bytes that a process holds: in memory where the adapter is software, else on the GPU, by the kernel's count (DRM
 * fdinfo) or nvidia-smi's. Null where nobody tells.
 */
export async function residentBytes(pid: number, software: boolean): Promise<Resident | null> {
  if (process.platform !== "linux") return null;
  if (software) {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    return kib === undefined ? null : { bytes: 1024 * Number(kib), method: "VmRSS of /proc" };
  }
  const drm = drmBytes(await openFiles(pid));
  if (drm !== null) return { bytes: drm, method: "DRM fdinfo of /proc" };
  const report = await promisify(execFile)("nvidia-smi", ["-q", "-x"], { maxBuffer: 2 ** 26 }).then(
    ({ stdout }) => stdout,
    () => "",
  );
  const nvidia = nvidiaBytes(report, pid);
  return nvidia === null ? null : { bytes: nvidia, method: "nvidia-smi" };
}

/** Bytes of memory that a process holds, those that it shares with others by its share (Pss); null where nobody tells. */
export async function proportionalBytes(pid: number): Promise<number | null> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
  const kib = /^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1];
  return kib === undefined ? null : 1024 * Number(kib);
}

async function openFiles(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fdinfo`;
  const names = await readdir(folder).catch(() => []);
  return Promise.all(names.map((name) => readFile(`${folder}/${name}`, "utf8").catch(() => "")));
}

const units: Record<string, number> = { "": 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/**
 * Of the fdinfo files of a process (docs.kernel.org/gpu/drm-usage-stats.html): what each client of a DRM device holds in
 * all regions. Files that are copies of one another are one client. Null where there is none.
 */
export function drmBytes(files: readonly string[]): number | null {
  const clients = new Map<string, number>();
  for (const file of files) {
    const id = /^drm-client-id:\s*(\d+)$/m.exec(file)?.[1];
    if (id === undefined) continue;
    const device = /^drm-pdev:\s*(\S+)$/m.exec(file)?.[1] ?? "";
    // kernels before 6.5 said drm-memory-, for the same
    const name = /^drm-resident-/m.test(file) ? "resident" : "memory";
    let bytes = 0;
    for (const [, count, unit = ""] of file.matchAll(
      new RegExp(`^drm-${name}-\\S+:\\s*(\\d+)(?: (KiB|MiB|GiB))?$`, "gm"),
    ))
      bytes += Number(count) * units[unit]!;
    clients.set(`${device} ${id}`, bytes);
  }
  return clients.size === 0 ? null : [...clients.values()].reduce((a, b) => a + b, 0);
}

/** Of `nvidia-smi -q -x`: what the process holds on all its GPUs; null where it is not listed. */
export function nvidiaBytes(report: string, pid: number): number | null {
  let bytes: number | null = null;
  for (const [entry] of report.matchAll(/<process_info>.*?<\/process_info>/gs)) {
    const mib = /<used_memory>(\d+) MiB<\/used_memory>/.exec(entry)?.[1];
    if (mib !== undefined && entry.includes(`<pid>${pid}</pid>`))
      bytes = (bytes ?? 0) + Number(mib) * 2 ** 20;
  }
  return bytes;
}
