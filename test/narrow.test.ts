// Weights and caches stored as f16 and int8: bytes fall as theory says, arithmetic is that of the CPU machine over the same
// numbers, and every row says what has changed against f32.

import { beforeAll, describe, expect, test } from "vitest";
import { checkpoints } from "../bench/commandLine.ts";
import { GATE_NMSE } from "../bench/gate.ts";
import { nodeRuntime } from "../bench/nodeRuntime.ts";
import type { Row } from "../bench/row.ts";
import { shippedSubject, storedAs } from "../bench/subject.ts";
import { CpuMachine } from "../engine/cpu.ts";
import { UsageError } from "../engine/errors.ts";
import { loadModel } from "../engine/loadModel.ts";
import { total } from "../engine/memory.ts";
import type { ReadWeight, Types } from "../engine/model.ts";
import { STORED_TYPES, type StoredType } from "../engine/tiles.ts";
import { verdictFile } from "../engine/verdictFile.ts";
import { openConfig } from "../models/load.ts";
import { randomWeights } from "../models/random.ts";

const step = { n_prompt: 0, n_gen: 4, n_depth: 600, n_parallel: 1, n_ubatch: 64 };
const settings = {
  repetitions: 1,
  delaySeconds: 0,
  warmup: false,
  tune: "off" as const,
  seed: 1,
  maxBytes: null,
  build_commit: null,
  version: null,
};

/** What storing as f16 and int8 may change of a shipped model's logits: NMSE, and bits a byte. */
const MOST = { f16: [1e-6, 0.001], int8: [1e-3, 0.02] } as const;

describe.each(["gru", "llama", "sinks", "strided", "mamba"])("%s", (arch) => {
  const rows = new Map<string, Row>();
  const row = ({ dtype, cacheType }: Types) => rows.get(`${dtype} ${cacheType}`)!;

  beforeAll(async () => {
    const found: Row[] = [];
    const subjects = STORED_TYPES.flatMap((type) =>
      storedAs(shippedSubject(arch, checkpoints), [type], [type]),
    );
    const onEvent: Parameters<typeof nodeRuntime>[0]["onEvent"] = (event) => {
      if (event.type === "row") found.push(event.row);
    };
    const runtime = await nodeRuntime({
      browser: null,
      software: true,
      settings,
      subjects,
      verdicts: verdictFile(),
      onEvent,
    });
    await runtime.open();
    for (const subject of subjects) await runtime.run(subject, [step]);
    await runtime.close();
    for (const row of found) rows.set(`${row.dtype} ${row.type_k ?? row.dtype}`, row);
  }, 240_000);

  test.each(STORED_TYPES)(
    "as %s its logits are the CPU machine's, and what is asked is what theory says",
    (type) => {
      const { status, reason, nmse_vs_reference, theory_err_pct } = row({ dtype: type, cacheType: type });
      expect(reason).toBeNull();
      expect({ status, theory_err_pct }).toEqual({ status: "ok", theory_err_pct: 0 });
      expect(nmse_vs_reference).toBeLessThanOrEqual(GATE_NMSE[type]);
    },
  );

  test("bytes fall: matrices and caches by half, and to 17/64 and a little", () => {
    const [f32, f16, int8] = STORED_TYPES.map((type) => row({ dtype: type, cacheType: type }));
    // vectors, and what lies in rows, stay f32; a group of scales may be short
    for (const [of, most] of [
      ["mem_weights", 0.1],
      ["mem_kv", 0],
    ] as const) {
      expect(f16![of]).toBeLessThanOrEqual(f32![of]! * (1 / 2 + most));
      expect(int8![of]).toBeLessThanOrEqual(f32![of]! * (5 / 16 + most));
      expect(f16![of]).toBeGreaterThanOrEqual(f32![of]! / 2);
    }
    expect(f16!.mem_state, "state stays f32").toBe(f32!.mem_state);
    expect(int8!.mem_state).toBe(f32!.mem_state);
    expect([f16!.type_k, f16!.type_v]).toEqual(f16!.mem_kv! > 0 ? ["f16", "f16"] : [null, null]);
  });

  test("rows say what has changed", () => {
    expect(row({ dtype: "f32", cacheType: "f32" })).toMatchObject({ nmse_vs_f32: null, bits_vs_f32: null });
    for (const type of ["f16", "int8"] as const) {
      const { nmse_vs_f32, bits_vs_f32, model } = row({ dtype: type, cacheType: type });
      expect(model).toBe(`${arch} ${type} kv ${type}`);
      expect(nmse_vs_f32).toBeLessThanOrEqual(MOST[type][0]);
      expect(Math.abs(bits_vs_f32!)).toBeLessThanOrEqual(MOST[type][1]);
    }
  });
});

test("a number that f16 does not reach ends the load, and nothing is left", async () => {
  const config = { model_type: "gru", vocab_size: 8, embedding_size: 4, hidden_size: 4, num_layers: 1 };
  const machine = new CpuMachine();
  const read: ReadWeight = async (name, shape) => {
    const data = await randomWeights(1)(name, shape);
    return name === "head.weight" ? data.map((_, i) => (i === 5 ? -65536 : 0)) : data;
  };
  const load = (dtype: StoredType) => {
    const { architecture, config: sizes } = openConfig(config, { dtype });
    return loadModel(machine, architecture, sizes, read);
  };
  await expect(load("f16")).rejects.toThrow(
    new UsageError("head holds -65536, f16 reaches 65504: load it with dtype f32 or int8"),
  );
  expect(total(machine.live())).toBe(0);
  const [wide, narrow] = [await load("f32"), await load("int8")];
  expect(narrow.hash, "another type is another model").not.toBe(wide.hash);
  expect(narrow.parameters).toBe(wide.parameters);
});
