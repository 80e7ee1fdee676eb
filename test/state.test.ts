import { expect, test } from "vitest";
import { OutOfMemoryError } from "../engine/errors.ts";
import type { Session } from "../engine/session.ts";
import { directorySource } from "../models/directory.ts";
import { createEngine } from "../models/engine.ts";
import { modelSource } from "./tools/folders.ts";
import { stateCases } from "./tools/stateCases.ts";

const golden = (name: string) => directorySource(new URL(`goldens/${name}`, import.meta.url).pathname);

stateCases(() => createEngine({ machine: "cpu" }), golden);

test("a roll-back that finds no memory is asked again, and no token is lost or told twice", async () => {
  const engine = await createEngine({ machine: "cpu" });
  const model = await engine.load(modelSource("materialised", golden));
  const { machine } = engine;
  const allocate = machine.allocate.bind(machine);
  let full = false;
  machine.allocate = (storages) => {
    if (full && storages.some(({ label }) => label.startsWith("paged plan scratch")))
      return Promise.reject(new OutOfMemoryError("there is no more", 1, 1));
    return allocate(storages);
  };
  const draw = async (meanwhile: (session: Session, ids: number) => Promise<void>) => {
    const session = await model.session({ chunk: 8 });
    await session.prefill([1, 2, 3, 4, 5]);
    const ids: number[] = [];
    for await (const id of session.stream({ maxTokens: 24, temperature: 1, seed: 3 })) {
      ids.push(id);
      await meanwhile(session, ids.length);
    }
    expect(session.positions).toEqual([29]);
    session.destroy();
    return ids;
  };
  const wanted = await draw(async () => {});
  const found = await draw(async (session, ids) => {
    if (ids !== 10) return;
    full = true;
    // the larger matrix, and then the one that there was
    await expect(session.reserve(600)).rejects.toThrow(OutOfMemoryError);
    await expect(session.logits()).rejects.toThrow(OutOfMemoryError);
    full = false;
  });
  expect(found).toEqual(wanted);
  engine.destroy();
});
