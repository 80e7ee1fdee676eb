/** Lets text through up to the end of the first stop text in it, wherever its pieces are cut. */
export class TextStop {
  stopped = false;
  readonly #stops: readonly string[];
  readonly #longest: number;
  /** Enough of what was let through to find a stop text that began there. */
  #before = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
    this.#longest = Math.max(0, ...this.#stops.map((stop) => stop.length));
  }

  push(piece: string): string {
    const text = this.#before + piece;
    const ends = this.#stops.flatMap((stop) => {
      const at = text.indexOf(stop);
      return at < 0 ? [] : [at + stop.length];
    });
    this.stopped = ends.length > 0;
    const end = this.stopped ? Math.min(...ends) : text.length;
    const fresh = text.slice(this.#before.length, end);
    this.#before = this.#longest > 1 ? text.slice(1 - this.#longest) : "";
    return fresh;
  }
}
