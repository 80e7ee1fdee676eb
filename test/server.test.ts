import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RunningServer, startServer } from "../bench/server.ts";

const project = resolve(import.meta.dirname, "..");
let folder: string;
let server: RunningServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "longtape-server-"));
  await writeFile(join(folder, "weights.bin"), "0123456789");
  await writeFile(join(folder, "empty.bin"), "");
  server = await startServer({ folders: { "my model": folder } });
});

afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

/** The path goes out as it stands: fetch would tidy `..` away. */
function statusOf(path: string, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((done, fail) => {
    const url = new URL(server.url);
    request({ host: url.hostname, port: url.port, path, headers }, (response) => {
      response.resume();
      done(response.statusCode!);
    })
      .on("error", fail)
      .end();
  });
}

test("the shipped checkpoints are served byte for byte, cross-origin isolated", async () => {
  const path = "models/checkpoints/llama/config.json";
  const response = await fetch(server.url + path);
  expect(response.headers.get("content-type")).toBe("application/json");
  expect(response.headers.get("cross-origin-opener-policy")).toBe("same-origin");
  expect(response.headers.get("cross-origin-embedder-policy")).toBe("require-corp");
  expect(await response.text()).toBe(await readFile(join(project, path), "utf8"));
});

test("a registered folder is served whole, in part, and empty", async () => {
  const url = `${server.url}folders/my%20model/`;
  expect(await (await fetch(`${url}weights.bin`)).text()).toBe("0123456789");
  const part = await fetch(`${url}weights.bin`, { headers: { Range: "bytes=2-4" } });
  expect([part.status, part.headers.get("content-range"), await part.text()]).toEqual([
    206,
    "bytes 2-4/10",
    "234",
  ]);
  const tail = await fetch(`${url}weights.bin`, { headers: { Range: "bytes=7-" } });
  expect(await tail.text()).toBe("789");
  const past = await fetch(`${url}weights.bin`, { headers: { Range: "bytes=10-" } });
  expect([past.status, past.headers.get("content-range")]).toEqual([416, "bytes */10"]);
  const head = await fetch(`${url}weights.bin`, { method: "HEAD" });
  expect([head.headers.get("content-length"), await head.text()]).toEqual(["10", ""]);
  expect(await (await fetch(`${url}empty.bin`)).text()).toBe("");
});

test("modules of the project are served as JavaScript", async () => {
  const response = await fetch(`${server.url}@fs${join(project, "bench/adapter.ts")}`);
  expect(response.headers.get("content-type")).toContain("javascript");
  expect(response.headers.get("cross-origin-embedder-policy")).toBe("require-corp");
  expect(await response.text()).toContain("export const adapterLine");
});

test("the page is left alone: Vite's client opens no socket", async () => {
  const client = await (await fetch(`${server.url}@vite/client`)).text();
  expect(client).toContain("injectQuery");
  expect(client).not.toMatch(/^transport\.connect/m);
});

test.each([
  ["/folders/my%20model/../../package.json", 404],
  ["/folders/my%20model/%2e%2e/%2e%2e/etc/passwd", 404],
  ["/folders/my%20model/..%2f..%2fetc%2fpasswd", 403],
  ["/folders/my%20model/", 404],
  ["/folders/my%20model/absent.bin", 404],
  ["/folders/other/weights.bin", 404],
  ["/models/checkpoints/../../package.json", 404],
  [`/@fs${project}/package.json`, 403],
  [`/@fs${project}/package.json?raw`, 403],
  [`/@fs${project}/package.json?import&raw`, 403],
  [`/@fs${project}/.git/config`, 403],
  [`/@fs${project}/test/goldens/llama/config.json`, 403],
  [`/@fs${project}/bench/../package.json`, 403],
  ["/@fs/etc/passwd", 403],
  ["/../../package.json", 404],
  ["/__open-in-editor?file=package.json", 404],
])("%s is refused", async (path, status) => {
  expect(await statusOf(path)).toBe(status);
});

test("another host's name is refused, whatever it resolves to", async () => {
  expect(await statusOf("/models/checkpoints/llama/config.json", { Host: "attacker.example" })).toBe(403);
});
