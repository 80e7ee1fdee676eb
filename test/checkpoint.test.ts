import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { openCheckpoint } from "../models/checkpoint.ts";
import { directorySource } from "../models/directory.ts";
import { openSafetensors, TensorError } from "../models/safetensors.ts";
import { CheckpointError, filesSource, type Source, urlSource } from "../models/source.ts";

const GOLDENS = fileURLToPath(new URL("goldens/", import.meta.url));
const CHECKPOINTS = fileURLToPath(new URL("../models/checkpoints/", import.meta.url));

/** A file of F32 tensors: each name's shape, filled with 1, 2, 3, … from tensor to tensor. */
function safetensors(shapes: Record<string, number[]>): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = {};
  let elements = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const begin = elements * 4;
    elements += shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: "F32", shape, data_offsets: [begin, elements * 4] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + elements * 4);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  out.set(new Uint8Array(Float32Array.from({ length: elements }, (_, i) => i + 1).buffer), 8 + json.length);
  return out;
}
type Content = Uint8Array<ArrayBuffer> | string;
const memory = (files: Record<string, Content>): Source =>
  filesSource(Object.entries(files).map(([name, content]) => new File([content], name)));
const config = JSON.stringify({ model_type: "llama" });
const single = {
  "config.json": config,
  "model.safetensors": safetensors({ "a.weight": [2, 3], "b.weight": [1] }),
};
const index = (weight_map: Record<string, unknown>): string =>
  JSON.stringify({ metadata: { total_size: 1 }, weight_map });
const sharded = {
  "config.json": config,
  "model.safetensors.index.json": index({
    a: "model-00001-of-00002.safetensors",
    b: "model-00002-of-00002.safetensors",
  }),
  "model-00001-of-00002.safetensors": safetensors({ a: [2] }),
  "model-00002-of-00002.safetensors": safetensors({ other: [1], b: [2, 2] }),
};
const failure = async (files: Record<string, Content>): Promise<Error> => {
  const error = await openCheckpoint(memory(files)).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(CheckpointError);
  return error as Error;
};

describe("one file", () => {
  test("tensors, config, bytes", async () => {
    const checkpoint = await openCheckpoint(memory(single));
    expect(checkpoint.config).toEqual({ model_type: "llama" });
    expect(checkpoint.bytes).toBe(28);
    expect(checkpoint.tensors.get("a.weight")).toMatchObject({
      dtype: "F32",
      shape: [2, 3],
      file: "model.safetensors",
    });
    expect([...(await checkpoint.read("a.weight", [2, 3]))]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("a shape that does not fit", async () => {
    const checkpoint = await openCheckpoint(memory(single));
    await expect(checkpoint.read("a.weight", [3, 2])).rejects.toThrow(
      /^a\.weight: shape \[2, 3\] found, \[3, 2\] wanted$/,
    );
    await expect(checkpoint.read("a.weight", [6])).rejects.toThrow(TensorError);
  });

  test("a missing tensor, with the names close to it", async () => {
    const checkpoint = await openCheckpoint(memory(single));
    await expect(checkpoint.read("c.weight")).rejects.toThrow(
      /^c\.weight is missing from the chosen files, which holds a/,
    );
    await expect(checkpoint.read("model.a.weight")).rejects.toThrow(/which holds a\.weight$/);
    await expect(checkpoint.read("lm_head.bias")).rejects.toThrow(
      /^lm_head\.bias is missing from the chosen files$/,
    );
  });

  test("a tensor that nobody read", async () => {
    const checkpoint = await openCheckpoint(memory(single));
    await checkpoint.read("a.weight");
    expect(() => checkpoint.expectAllRead()).toThrow(/^b\.weight in the chosen files: found a tensor/);
    expect(() => checkpoint.expectAllRead(/^b/)).not.toThrow();
    await checkpoint.read("b.weight");
    expect(() => checkpoint.expectAllRead()).not.toThrow();
  });
});

describe("shards", () => {
  test("each tensor comes from its shard", async () => {
    const checkpoint = await openCheckpoint(memory(sharded));
    expect([...checkpoint.tensors.keys()]).toEqual(["a", "b"]);
    expect([...(await checkpoint.read("b", [2, 2]))]).toEqual([2, 3, 4, 5]);
    expect(checkpoint.bytes).toBe(24);
  });

  test.each<[string, Record<string, Content>, RegExp]>([
    ["a missing shard", { "model-00002-of-00002.safetensors": "" }, /found 0 bytes/],
    [
      "a shard without its tensor",
      { "model-00002-of-00002.safetensors": safetensors({ c: [1] }) },
      /b is said to lie in .*, which does not hold it/,
    ],
    [
      "a path upwards",
      { "model.safetensors.index.json": index({ a: "../secret.safetensors" }) },
      /"\.\.\/secret\.safetensors", wanted a \.safetensors file beside/,
    ],
    [
      "a path upwards, on Windows",
      { "model.safetensors.index.json": index({ a: "..\\x.safetensors" }) },
      /beside the index/,
    ],
    [
      "an absolute path",
      { "model.safetensors.index.json": index({ a: "/etc/passwd" }) },
      /"\/etc\/passwd", wanted/,
    ],
    ["a URL", { "model.safetensors.index.json": index({ a: "http:x.safetensors" }) }, /beside the index/],
    [
      "another kind of file",
      { "model.safetensors.index.json": index({ a: "model.bin" }) },
      /"model\.bin", wanted/,
    ],
    ["an index without a map", { "model.safetensors.index.json": "{}" }, /is \{\}, wanted weight_map/],
    [
      "a map of numbers",
      { "model.safetensors.index.json": index({ a: 1 }) },
      /wanted weight_map, file names by tensor/,
    ],
    ["an index that is not JSON", { "model.safetensors.index.json": "{" }, /is not JSON/],
  ])("%s", async (_, change, message) => {
    expect((await failure({ ...sharded, ...change })).message).toMatch(message);
  });

  test("a shard that is not there", async () => {
    const { "model-00002-of-00002.safetensors": _, ...rest } = sharded;
    expect((await failure(rest)).message).toBe("the chosen files holds no model-00002-of-00002.safetensors");
  });
});

describe("bad folders", () => {
  test.each<[string, Record<string, Content>, RegExp]>([
    ["no config", { "model.safetensors": single["model.safetensors"] }, /holds no config\.json/],
    [
      "no weights",
      { "config.json": config },
      /holds neither model\.safetensors nor model\.safetensors\.index\.json/,
    ],
    [
      "config not JSON",
      { ...single, "config.json": "{'a'}" },
      /config\.json in the chosen files is not JSON/,
    ],
    ["config not UTF-8", { ...single, "config.json": new Uint8Array([0x22, 0xff, 0x22]) }, /is not JSON/],
    ["config a list", { ...single, "config.json": "[1]" }, /is \[1\], wanted an object/],
    ["config a number", { ...single, "config.json": "7" }, /is 7, wanted an object/],
    ["config empty", { ...single, "config.json": "" }, /is not JSON/],
  ])("%s", async (_, files, message) => {
    expect((await failure(files)).message).toMatch(message);
  });
});

test("a picked folder's own name is left out of paths, a file given twice is refused", async () => {
  const picked = (path: string, content: Content) =>
    Object.defineProperty(new File([content], path.split("/").at(-1)!), "webkitRelativePath", {
      value: path,
    });
  const source = filesSource([picked("toy/config.json", config), picked("toy/sub/config.json", "{}")]);
  expect(source.name).toBe("toy");
  expect(await source.size("config.json")).toBe(config.length);
  expect(await source.size("sub/config.json")).toBe(2);
  expect(await source.size("toy/config.json")).toBeNull();
  await expect(source.read("config.json", 0, 1000)).rejects.toThrow(
    /config\.json: found \d+ bytes from byte 0 on, wanted 1000/,
  );
  expect(() => filesSource([new File([], "a"), new File([], "a")])).toThrow(/a was given twice/);
});

describe("a directory", () => {
  test("ranges, sizes, what is missing or cut short", async () => {
    const folder = await mkdtemp(join(tmpdir(), "longtape-"));
    try {
      await writeFile(join(folder, "f"), Uint8Array.from([0, 1, 2, 3, 4]));
      const source = directorySource(folder);
      expect([...(await source.read("f"))]).toEqual([0, 1, 2, 3, 4]);
      expect([...(await source.read("f", 1, 3))]).toEqual([1, 2]);
      expect([...(await source.read("f", 3))]).toEqual([3, 4]);
      expect(await source.size("f")).toBe(5);
      expect(await source.size("g")).toBeNull();
      expect(await source.size("f/g")).toBeNull();
      expect(await source.size(".")).toBeNull();
      await expect(source.read("f", 2, 9)).rejects.toThrow(/^f: found 3 bytes from byte 2 on, wanted 7$/);
      await expect(source.read("g")).rejects.toThrow(/ holds no g$/);
      await expect(openCheckpoint(directorySource(join(folder, "nowhere")))).rejects.toThrow(
        /nowhere holds no config\.json$/,
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("a checkpoint that was cut short in the middle of its tensors", async () => {
    const folder = await mkdtemp(join(tmpdir(), "longtape-"));
    try {
      const bytes = await readFile(join(GOLDENS, "gru/model.safetensors"));
      await writeFile(join(folder, "config.json"), config);
      await writeFile(join(folder, "model.safetensors"), bytes.subarray(0, bytes.length >> 1));
      await expect(openCheckpoint(directorySource(folder))).rejects.toThrow(
        /ends at byte \d+, the file holds \d+$/,
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe("HTTP", () => {
  const running: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const stop of running.splice(0)) await stop();
  });
  async function serve(listener: RequestListener): Promise<string> {
    const server = createServer(listener);
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    running.push(() => {
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/models/toy`;
  }
  /** What a static file server does; `asked` collects "path range". */
  const files =
    (ranges: boolean, asked: string[] = []): RequestListener =>
    (request, response) => {
      const content = (single as Record<string, Content>)[request.url!.replace(/^\/models\/toy\//, "")];
      asked.push(`${request.url} ${request.headers.range ?? "-"}`);
      if (content === undefined) return response.writeHead(404).end("no such file");
      const bytes = Buffer.from(content);
      const range = ranges ? /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") : null;
      if (!range) return response.writeHead(200, { "content-length": bytes.length }).end(bytes);
      const [begin, end] = [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)];
      if (begin >= bytes.length)
        return response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
      response
        .writeHead(206, { "content-range": `bytes ${begin}-${end - 1}/${bytes.length}` })
        .end(bytes.subarray(begin, end));
    };

  test("with Range: only the bytes that are needed travel", async () => {
    const asked: string[] = [];
    const url = await serve(files(true, asked));
    const checkpoint = await openCheckpoint(urlSource(`${url}/`));
    const { begin, end } = checkpoint.tensors.get("a.weight")!;
    expect([...(await checkpoint.read("a.weight"))]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(asked.at(-1)).toBe(`/models/toy/model.safetensors bytes=${begin}-${end - 1}`);
    expect(asked.filter((line) => line.includes("safetensors") && line.endsWith("-"))).toEqual([]);
    await expect(urlSource(url).read("config.json", 2, 100)).rejects.toThrow(
      /^config\.json: found \d+ bytes from byte 2 on, wanted 98$/,
    );
    await expect(urlSource(url).read("config.json", 90, 100)).rejects.toThrow(
      /found 0 bytes from byte 90 on, wanted 10$/,
    );
    expect(await urlSource(url).size("tokenizer.json")).toBeNull();
  });

  test("without Range: the file travels once", async () => {
    const asked: string[] = [];
    const checkpoint = await openCheckpoint(urlSource(await serve(files(false, asked))));
    expect([...(await checkpoint.read("a.weight"))]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...(await checkpoint.read("b.weight"))]).toEqual([7]);
    expect(asked.filter((line) => line.includes("model.safetensors"))).toHaveLength(1);
  });

  test("a total that is hidden is asked for by HEAD", async () => {
    const url = await serve((request, response) => {
      if (request.method === "HEAD") return response.writeHead(200, { "content-length": 42 }).end();
      response.writeHead(206, { "content-range": "bytes 0-0/*" }).end("x");
    });
    expect(await urlSource(url).size("f")).toBe(42);
  });

  test("an empty file", async () => {
    const url = await serve((_, response) => response.writeHead(416, { "content-range": "bytes */0" }).end());
    expect(await urlSource(url).size("f")).toBe(0);
  });

  test("a page instead of a file counts as missing", async () => {
    const url = await serve((_, response) =>
      response.writeHead(200, { "content-type": "text/html" }).end("<html>"),
    );
    expect(await urlSource(url).size("config.json")).toBeNull();
    await expect(openCheckpoint(urlSource(url))).rejects.toThrow(/holds no config\.json/);
  });

  test.each<[string, RequestListener, RegExp]>([
    ["a server that fails", (_, response) => response.writeHead(503).end(), /config\.json answered 503/],
    [
      "a body that breaks off",
      (_, response) => response.writeHead(200, { "content-length": 9 }).write("{", () => response.destroy()),
      /config\.json broke off/,
    ],
  ])("%s", async (_, listener, message) => {
    const error = await openCheckpoint(urlSource(await serve(listener))).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toMatch(message);
  });

  test("another range than the one asked for", async () => {
    const url = await serve((_, response) =>
      response.writeHead(206, { "content-range": "bytes 0-3/9" }).end("abcd"),
    );
    await expect(urlSource(url).read("f", 4, 8)).rejects.toThrow(/sent bytes from 0 on, wanted 4/);
  });

  test("nobody there, not a URL, a query", async () => {
    const url = await serve(files(true));
    for (const stop of running.splice(0)) await stop();
    await expect(urlSource(url).size("f")).rejects.toThrow(/could not be reached \(.*ECONNREFUSED/);
    expect(() => urlSource("not a url")).toThrow(/not a url is not a URL/);
    let asked = "";
    const signed = await serve((request, response) => {
      asked = request.url!;
      response.end("ok");
    });
    await urlSource(`${signed}?token=1`).read("a b.json");
    expect(asked).toBe("/models/toy/a%20b.json?token=1");
  });
});

const folders = async (root: string) =>
  (await readdir(root, { withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(root, entry.name));

describe.each(
  [...(await folders(GOLDENS)), ...(await folders(CHECKPOINTS))].map((path) => ({
    path,
    name: path.split("/").slice(-2).join("/"),
  })),
)("$name", ({ path }) => {
  test("every tensor is read and finite; the golden fits", async () => {
    const source = directorySource(path);
    const checkpoint = await openCheckpoint(source);
    let elements = 0;
    for (const [name, { shape }] of checkpoint.tensors) {
      const values = await checkpoint.read(name, shape);
      elements += values.length;
      expect(values.every(Number.isFinite)).toBe(true);
    }
    const each = checkpoint.tensors.values().next().value?.dtype === "F16" ? 2 : 4;
    expect(elements * each).toBe(checkpoint.bytes);
    checkpoint.expectAllRead();
    if ((await source.size("training.json")) !== null) {
      const training = JSON.parse(new TextDecoder().decode(await source.read("training.json")));
      expect(elements).toBe(training.parameters);
    }

    const golden = await openSafetensors(source, "golden.safetensors");
    const [streams, tokens, vocab] = golden.tensors.get("logits")!.shape as [number, number, number];
    expect(vocab).toBe(checkpoint.config.vocab_size);
    const ids = await golden.readInts("input_ids");
    expect(ids).toHaveLength(streams * tokens);
    expect(ids.every((id) => id >= 0 && id < vocab)).toBe(true);
    expect((await golden.read("logits")).length).toBe(streams * tokens * vocab);
    expect((await golden.readInts("greedy")).length % streams).toBe(0);
  });
});
