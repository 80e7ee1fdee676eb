import { expect, test } from "vitest";
import { drmBytes, nvidiaBytes, residentBytes } from "../bench/meters/resident.ts";

const client = (id: number, lines: string[]) =>
  ["pos:\t0", "drm-driver:\tamdgpu", `drm-client-id:\t${id}`, "drm-pdev:\t0000:03:00.0", ...lines, ""].join(
    "\n",
  );

test("DRM's clients are added up over regions, copies of a client counted once", () => {
  const one = client(7, [
    "drm-total-vram:\t9 MiB",
    "drm-resident-vram:\t8 MiB",
    "drm-resident-gtt:\t2048 KiB",
  ]);
  const old = client(8, ["drm-memory-vram:\t1024 KiB", "drm-memory-cpu:\t0", "drm-engine-gfx:\t123 ns"]);
  expect(drmBytes([one, one, old, "pos:\t0\nflags:\t02\n"])).toBe(11 * 2 ** 20);
  expect(drmBytes(["pos:\t0\n"])).toBeNull();
});

test("nvidia-smi's report is read for one process", () => {
  const process = (pid: number, memory: string) =>
    `<process_info><pid>${pid}</pid><type>G</type><used_memory>${memory}</used_memory></process_info>`;
  const report = `<processes>${process(12, "3 MiB")}${process(1, "500 MiB")}\n${process(12, "4 MiB")}</processes>`;
  expect(nvidiaBytes(report, 12)).toBe(7 * 2 ** 20);
  expect(nvidiaBytes(report, 2)).toBeNull();
  expect(nvidiaBytes(process(12, "N/A"), 12)).toBeNull();
});

test.runIf(process.platform === "linux")("a process's resident set is read from /proc", async () => {
  const found = await residentBytes(process.pid, true);
  expect(found?.bytes).toBeGreaterThan(2 ** 24);
  expect(await residentBytes(2 ** 30, true)).toBeNull();
});
