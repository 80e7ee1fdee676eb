// An estimate as Markdown, and as one JSON document.

import type { Layers } from "./closed.ts";
import {
  CHUNK,
  type Estimate,
  type EstimatedModel,
  type EstimateOptions,
  type EstimateRow,
} from "./estimateModel.ts";
import { escapeMarkdown } from "./printers/markdown.ts";
import { formatBytes, formatParameters } from "./units.ts";

/** What `-o json` prints. */
export interface EstimateDocument extends Estimate {
  schema: "longtape-estimate/1";
  dtype: string;
  type_k: string;
  type_v: string;
  type_state: string;
  type_scores: "f32";
  /** Columns of Mamba's convolution that count as state. */
  conv_columns: "d_conv - 1" | "d_conv";
}

export function estimateJson(estimate: Estimate, options: EstimateOptions): string {
  const document: EstimateDocument = {
    schema: "longtape-estimate/1",
    dtype: options.dtype,
    type_k: options.typeK,
    type_v: options.typeV,
    type_state: options.typeState,
    type_scores: "f32",
    conv_columns: options.convColumns === "all" ? "d_conv" : "d_conv - 1",
    ...estimate,
  };
  return JSON.stringify(document, null, 2);
}

interface Column {
  title: string;
  cell(row: EstimateRow): string;
  /** Does it say anything about these rows? */
  needed?(rows: readonly EstimateRow[]): boolean;
}

const some = (field: "kv" | "state" | "scores" | "bytes_per_token") => (rows: readonly EstimateRow[]) =>
  rows.some((row) => row[field] > 0);

const columns: Column[] = [
  { title: "model", cell: (row) => escapeMarkdown(row.model) },
  { title: "tokens", cell: (row) => row.n_depth.toLocaleString("en-US") },
  {
    title: "streams",
    cell: (row) => String(row.n_parallel),
    needed: (rows) => rows.some(({ n_parallel }) => n_parallel > 1),
  },
  { title: "weights", cell: (row) => formatBytes(row.weights) },
  { title: "kv", cell: (row) => formatBytes(row.kv), needed: some("kv") },
  { title: "state", cell: (row) => formatBytes(row.state), needed: some("state") },
  { title: "total", cell: (row) => formatBytes(row.total) },
  { title: "a token", cell: (row) => formatBytes(row.bytes_per_token), needed: some("bytes_per_token") },
  { title: "scores", cell: (row) => formatBytes(row.scores), needed: some("scores") },
  {
    title: "longtape, f32",
    cell: (row) => (row.longtape ? formatBytes(row.longtape.total) : "–"),
    needed: (rows) => rows.some(({ longtape }) => longtape !== null),
  },
];

/** A table and what its words mean. In a terminal narrower than the table it stands on its side, in as many parts as it takes. */
export function estimateMarkdown(
  { models, rows }: Estimate,
  options: EstimateOptions,
  terminalWidth = Number.POSITIVE_INFINITY,
): string {
  const shown = columns.filter(({ needed }) => needed?.(rows) ?? true);
  const cells = rows.map((row) => shown.map(({ cell }) => cell(row)));
  const titles = shown.map(({ title }) => title);
  const lines = [...fitted(titles, cells, terminalWidth), "", ...notes(models, rows, options)];
  return lines.flatMap((line) => wrapped(line, terminalWidth)).join("\n");
}

/** The models' shapes: a table, or lines where the terminal is narrower. */
export function listMarkdown(
  models: readonly EstimatedModel[],
  terminalWidth = Number.POSITIVE_INFINITY,
): string {
  const cells = models.map(({ model, parameters, layers }) => [
    escapeMarkdown(model),
    formatParameters(parameters),
    layers.map(describe).join("; "),
  ]);
  const lines = table(["model", "parameters", "layers"], cells, new Set([0, 2]));
  const narrow = lines[0]!.length > terminalWidth;
  return (narrow ? models.map(shapeLine).flatMap((line) => wrapped(line, terminalWidth)) : lines).join("\n");
}

const shapeLine = ({ model, parameters, layers }: EstimatedModel): string =>
  `- ${escapeMarkdown(model)}: ${formatParameters(parameters)} parameters; ${layers.map(describe).join("; ")}`;

/** Lines of one table; on its side, the first column holds the titles and each row is a column. */
function fitted(titles: string[], rows: string[][], width: number): string[] {
  const upright = table(titles, rows, new Set([0]));
  if (upright[0]!.length <= width) return upright;
  const parts: string[][][] = [[]];
  for (const row of rows) {
    const part = parts.at(-1)!;
    const wide = onItsSide(titles, [...part, row])[0]!.length > width;
    if (wide && part.length > 0) parts.push([row]);
    else part.push(row);
  }
  return parts.flatMap((part, i) => [...(i > 0 ? [""] : []), ...onItsSide(titles, part)]);
}

function onItsSide(titles: string[], rows: string[][]): string[] {
  const [head, ...body] = titles.map((title, i) => [title, ...rows.map((row) => row[i]!)]);
  return table(head!, body, new Set([0]));
}

function table(head: string[], rows: string[][], left: ReadonlySet<number>): string[] {
  const widths = head.map((title, i) => Math.max(title.length, 3, ...rows.map((row) => row[i]!.length)));
  const line = (cells: string[]) =>
    `| ${cells.map((cell, i) => (left.has(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`;
  const rule = widths.map((width, i) => (left.has(i) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`));
  return [line(head), line(rule), ...rows.map(line)];
}

function notes(
  models: readonly EstimatedModel[],
  rows: readonly EstimateRow[],
  { dtype, typeK, typeV, typeState, convColumns }: EstimateOptions,
): string[] {
  const has = (kind: Layers["kind"]) =>
    models.some(({ layers }) => layers.some((group) => group.kind === kind));
  const keys = typeK === typeV ? `keys and values ${typeK}` : `keys ${typeK}, values ${typeV}`;
  const types = [
    `weights ${dtype}`,
    some("kv")(rows) && keys,
    some("state")(rows) && `state ${typeState} (whatever the weights are)`,
  ];
  const columnsKept =
    convColumns === "past"
      ? "d_conv - 1 columns, as llama.cpp and longtape do; mamba_ssm keeps d_conv: --conv-columns all"
      : "d_conv columns, as mamba_ssm does; llama.cpp and longtape keep d_conv - 1: --conv-columns past";
  return [
    ...models.map(shapeLine),
    `- types: ${types.filter(Boolean).join(", ")}`,
    "- total: what is held for all streams, by the literature's formulas; nothing for activations",
    some("bytes_per_token")(rows) && "- a token: what one token more costs one stream",
    some("scores")(rows) &&
      "- scores: one layer's matrix in f32, all streams; tiled attention never holds it, and it is in no total but that of a model that does",
    has("mamba") && `- state: a convolution keeps ${columnsKept}`,
    rows.some(({ longtape }) => longtape) &&
      `- longtape, f32: all that longtape would hold by its ledger, pages, padding and scratch included, with a GPU's default variants and prompts in chunks of ${CHUNK}`,
    ...models.flatMap(({ model, reason }) =>
      reason ? `- ${escapeMarkdown(model)} in longtape: ${escapeMarkdown(reason)}` : [],
    ),
  ].filter((line) => line !== false);
}

function describe(group: Layers): string {
  const { layers } = group;
  switch (group.kind) {
    case "attention": {
      const { heads, kvHeads, headDim } = group;
      const shared = kvHeads === heads ? `${heads} heads` : `${heads} query and ${kvHeads} kv heads`;
      return `${layers} × ${pattern(group)}, ${shared} of ${headDim}`;
    }
    case "linear":
      return `${layers} × linear attention, ${group.heads} heads of ${group.keyDim} × ${group.valueDim}`;
    case "mamba":
      return `${layers} × Mamba, ${group.inner} channels of ${group.stateSize} states`;
    default:
      return `${layers} × ${group.kind}, ${group.hidden} wide`;
  }
}

function pattern({ pattern }: Extract<Layers, { kind: "attention" }>): string {
  switch (pattern.kind) {
    case "full":
      return "full attention";
    case "materialised":
      return "full attention, scores held";
    case "window":
      return `attention to the last ${pattern.window}`;
    case "local":
      return `attention to the last ${pattern.window}, all kept`;
    case "sinks":
      return `attention to the first ${pattern.sinks} and the last ${pattern.window}`;
    case "strided":
      return `attention to the last ${pattern.stride} and each ${pattern.stride}th`;
  }
}

/** A line of a list broken at spaces; a table's line is as wide as it is. */
function wrapped(line: string, width: number): string[] {
  if (line.length <= width || !line.startsWith("- ")) return [line];
  const lines: string[] = [];
  let rest = "";
  for (const word of line.split(" ")) {
    if (rest && rest.length + 1 + word.length > width) {
      lines.push(rest);
      rest = `  ${word}`;
    } else rest = rest ? `${rest} ${word}` : word;
  }
  return [...lines, rest];
}
