// The engine that a bench runs on, one after the other: a new one where the device of the last was lost, or where a device
// is wanted on which nothing was compiled before.

import type { GpuMachine } from "../engine/gpu.ts";
import { createEngine, type Engine } from "../models/engine.ts";
import { GATE_TOKENS, type Load } from "./gate.ts";
import { ADAPTER } from "./meters/adapterFacts.ts";
import type { Counter } from "./meters/asked.ts";
import { measureRoof, type Roof } from "./meters/roof.ts";
import type { Host, Settings } from "./run.ts";

export class BenchDevice {
  readonly #host: Pick<Host, "gpu" | "verdicts">;
  readonly #maxBytes: number | null;
  readonly #counter: Counter;
  #engine: Engine | null = null;
  /** Did a race or a model compile pipelines on it? */
  #used = false;
  #roof: Roof | null = null;

  constructor(
    host: Pick<Host, "gpu" | "verdicts">,
    { maxBytes }: Pick<Settings, "maxBytes">,
    counter: Counter,
  ) {
    this.#host = host;
    this.#maxBytes = maxBytes;
    this.#counter = counter;
  }

  /** null before it is opened. */
  get adapter(): Engine["adapter"] {
    return this.#engine?.adapter ?? null;
  }

  /** Of the first device. Throws before it is opened. */
  get roof(): Roof {
    if (!this.#roof) throw new Error("the roofs were not measured: no device was opened");
    return this.#roof;
  }

  /** The engine, to look at. Throws AdapterError where there is no adapter. */
  async open(): Promise<Engine> {
    if (this.#engine && !(this.#engine.machine as GpuMachine).lost) return this.#engine;
    this.close();
    const { gpu, verdicts } = this.#host;
    const engine = await createEngine({
      gpu,
      ...ADAPTER,
      ...(this.#maxBytes === null ? {} : { maxBytes: this.#maxBytes }),
      ...(verdicts ? { verdicts } : {}),
    });
    this.#engine = engine;
    this.#used = false;
    const { device } = engine.machine as GpuMachine;
    this.#roof ??= await this.#counter.paused(() => measureRoof(device, engine.adapter!.software));
    return engine;
  }

  /** The engine, to compile on. Throws what `open` throws. */
  async use(): Promise<Engine> {
    const engine = await this.open();
    this.#used = true;
    return engine;
  }

  /**
   * An engine to compile on, on a device where nothing was: how long loading takes must not hang on what ran before. It keeps
   * the chosen variants. Throws what `open` throws.
   */
  async renew(): Promise<Engine> {
    const { variants } = (await this.open()).machine;
    if (this.#used) this.close();
    const engine = await this.use();
    engine.machine.variants.adopt(variants);
    return engine;
  }

  /** Bytes that a device holds after a model was loaded, run and given back, as is asked of other runtimes. */
  async left(load: Load): Promise<number> {
    const engine = await this.renew();
    const model = await load(engine);
    const session = await model.session({ chunk: GATE_TOKENS });
    await session.prefill(new Array<number>(GATE_TOKENS).fill(1));
    await session.logits();
    session.destroy();
    model.destroy();
    return this.#counter.bytes((engine.machine as GpuMachine).device);
  }

  close(): void {
    this.#engine?.destroy();
    this.#engine = null;
  }
}
