// Which model it is, in 64 bits: xxHash32's round (Collet, https://github.com/Cyan4973/xxHash) over words in two lanes, tensor by
// tensor; the tensors' are added up, so that the order in which they are read does not matter. Against mix-ups, not
// against forgers.

type Lanes = readonly [number, number];

const P1 = 0x9e3779b1;
const P2 = 0x85ebca77;
const P3 = 0xc2b2ae3d;

const rotated = (x: number, by: number): number => (x << by) | (x >>> (32 - by));

const mixed = (h: number): number => {
  let x = Math.imul(h ^ (h >>> 15), P2);
  x = Math.imul(x ^ (x >>> 13), P3);
  return (x ^ (x >>> 16)) >>> 0;
};

function hashed([seedA, seedB]: Lanes, words: Uint32Array): Lanes {
  let a = seedA;
  let b = seedB;
  for (let i = 0; i < words.length; i += 2) {
    a = Math.imul(rotated(a + Math.imul(words[i]!, P2), 13), P1);
    b = Math.imul(rotated(b + Math.imul(words[i + 1] ?? 0, P2), 13), P1);
  }
  const [x, y] = [mixed(a ^ words.length), mixed(b + words.length)];
  return [mixed(x + rotated(y, 16)), mixed(y ^ x)];
}

const wordsOf = (text: string): Uint32Array => Uint32Array.from(text, (c) => c.codePointAt(0)!);

export class Fingerprint {
  #lanes: Lanes;

  /** `text` says all that is not in tensors. */
  constructor(text: string) {
    this.#lanes = hashed([P1, P2], wordsOf(text));
  }

  add(name: string, data: Float32Array): void {
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length);
    const [a, b] = hashed(hashed([P3, P1], wordsOf(name)), words);
    this.#lanes = [(this.#lanes[0] + a) >>> 0, (this.#lanes[1] + b) >>> 0];
  }

  /** 16 digits. */
  get hex(): string {
    return this.#lanes.map((lane) => lane.toString(16).padStart(8, "0")).join("");
  }
}
