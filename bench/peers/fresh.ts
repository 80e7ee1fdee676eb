// One model in one runtime, in a page where nothing else was: what the browser then holds, the runtime's own code included.

import { openCheckpoint } from "../../models/checkpoint.ts";
import { createEngine } from "../../models/engine.ts";
import { openConfig } from "../../models/load.ts";
import type { Source } from "../../models/source.ts";
import { randomIds } from "../fill.ts";
import { configOf, loaderOf } from "../loading.ts";
import { ADAPTER } from "../meters/adapterFacts.ts";
import type { Subject } from "../subject.ts";
import { generateTimed } from "../timed.ts";
import { openPeer } from "./index.ts";
import { peerModelOf } from "./model.ts";
import { HELD_TOKENS, type PeerName } from "./peer.ts";

/** Loads the model, runs a few tokens, and gives what must not be let go of while the browser is measured. */
export async function holdModel(name: PeerName, subject: Subject, source: Source): Promise<unknown> {
  const config = await configOf(subject, source);
  const opened = openConfig(config);
  const { prompt, generated } = HELD_TOKENS;
  const ids = randomIds(prompt, opened.architecture.vocabulary(opened.config), 0);
  if (name === "longtape") {
    const engine = await createEngine(ADAPTER);
    const model = await loaderOf(subject, source, config, 0)({ tune: "off", chunk: prompt, prompt })(engine);
    const session = await model.session({ chunk: prompt });
    await session.prefill(ids);
    await generateTimed(session, generated);
    return { engine, model, session };
  }
  const { peer } = await openPeer(name);
  const checkpoint = await openCheckpoint(source);
  const sizes = { parameters: 0, context: prompt + generated + 1 };
  await peer.load(await peerModelOf(opened, (tensor, shape) => checkpoint.read(tensor, shape), sizes));
  await peer.prefill(ids);
  for (let i = 0; i < generated; i++) await peer.step();
  return peer;
}
