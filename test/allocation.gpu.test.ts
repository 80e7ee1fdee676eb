// Every allocation of every architecture fails once, in either way that WebGPU has: the call that needed it ends in one typed
// error, holds nothing more than before, and works when it is made again.

import { expect, onTestFinished, test } from "vitest";
import { getWebGPUMemoryUsage } from "webgpu-memory";
import { OutOfMemoryError } from "../engine/errors.ts";
import type { GpuMachine } from "../engine/gpu.ts";
import { total } from "../engine/memory.ts";
import type { Session } from "../engine/session.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import { filesSource, type Source } from "../models/source.ts";
import { goldens, modelSource, models } from "./tools/folders.ts";

const outside = () => getWebGPUMemoryUsage().memory.buffer;

/** Fetched once: it is loaded again and again. */
async function folder(name: string): Promise<Source> {
  const files = ["config.json", "model.safetensors"].map(async (file) => {
    const response = await fetch(new URL(`/test/goldens/${name}/${file}`, location.href));
    return new File([await response.blob()], file);
  });
  return filesSource(await Promise.all(files));
}

/** Of a golden, or of its weights under another pattern. */
async function folders(name: string): Promise<Source> {
  const golden = goldens.includes(name) ? name : "llama";
  const source = await folder(golden);
  return modelSource(name, () => source);
}

/** Makes the device's createBuffer fail: the n-th from now on by a RangeError, or it and all after by the error scope. */
function saboteur(device: GPUDevice) {
  const [create, pop] = [device.createBuffer.bind(device), device.popErrorScope.bind(device)];
  let made = 0;
  let failing = Number.POSITIVE_INFINITY;
  let failed = false;
  let inScope = false;
  return {
    get failed() {
      return failed;
    },
    disarm() {
      failing = Number.POSITIVE_INFINITY;
    },
    arm(n: number, way: "throws" | "scope") {
      [made, failing, failed, inScope] = [0, n, false, false];
      device.createBuffer = (descriptor) => {
        made++;
        if (made < failing) return create(descriptor);
        failed = true;
        if (way === "throws" && made > failing) return create(descriptor);
        if (way === "throws") throw new RangeError("no memory for this buffer");
        inScope = true;
        return create(descriptor);
      };
      device.popErrorScope = async () => {
        const error = await pop();
        if (!inScope) return error;
        inScope = false;
        return new GPUOutOfMemoryError("no memory for these buffers");
      };
    },
  };
}

/** Loads, fills and reads a model, each call by way of `attempt`; gives the logits that its sessions end with. */
async function whole(
  engine: Engine,
  source: Source,
  attempt: <T>(what: string, call: () => Promise<T>) => Promise<T>,
): Promise<Float32Array[]> {
  const options = { streams: 2, chunk: 8 };
  const model = await attempt("load", () => engine.load(source, { tune: "off" }));
  const open = () => attempt("open", () => model.session(options));
  const session = await open();
  await attempt("reserve", () => session.reserve(256));
  await attempt("fill", () => session.fillCache(240, 1));
  await attempt("prefill", () => session.prefill([[1], [2, 3]]));
  const stream = (b: number, to: number) =>
    attempt("stream", async () => {
      const maxTokens = to - session.positions[b]!;
      for await (const _ of session.streams[b]!.stream({ maxTokens }));
    });
  // over the edge of the first page
  await stream(0, 258);
  const mark = await attempt("mark", () => session.mark());
  const fork = await attempt("fork", () => session.fork());
  const snapshot = await attempt("snapshot", () => session.snapshot());
  await stream(1, 245);
  await attempt("roll back", () => session.rollback(mark));
  const other = await open();
  await attempt("restore", () => other.restore(snapshot));
  const sessions: Session[] = [session, fork, other];
  const logits: Float32Array[] = [];
  for (const one of sessions) {
    expect(one.positions).toEqual([258, 242]);
    await attempt("prefill", () => one.prefill([[], [4, 5]]));
    logits.push(await attempt("logits", () => one.logits()));
  }
  for (const one of sessions) one.destroy();
  model.destroy();
  expect(outside(), "bytes left").toBe(0);
  return logits;
}

test("each allocation of a race that fails is one typed error, and leaves nothing", async () => {
  const engine = await createEngine();
  onTestFinished(() => engine.destroy());
  const source = await folder("llama");
  const sabotage = saboteur((engine.machine as GpuMachine).device);
  for (let n = 1; ; n++) {
    sabotage.arm(n, n % 2 === 0 ? "throws" : "scope");
    try {
      const model = await engine.load(source, { chunk: 8 });
      expect(sabotage.failed).toBe(false);
      model.destroy();
      break;
    } catch (error) {
      expect(error, `buffer ${n}`).toBeInstanceOf(OutOfMemoryError);
      expect(outside(), `buffer ${n}`).toBe(0);
    }
  }
});

for (const name of models) {
  test(`${name}: each allocation that fails is one typed error, and leaves nothing`, async () => {
    const engine = await createEngine();
    onTestFinished(() => engine.destroy());
    const source = await folders(name);
    const wanted = await whole(engine, source, (_, call) => call());
    expect(wanted[1]).toEqual(wanted[0]);
    expect(wanted[2]).toEqual(wanted[0]);
    const { device } = engine.machine as GpuMachine;
    const sabotage = saboteur(device);
    for (const way of ["throws", "scope"] as const) {
      let failures = 0;
      const found = await whole(engine, source, async (what, call) => {
        for (let n = 1; ; n++) {
          const before = outside();
          sabotage.arm(n, way);
          try {
            const result = await call();
            // a stream that found no page asks again before it ends
            if (what !== "stream") expect(sabotage.failed, `${what}, buffer ${n}`).toBe(false);
            if (!sabotage.failed) return result;
          } catch (error) {
            expect(error, `${what}, buffer ${n}`).toBeInstanceOf(OutOfMemoryError);
            expect(sabotage.failed, `${what}, buffer ${n}`).toBe(true);
            expect(outside(), `${what}, buffer ${n}`).toBeLessThanOrEqual(before);
          } finally {
            sabotage.disarm();
          }
          failures++;
          expect(outside(), `${what}, buffer ${n}`).toBe(total(engine.memory()));
        }
      });
      expect(failures, "allocations that failed").toBeGreaterThan(40);
      expect(found).toEqual(wanted);
    }
  });
}
