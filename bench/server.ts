// Serves bench/page and what it needs, on 127.0.0.1 only, through Vite (which turns TypeScript into JavaScript).
//
//   /                          bench/page
//   /@fs/...                   modules that the page imports: engine/ kernels/ models/ bench/ node_modules index.ts
//   /models/checkpoints/NAME/  the shipped checkpoints, as files
//   /folders/NAME/             folders that the caller names: startServer({ folders: { NAME: PATH } })
//
// Nothing else of the project or of the machine can be fetched. Files answer Range requests, as a loader
// that reads one tensor at a time wants. Pages are cross-origin isolated: clocks are finer there.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { isAbsolute, join, relative, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { createServer as createViteServer, type Plugin } from "vite";

const project = resolve(import.meta.dirname, "..");

const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export interface ServerOptions {
  /** 0, the default, takes a free one. */
  port?: number | undefined;
  /** Folders to serve under /folders/NAME/, by name. Links inside them are followed, as Hugging Face's cache has. */
  folders?: Record<string, string> | undefined;
  /** What pages read as globalThis.LONGTAPE_BUILD. */
  build?: Build | undefined;
}

export interface Build {
  commit: string | null;
  /** By package; our own is `longtape`. */
  versions: Record<string, string>;
}

export interface RunningServer {
  /** Address of the page, ends in a slash. */
  url: string;
  close(): Promise<void>;
}

export async function startServer({
  port = 0,
  folders = {},
  build,
}: ServerOptions = {}): Promise<RunningServer> {
  const served = new Map([["/models/checkpoints/", join(project, "models/checkpoints")]]);
  for (const [name, path] of Object.entries(folders)) {
    served.set(`/folders/${encodeURIComponent(name)}/`, resolve(path));
  }
  const vite = await createViteServer({
    configFile: false,
    envDir: false,
    root: join(project, "bench/page"),
    cacheDir: join(project, "node_modules/.vite/page"),
    appType: "mpa",
    logLevel: "error",
    publicDir: false,
    define: build ? { LONGTAPE_BUILD: JSON.stringify(build) } : {},
    plugins: [filesPlugin(served), withoutHotReload],
    // onnxruntime-web finds its .wasm beside its own file, so it stays in its own file.
    // TensorFlow.js is bundled before it is asked for: found in mid-run it would reload the page.
    optimizeDeps: {
      exclude: ["onnxruntime-web"],
      include: ["@tensorflow/tfjs", "@tensorflow/tfjs-backend-webgpu", "protobufjs/light.js"],
    },
    server: {
      middlewareMode: true,
      hmr: false,
      ws: false,
      watch: null,
      cors: false,
      headers,
      fs: {
        strict: true,
        allow: ["engine", "kernels", "models", "bench", "node_modules", "index.ts"].map((name) =>
          join(project, name),
        ),
      },
    },
  });
  const http = createHttpServer(vite.middlewares);
  await new Promise<void>((done, fail) => {
    http.once("error", fail).listen(port, "127.0.0.1", done);
  });
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/`,
    async close() {
      const closed = new Promise((done) => http.close(done));
      http.closeAllConnections();
      await Promise.all([closed, vite.close()]);
    },
  };
}

/**
 * Vite's client opens a socket to be told of changes and to reload the page, which a measurement is better
 * without. The rest of the client stays: Vite's rewritten imports call it.
 */
const withoutHotReload: Plugin = {
  name: "longtape:without-hot-reload",
  transform: {
    filter: { id: /\/vite\/dist\/client\/client\.mjs$/ },
    handler: (code) =>
      code.replace(/^console\.debug\(.*connecting.*\n/m, "").replace(/^transport\.connect\(.*$/m, ""),
  },
};

function filesPlugin(served: ReadonlyMap<string, string>): Plugin {
  return {
    name: "longtape:files",
    configureServer({ middlewares }) {
      middlewares.use("/__open-in-editor", (_request, response) => refuse(response, 404));
      middlewares.use((request, response, next) => {
        const path = new URL(request.url ?? "/", "http://localhost").pathname;
        const prefix = [...served.keys()].find((key) => path.startsWith(key));
        if (prefix === undefined) return next();
        sendFile(request, response, served.get(prefix)!, path.slice(prefix.length)).catch(next);
      });
    },
  };
}

async function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  folder: string,
  encodedPath: string,
): Promise<void> {
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(response, 405);
  const file = fileInside(folder, encodedPath);
  if (!file) return refuse(response, 403);
  const size = await stat(file).then(
    (found) => (found.isFile() ? found.size : undefined),
    () => undefined,
  );
  if (size === undefined) return refuse(response, 404);

  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  if (range && start > end) {
    response.setHeader("Content-Range", `bytes */${size}`);
    return refuse(response, 416);
  }
  response.writeHead(range ? 206 : 200, {
    ...headers,
    ...(range && { "Content-Range": `bytes ${start}-${end}/${size}` }),
    "Accept-Ranges": "bytes",
    "Content-Length": end - start + 1,
    "Content-Type": file.endsWith(".json") ? "application/json" : "application/octet-stream",
  });
  if (request.method === "HEAD" || size === 0) {
    response.end();
    return;
  }
  // A page that stops reading halfway is no failure of the server.
  await pipeline(createReadStream(file, { start, end }), response).catch(() => response.destroy());
}

function fileInside(folder: string, encodedPath: string): string | undefined {
  try {
    const file = join(folder, decodeURIComponent(encodedPath));
    const inside = relative(folder, file);
    return inside.startsWith("..") || isAbsolute(inside) || file.includes("\0") ? undefined : file;
  } catch {
    return undefined;
  }
}

function refuse(response: ServerResponse, status: number): void {
  response.writeHead(status).end();
}
