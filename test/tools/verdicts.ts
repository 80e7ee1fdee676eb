// Before all tests: what commands race is kept in a folder of this run, never in the user's own.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export default async function ownVerdicts(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "longtape-verdicts-"));
  process.env.LONGTAPE_VERDICTS = join(folder, "verdicts.json");
  return () => rm(folder, { recursive: true, force: true });
}
