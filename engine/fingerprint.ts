// Which model it is, in 64 bits: words in four lanes, each as FNV-1a with a rotation (Fowler, Noll and Vo,
// http://www.isthe.com/chongo/tech/comp/fnv/), tensor by tensor; the tensors' are added up, so that the order in which they
// are read does not matter. Against mix-ups, not against forgers.

type Lanes = readonly [number, number];

const PRIME = 0x9e3779b1;

const step = (h: number, word: number): number => {
  const x = h ^ word;
  return Math.imul((x << 13) | (x >>> 19), PRIME);
};

/** MurmurHash3's last step (Appleby, https://github.com/aappleby/smhasher). */
const mixed = (h: number): number => {
  let x = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
};

function hashed([x, y]: Lanes, words: Uint32Array): Lanes {
  let [a, b, c, d] = [x, y, ~x, ~y];
  const whole = words.length - (words.length % 4);
  // four at once: each multiplication waits for the one before it in its lane
  for (let i = 0; i < whole; i += 4) {
    a = step(a, words[i]!);
    b = step(b, words[i + 1]!);
    c = step(c, words[i + 2]!);
    d = step(d, words[i + 3]!);
  }
  for (let i = whole; i < words.length; i++) a = step(a, words[i]!);
  const lanes = [a, b, c, d, words.length];
  return [lanes.reduce((h, lane) => mixed(h ^ lane), x), lanes.reduceRight((h, lane) => mixed(h ^ lane), y)];
}

const wordsOf = (text: string): Uint32Array => Uint32Array.from(text, (c) => c.codePointAt(0)!);

/** FNV's offset basis, of 64 bits. */
const START: Lanes = [0xcbf29ce4, 0x84222325];

export class Fingerprint {
  #lanes: Lanes;

  /** `text` says all that is not in tensors. */
  constructor(text: string) {
    this.#lanes = hashed(START, wordsOf(text));
  }

  add(name: string, data: Float32Array): void {
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length);
    const [a, b] = hashed(hashed(START, wordsOf(name)), words);
    this.#lanes = [(this.#lanes[0] + a) >>> 0, (this.#lanes[1] + b) >>> 0];
  }

  /** 16 digits. */
  get hex(): string {
    return this.#lanes.map((lane) => lane.toString(16).padStart(8, "0")).join("");
  }
}
