// npm run dev: the page for a person's own browser.

import { Command } from "commander";
import { parse, runCommand, whole } from "./commandLine.ts";
import { startServer } from "./server.ts";
import { buildCommit, pageVersions } from "./versions.ts";

await runCommand(async (argv, signal) => {
  const command = new Command("npm run dev --")
    .description("Serves longtape's page to this machine, until Ctrl-C. Open its address in Chrome or Edge.")
    .option("--port <n>", "port on 127.0.0.1; 0 takes a free one", whole(0, 65_535), 5173)
    .helpOption("-h, --help", "print this");
  const parsed = parse<{ port: number }>(command, argv);
  if (!parsed) return 0;
  const { port } = parsed.flags;
  const server = await startServer({
    port,
    build: { commit: buildCommit(), versions: pageVersions() },
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EADDRINUSE") throw error;
    throw new Error(`port ${port} of 127.0.0.1 is taken, wanted a free one: --port 0 finds one`, {
      cause: error,
    });
  });
  console.log(`longtape: ${server.url} (Ctrl-C ends it)`);
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  await server.close();
  return 0;
});
