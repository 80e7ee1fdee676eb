// One token a stream: scores, softmax and sums over the cache in splits, then one combination of the splits
// (Dao et al. 2023, "Flash-Decoding"). Every key and value is read once for all query heads that share it.

import type { Grid, Sizes, Variant } from "../../engine/kernel.ts";
import { ceilDiv } from "../../engine/tensor.ts";
import type { Letter } from "../attention.ts";
import { isPaged, NEVER, onPage, range, type Source } from "./cache.ts";
import { combine, type Decoded, headsAtOnce, layout, ownWgsl } from "./splits.ts";

type S = Sizes<Letter>;

/** Pages a dispatch on a software adapter: each is compiled in, by a compiler slower than a second dispatch is long. */
const MOST_PAGES = 2;

const launch = (count: (s: S & { PAGE: number; PAGES: number }) => number) => ({
  workgroup: 16,
  grid: (s: S & { PAGE: number; PAGES: number }): Grid => ceilDiv(count(s), 16),
});

export function decodeVariants(kind: Decoded): Record<string, Variant<Letter>> {
  return { quad: tiles(kind, true), tiles: tiles(kind, false), split: workgroups(kind) };
}

/**
 * Four passes without a barrier: scores of four slots a thread, softmax of a split a thread, four columns of a split's
 * sums a thread, combination; three where there is one split. With `quad`, four lanes load a quarter each of what they
 * share and pass it on.
 */
function tiles(kind: Decoded, quad: boolean): Variant<Letter> {
  const at = layout(kind, 256);
  const before = at.before(16, false);
  const heads = (s: S) => headsAtOnce(s, quad ? 2 : 1);
  /** Tiles a step: enough that four lanes share the loads evenly. */
  const step = (s: S) => (quad && heads(s) % 4 !== 0 ? 2 : 1);
  /** `x0 ...`: what the lanes of a quad share, `load(j)` being the j-th. */
  const shared = (n: number, load: (j: string) => string) =>
    quad
      ? [
          ...range(n / 4).map((r) => `let own${r} = ${load(`(lane + ${4 * r}u)`)};`),
          ...range(n).map((j) => `let x${j} = quadBroadcast(own${j >> 2}, ${j & 3}u);`),
        ].join(" ")
      : range(n)
          .map((j) => `let x${j} = ${load(`${j}u`)};`)
          .join(" ");
  const attribute = quad ? "@diagnostic(off, subgroup_uniformity) " : "";
  const rounded = (n: string) => (quad ? `((${n} + 3u) / 4u * 4u)` : n);
  const round = (n: number) => (quad ? 4 * ceilDiv(n, 4) : n);

  // four lanes that share their loads see the sinks, all of them, or none
  const sinks = kind === "sinks";
  const rowTiles = (s: S & { PAGE: number }) =>
    sinks ? round(ceilDiv(s.S, 4)) + round(ceilDiv(s.W, 4)) : round(ceilDiv(at.slots(s), 4));
  const row = sinks ? `(SINKS + ${rounded("W4")})` : rounded(at.tiles);
  const tileOf = sinks
    ? `let n4 = select(i % ROW - SINKS + S4, select(i % ROW, slots4(), i % ROW >= S4), i % ROW < SINKS);
  let firstTile = select(i % ROW - i % 4u - SINKS + S4, i % ROW - i % 4u, i % ROW < SINKS);`
    : "let n4 = i % ROW;";

  const scores = (s: S, { array, tiles, keys, tile }: Source) => {
    const n = heads(s);
    const U = step(s);
    return `${attribute}fn score_${array}(b: u32, plane: u32, head: u32, query: u32, n4: u32, start: u32, origin: i32, lane: u32) {
  ${range(n)
    .map((h) => `var s${h} = vec4f();`)
    .join(" ")}
  let row = plane * ${tiles} + min(n4, ${tiles} - 1u);
  for (var d4 = 0u; d4 < D4; d4 += ${U}u) {
    ${shared(n * U, (j) => (U === 1 ? `queryAt(query + ${j} * D4, d4)` : `queryIn(query + ${j} % ${n}u * D4, d4 + ${j} / ${n}u)`))}
    ${range(U)
      .map(
        (u) =>
          `{ let tile = ${tile("row", u ? `min(d4 + ${u}u, D4 - 1u)` : "d4")}; ${range(n)
            .map((h) => `s${h} += tile * x${u * n + h};`)
            .join(" ")} }`,
      )
      .join("\n    ")}
  }
  if (n4 >= ${tiles}) { return; }
  let seen = visible(i32(position(b)), ${keys("n4")});
  let to = (b * H + head) * slots4() + start / 4u + n4;
  ${range(n)
    .map((h) => `scores[to + ${h}u * slots4()] = select(vec4f(${NEVER}), s${h} * SCALE, seen);`)
    .join("\n  ")}
}`;
  };

  /** `store`: what becomes of the sums o0, o1 … of the heads. */
  const sums = (s: S, { array, tiles, tile }: Source, store: (h: number) => string) => {
    const n = heads(s);
    const U = step(s);
    const shareAt = (j: string) =>
      U === 1
        ? `scores[from4 + ${j} * slots4() + n]`
        : `shareIn(from4 + ${j} % ${n}u * slots4(), n + ${j} / ${n}u, length)`;
    return `${attribute}fn sum_${array}(b: u32, plane: u32, head: u32, first: u32, length: u32, from4: u32, to: u32, d4: u32, lane: u32) {
  ${range(n)
    .map((h) => `var o${h} = vec4f();`)
    .join(" ")}
  let row = (B * K + plane) * ${tiles} + first;
  let column = min(d4, D4 - 1u);
  for (var n = 0u; n < length; n += ${U}u) {
    ${shared(n * U, shareAt)}
    ${range(U)
      .map(
        (u) =>
          `{ let tile = ${tile(`row + ${u ? `min(n + ${u}u, length - 1u)` : "n"}`, "column")}; ${range(n)
            .map((h) => `o${h} += x${u * n + h} * tile;`)
            .join(" ")} }`,
      )
      .join("\n    ")}
  }
  if (d4 >= D4) { return; }
  ${range(n).map(store).join("\n  ")}
}`;
  };
  const columns = launch((s) => at.pages(s) * s.B * (s.H / heads(s)) * at.splits(s) * round(ceilDiv(s.D, 4)));
  const toPartial = (h: number) => `partial[to + ${h}u * splits() * D4 + d4] = o${h};`;
  const toResult = (h: number) => `finish(b, plane, head + ${h}u, d4, o${h});`;
  /** One split, and the token's own key and value where they are not in the cache yet, to y. */
  const finish = isPaged(kind)
    ? `
fn finish(b: u32, plane: u32, head: u32, d4: u32, sums: vec4f) {
  let row = b * H + head;
  y[row * D4 + d4] = inHead(sums / stats[row].y, d4);
}`
    : `${ownWgsl(kind)}
fn finish(b: u32, plane: u32, head: u32, d4: u32, sums: vec4f) {
  let row = b * H + head;
  let some = filled(b) > 0u;
  let mine = ownScore(b, row, plane);
  let before = select(${NEVER}, stats[row].x, some);
  let top = max(mine, before);
  let weight = exp(mine - top);
  let past = exp(before - top);
  let all = weight + past * select(0.0, stats[row].y, some);
  y[row * D4 + d4] = inHead((weight * own(1u, plane, d4) + past * sums) / all, d4);
}`;
  const sumsWgsl = (s: S & { PAGES: number; PAGE: number }, whole: boolean) => `${at.wgsl(s)}${at.reading}
const HEADS = ${heads(s)}u;
const BLOCKS = H / HEADS;
fn shareIn(i: u32, n: u32, length: u32) -> vec4f {
  return select(vec4f(), scores[i + min(n, length - 1u)], n < length);
}${whole ? finish : ""}
${at
  .sources(s)
  .map((source) => sums(s, source, whole ? toResult : toPartial))
  .join("\n")}
${attribute}@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = workgroupIndex(wg) * WG + local;
  const COLUMNS = ${rounded("D4")};
  let SPLITS = ${at.overPages ? `${at.splits(s)}u` : "splits()"};
  let d4 = i % COLUMNS;
  let split = i / COLUMNS % SPLITS;
  let block = i / COLUMNS / SPLITS % BLOCKS;
  let b = i / COLUMNS / SPLITS / BLOCKS % B;
  let page = i / COLUMNS / SPLITS / BLOCKS / B;
  if (${at.missing}) { return; }
  ${at.place}
  let slot = start + split * SPLIT;
  let head = block * HEADS;
  ${
    whole
      ? `if (count(b) == 0u) {
    if (d4 < D4) { for (var h = head; h < head + HEADS; h++) { y[(b * H + h) * D4 + d4] = vec4f(); } }
    return;
  }
  let length = (filled(b) + 3u) / 4u;`
      : `if (slot >= filled(b)) { return; }
  let length = min(SPLIT4, (filled(b) - slot + 3u) / 4u);`
  }
  let plane = b * K + head / GROUP;
  let lane = local % 4u;
  let from4 = (b * H + head) * slots4() + slot / 4u;
  let to = ((b * H + head) * splits() + slot / SPLIT) * D4;
  ${onPage(at.sources(s), ({ array }) => `sum_${array}(b, plane, head, split * SPLIT4, length, from4, to, d4, lane);`)}
}`;

  return {
    suits: "cpu",
    ...(quad ? { needs: ["subgroups" as const] } : {}),
    when: ({ T, H, K }) => T === 1 && (!quad || (H / K) % 2 === 0),
    views: {
      ...{ q: "vec4f", y: "vec4f", chunk: "f32", scores: "vec4f", stats: "vec4f", partial: "vec4f" },
      ...before.views,
    },
    scratch: { ...before.scratch, scores: at.scores, stats: at.stats, partial: at.partial },
    passes: [
      ...before.passes,
      {
        overPages: at.overPages,
        mostPages: MOST_PAGES,
        writes: ["scores"],
        ...launch((s) => at.pages(s) * s.B * s.K * (s.H / s.K / heads(s)) * rowTiles(s)),
        wgsl: (s) => `${at.wgsl(s)}${at.reading}
const HEADS = ${heads(s)}u;
const BLOCKS = H / HEADS;
fn queryIn(i: u32, d4: u32) -> vec4f { return select(vec4f(), queryAt(i, min(d4, D4 - 1u)), d4 < D4); }
${at
  .sources(s)
  .map((source) => scores(s, source))
  .join("\n")}
${attribute}@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = workgroupIndex(wg) * WG + local;
  ${
    sinks
      ? `const SINKS = ${rounded("S4")};
  `
      : ""
  }let ROW = ${row};
  ${tileOf}
  let block = i / ROW % BLOCKS;
  let b = i / ROW / BLOCKS % B;
  let page = i / ROW / BLOCKS / B;
  if (${at.missing}) { return; }
  ${at.place}
  if (start + 4u * ${!quad ? "n4" : sinks ? "firstTile" : "(n4 - n4 % 4u)"} >= filled(b)) { return; }
  let head = block * HEADS;
  let plane = b * K + head / GROUP;
  let query = (b * H + head) * D4${sinks ? " + select(0u, B * H * D4, i % ROW < SINKS)" : ""};
  let lane = local % 4u;
  ${onPage(at.sources(s), ({ array }) => `score_${array}(b, plane, head, query, n4, start, origin, lane);`)}
}`,
      },
      {
        writes: ["scores", "stats"],
        ...launch((s) => s.B * s.H * at.stats[2].size(s)),
        wgsl: (s) => `${at.wgsl(s)}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = workgroupIndex(wg) * WG + local;
  let split = i % splits();
  let row = i / splits();
  if (row >= B * H || split * SPLIT >= filled(row / H)) { return; }
  let first = row * slots4() + split * SPLIT4;
  let end = first + min(SPLIT4, (filled(row / H) - split * SPLIT + 3u) / 4u);
  var tops = vec4f(${NEVER});
  for (var j = first; j < end; j++) { tops = max(tops, scores[j]); }
  let top = largest(tops);
  var sums = vec4f();
  for (var j = first; j < end; j++) {
    let p = shares(scores[j], top);
    sums += p;
    scores[j] = p;
  }
  stats[i] = vec4f(top, total(sums), 0.0, 0.0);
}`,
      },
      {
        when: (s) => !at.one(s),
        overPages: at.overPages,
        mostPages: MOST_PAGES,
        writes: ["partial"],
        ...columns,
        wgsl: (s) => sumsWgsl(s, false),
      },
      { when: (s) => !at.one(s), ...combine(kind, 256) },
      // a dispatch less where there is but one split: a window's ring, a first page
      {
        when: at.one,
        overPages: at.overPages,
        mostPages: MOST_PAGES,
        ...columns,
        wgsl: (s) => sumsWgsl(s, true),
      },
    ],
  };
}

/** A workgroup a split of 64 slots, scores and shares in workgroup memory; four lanes read a run of a key's tiles. */
function workgroups(kind: Decoded): Variant<Letter> {
  const at = layout(kind, 64);
  const before = at.before(64, true);
  const each = (s: S, code: (h: number) => string) => range(headsAtOnce(s)).map(code).join("\n  ");
  const attend = (s: S, { array, tiles, keys, tile }: Source) => {
    const D4 = ceilDiv(s.D, 4);
    const parts = Math.max(1, Math.floor(64 / D4));
    return `fn attend_${array}(b: u32, plane: u32, head: u32, first: u32, length: u32, origin: i32, to: u32, lane: u32) {
  let n = lane / 4u;
  let query = (b * H + head) * D4${kind === "sinks" ? " + select(0u, B * H * D4, first + n < S4)" : ""};
  let row = plane * ${tiles} + min(first + n, ${tiles} - 1u);
  ${each(s, (h) => `var s${h} = vec4f();`)}
  for (var d4 = lane % 4u; d4 < D4; d4 += 4u) {
    let tile = ${tile("row", "d4")};
    ${each(s, (h) => `s${h} += tile * queryAt(query + ${h}u * D4, d4);`)}
  }
  ${each(s, (h) => `work[${64 * h}u + lane] = s${h};`)}
  workgroupBarrier();
  if (lane % 4u == 0u) {
    let seen = visible(i32(position(b)), ${keys("(first + n)")});
    ${each(s, (h) => `scores[${16 * h}u + n] = select(vec4f(${NEVER}), SCALE * (work[${64 * h}u + lane] + work[${64 * h}u + lane + 1u] + work[${64 * h}u + lane + 2u] + work[${64 * h}u + lane + 3u]), seen);`)}
  }
  workgroupBarrier();
  if (lane < 16u) {
    for (var h = 0u; h < HEADS; h++) {
      var tops = scores[16u * h];
      for (var j = 1u; j < 16u; j++) { tops = max(tops, scores[16u * h + j]); }
      parts[16u * h + lane] = shares(scores[16u * h + lane], largest(tops));
    }
  }
  workgroupBarrier();
  if (lane < HEADS) {
    var tops = scores[16u * lane];
    var sums = parts[16u * lane];
    for (var j = 1u; j < 16u; j++) {
      tops = max(tops, scores[16u * lane + j]);
      sums += parts[16u * lane + j];
    }
    stats[to + lane * splits()] = vec4f(largest(tops), total(sums), 0.0, 0.0);
  }
  let values = (B * K + plane) * ${tiles} + first;
  ${
    parts === 1
      ? `for (var d4 = lane; d4 < D4; d4 += WG) {
    ${each(s, (h) => `var o${h} = vec4f();`)}
    for (var j = 0u; j < length; j++) {
      let tile = ${tile("values + j", "d4")};
      ${each(s, (h) => `o${h} += parts[${16 * h}u + j] * tile;`)}
    }
    ${each(s, (h) => `partial[(to + ${h}u * splits()) * D4 + d4] = o${h};`)}
  }`
      : `let d4 = lane % D4;
  ${each(s, (h) => `var o${h} = vec4f();`)}
  if (lane < D4 * ${parts}u) {
    for (var j = lane / D4; j < length; j += ${parts}u) {
      let tile = ${tile("values + j", "d4")};
      ${each(s, (h) => `o${h} += parts[${16 * h}u + j] * tile;`)}
    }
  }
  ${each(s, (h) => `work[${64 * h}u + lane] = o${h};`)}
  workgroupBarrier();
  if (lane < D4) {
    ${each(
      s,
      (h) =>
        `partial[(to + ${h}u * splits()) * D4 + lane] = ${range(parts)
          .map((p) => `work[${64 * h}u + ${p}u * D4 + lane]`)
          .join(" + ")};`,
    )}
  }`
  }
}`;
  };

  return {
    suits: "gpu",
    when: ({ T }) => T === 1,
    views: { q: "vec4f", y: "vec4f", chunk: "f32", stats: "vec4f", partial: "vec4f", ...before.views },
    scratch: { ...before.scratch, stats: at.stats, partial: at.partial },
    passes: [
      ...before.passes,
      {
        overPages: at.overPages,
        writes: ["stats", "partial"],
        workgroup: 64,
        grid: (s) => at.pages(s) * s.B * (s.H / headsAtOnce(s)) * at.splits(s),
        wgsl: (s) => `${at.wgsl(s)}${at.reading}
const HEADS = ${headsAtOnce(s)}u;
const BLOCKS = H / HEADS;
var<workgroup> work: array<vec4f, 64 * HEADS>;
var<workgroup> scores: array<vec4f, 16 * HEADS>;
var<workgroup> parts: array<vec4f, 16 * HEADS>;
${at
  .sources(s)
  .map((source) => attend(s, source))
  .join("\n")}
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroupIndex(wg);
  let SPLITS = ${at.overPages ? `${at.splits(s)}u` : "splits()"};
  let split = i % SPLITS;
  let block = i / SPLITS % BLOCKS;
  let b = i / SPLITS / BLOCKS % B;
  let page = i / SPLITS / BLOCKS / B;
  if (${at.missing}) { return; }
  ${at.place}
  let slot = start + split * SPLIT;
  if (slot >= filled(b)) { return; }
  let length = min(SPLIT4, (filled(b) - slot + 3u) / 4u);
  let head = block * HEADS;
  let plane = b * K + head / GROUP;
  let to = (b * H + head) * splits() + slot / SPLIT;
  ${onPage(at.sources(s), ({ array }) => `attend_${array}(b, plane, head, split * SPLIT4, length, origin, to, lane);`)}
}`,
      },
      combine(kind, 64),
    ],
  };
}
