// Tensors that grow by pages: nothing is copied, and no single binding limits the context.

import { OutOfMemoryError, UsageError } from "./errors.ts";
import type { Machine } from "./machine.ts";
import { formatBytes } from "./memory.ts";
import {
  nextPage,
  pageSpec,
  SMALLEST_PAGE,
  type Spec,
  type Storage,
  storedBytes,
  type Tensor,
} from "./tensor.ts";

/** A tensor that grows by pages. */
export class PagedTensor implements Tensor {
  readonly label: string;
  readonly offset = 0;
  readonly storages: Storage[] = [];
  readonly pages: number[] = [];
  readonly #spec: Spec;

  constructor(label: string, spec: Spec) {
    this.label = label;
    this.#spec = spec;
  }

  /** Slots that the pages hold. */
  get capacity(): number {
    return this.pages.reduce((a, b) => a + b, 0);
  }

  get spec(): Spec {
    const axis = this.#spec.pagedAxis!;
    return { ...this.#spec, shape: this.#spec.shape.map((n, i) => (i === axis ? this.capacity : n)) };
  }

  pageBytes(slots: number): number {
    return storedBytes(pageSpec(this.#spec, slots));
  }

  pageStorage(slots: number): Storage {
    return { category: "kv", label: `${this.label} page ${this.pages.length}`, bytes: this.pageBytes(slots) };
  }
}

/**
 * Adds pages to every tensor until they hold `length` slots, then lets the plans be laid out over them.
 * Throws OutOfMemoryError, or UsageError where the plans want more than can be bound; either says the longest context
 * that fits, and then all is as before.
 */
export async function growPages(
  machine: Machine,
  tensors: readonly PagedTensor[],
  length: number,
  repage: () => Promise<void>,
): Promise<void> {
  const capacity = () => tensors[0]!.capacity;
  const before = capacity();
  const grown: Storage[] = [];
  let fits = before;
  try {
    while (capacity() < length) {
      let slots = nextPage(capacity());
      // no binding limits the context: past what can be bound pages stop growing, and their number goes on
      while (slots > SMALLEST_PAGE && tensors.some((t) => t.pageBytes(slots) > machine.maxBindingBytes))
        slots /= 2;
      const pages = tensors.map((t) => t.pageStorage(slots));
      await machine.allocate(pages);
      grown.push(...pages);
      tensors.forEach((t, i) => {
        t.pages.push(slots);
        t.storages.push(pages[i]!);
      });
      await repage();
      fits = capacity();
    }
  } catch (error) {
    for (const t of tensors) {
      while (t.capacity > before) {
        t.pages.pop();
        t.storages.pop();
      }
    }
    machine.free(grown);
    await repage().catch((again) => {
      // where even this finds no room, the next run asks for it again
      if (!(again instanceof OutOfMemoryError)) throw again;
    });
    if (error instanceof UsageError) {
      throw new UsageError(
        `a context of ${length} tokens does not fit: ${error.message}; the longest that fits is ${fits} tokens`,
      );
    }
    if (!(error instanceof OutOfMemoryError)) throw error;
    const { askedBytes, heldBytes } = error;
    throw new OutOfMemoryError(
      `a context of ${length} tokens does not fit: to go past ${fits} asks ${formatBytes(askedBytes)} with ${formatBytes(heldBytes)} held; the longest that fits is ${fits} tokens (${error.message})`,
      askedBytes,
      heldBytes,
    );
  }
}
