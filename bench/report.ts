import { parseHTML } from "linkedom";
import { type Answer, answersOf } from "./answers.ts";
import { bytesChart, type Canvas, colours, palette, scratchChart, seriesOf, speedChart } from "./charts.ts";
import type { Judged } from "./claims/claim.ts";
import { claimsSection, claimsStyle } from "./claims/section.ts";
import { everyRow, speed } from "./everyRow.ts";
import { Html, html } from "./html.ts";
import { rooflineChart } from "./kernels/rooflineChart.ts";
import { pairsChart } from "./pairsChart.ts";
import { peerColours, peerMark, peersChart } from "./peers/chart.ts";
import { qualityChart } from "./qualityChart.ts";
import { adapterName, type Environment, measuredBytes, type Results, type Row, type Status } from "./row.ts";
import { formatBytes, formatNs, formatParameters, show } from "./units.ts";

/** One file that opens from disk: styles and charts inside, no script, nothing fetched. */
export function reportHtml(results: Results, claims: readonly Judged[] = []): string {
  const { environment, rows, fits = [], kernels = [] } = results;
  // a folder that could not be opened has none
  const quality = results.quality ?? [];
  const archs = [...new Set([...rows, ...fits, ...quality].map(({ arch }) => arch))].filter(Boolean);
  // many streams belong to one claim's evidence; beside every other model's one they would fill the charts with labels
  const drawn = claims.length > 0 ? rows.filter((row) => row.n_parallel === 1) : rows;
  const ours = drawn.filter(({ peer }) => peer === "longtape");
  const title = `longtape: ${archs.join(", ") || (kernels.length > 0 ? "kernels" : "no model")}`;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${title}</title>
<style>${new Html(style)}${claims.length > 0 && new Html(claimsStyle)}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">longtape</p>
<h1>What a long context costs</h1>
<p class="lead">${archs.length > 0 && `${archs.length} ${archs.length === 1 ? "architecture" : "architectures"} (${archs.join(", ")}), `}${kernels.length > 0 && rows.length === 0 ? statuses(kernels, "timing") : statuses(rows, "row")}.</p>
<code class="command">${environment.command}</code>
<p class="meta">${[...origin(environment)].join(" · ")}</p>
</header>
${adapterNotice(environment)}
${environment.tab_hidden && html`<p class="notice"><strong>The tab was hidden during the run.</strong> Browsers slow down hidden tabs: take no time from this report.</p>`}
${claims.length > 0 && claimsSection(claims)}
${glance(ours)}
${charts({ ...results, rows: drawn }, claims.length > 0)}
${answersOf(results).map((answer) => answerSection(answer, results))}
${(rows.length > 0 || fits.length + quality.length + kernels.length === 0) && everyRow(rows)}
${environmentSection(environment)}
</main>
</body>
</html>
`;
  return page.text;
}

function statuses(rows: readonly { status: Status }[], name: string): string {
  const counts = new Map<string, number>();
  for (const { status } of rows) counts.set(status, (counts.get(status) ?? 0) + 1);
  const list = [...counts].map(([status, number]) => `${number} ${status}`).join(", ");
  return `${rows.length} ${name}${rows.length === 1 ? "" : "s"}${list && `: ${list}`}`;
}

function* origin({
  started,
  versions,
  build_commit,
  runtime,
  browser,
  node,
  os,
  cpu,
  cpu_cores,
}: Environment) {
  yield started.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");
  yield `longtape ${versions.longtape ?? ""} (${build_commit ?? "unknown build"})`;
  yield runtime === "node" ? `Dawn in Node ${node ?? ""}` : (browser ?? "browser");
  yield os;
  yield `${cpu}, ${cpu_cores} cores`;
}

function adapterNotice({ adapter }: Environment): Html {
  const name = adapterName(adapter);
  if (!adapter?.software) return html`<p class="notice quiet">Adapter: <strong>${name}</strong></p>`;
  return html`<p class="notice">Adapter: <strong>${name}</strong>, a software adapter: it computes on the CPU. A software adapter penalises barriers; nothing is known of a GPU that was not measured.</p>`;
}

/** One line a model: the two ends of the sweep side by side, since the change is what one came for. */
function glance(rows: readonly Row[]): Html | null {
  const generated = rows.filter((row) => row.n_gen > 0 && row.n_prompt === 0);
  if (generated.length === 0) return null;
  const timed = generated.filter(({ status }) => status === "ok");
  const depths = (timed.length > 0 ? timed : generated).map((row) => row.n_depth);
  const ends = [...new Set([Math.min(...depths), Math.max(...depths)])];
  const at = (members: readonly Row[], depth: number) => members.find((row) => row.n_depth === depth);
  const names = seriesOf(generated, ({ n_gen }) => `tg${n_gen}`);
  const head = (what: string) =>
    ends.map((depth) => html`<th class="number">${what}<br>depth ${depth.toLocaleString("en-US")}</th>`);
  return html`<section>
<h2>At a glance</h2>
<div class="scroll"><table>
<thead><tr><th>model</th><th class="number">parameters</th>${head("state + kv,")}${head("generated t/s,")}</tr></thead>
<tbody>
${names.map(({ label, colour, rows: members }) => {
  const found = ends.map((depth) => at(members, depth));
  return html`<tr><th scope="row">${swatch(colour)}${label}</th><td class="number">${show(members[0]?.model_n_params, formatParameters)}</td>${found.map(
    (row) => html`<td class="number">${show(row && measuredBytes(row), formatBytes)}</td>`,
  )}${found.map((row) => html`<td class="number ${row?.status ?? ""}">${row ? speed(row) : "–"}</td>`)}</tr>\n`;
})}</tbody>
</table></div>
</section>`;
}

/** `working`: with what is worked in, which claims are about. */
function charts({ environment, rows, quality = [], kernels = [], roofs }: Results, working: boolean): Html {
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  // linkedom's document has what Plot calls, not all that the DOM's type promises.
  const canvas = (width: number, height: number): Canvas => ({
    document: document as unknown as Document,
    width,
    height,
  });
  const timedTests = [...new Set(rows.map(({ test }) => test))];
  const sideBySide = timedTests.map((test) => {
    const own = rows.filter((row) => row.test === test);
    return figure(
      `Side by side: ${test}`,
      html`${[...new Set(own.map(({ peer }) => peer))].map((peer) => html`<span style="color: ${peerColours[peer] ?? "inherit"}">${peerMark(peer)}</span> ${peer} · `)}mean of the rounds, which went by turns; to the right is faster.`,
      peersChart(own, canvas(1000, 0)),
    );
  });
  const ours = rows.filter(({ peer }) => peer === "longtape");
  const generated = ours.filter((row) => row.n_gen > 0 && row.n_prompt === 0);
  const prompts = ours.filter((row) => row.n_prompt > 0 && row.n_gen === 0);
  const both = ours.filter((row) => row.n_prompt > 0 && row.n_gen > 0);
  const figures = [
    ...sideBySide,
    figure(
      "Bytes against context",
      "Points: bytes of state, keys and values that were measured. Lines: what the ledger says the engine must allocate. A point off its line is an error. Steps are pages.",
      bytesChart(ours, environment.curves ?? [], canvas(1000, 460)),
    ),
    working
      ? figure(
          "Scratch against context, prompts",
          "What a forward works in and forgets, chunk by chunk. A power of the context is a straight line here, as steep as its exponent.",
          scratchChart(prompts, canvas(1000, 400)),
        )
      : null,
    figure(
      "Generation: tokens a second against depth",
      "Mean of the repetitions, ± their sample standard deviation; all streams together.",
      speedChart(generated, canvas(1000, 400)),
    ),
    figure(
      "Pairs scored for a generated token",
      "Query and key, all layers and heads of one stream: the work that a pattern of attention asks for, by its mask.",
      pairsChart(generated, canvas(1000, 400)),
    ),
    figure(
      "Prompt: tokens a second",
      "Mean of the repetitions, ± their sample standard deviation; all streams together.",
      speedChart(prompts, canvas(1000, 400)),
    ),
    figure(
      "Prompt and generation together: tokens a second",
      "Prompt and generated tokens over the time of both.",
      speedChart(both, canvas(1000, 400)),
    ),
    figure(
      "Bits a byte against position in one stream",
      "Mean over the tokens since the point before, of text that the shipped models have not seen. They were trained on windows of 256 tokens: what lies beyond the rule at 256 they never saw in training.",
      qualityChart(quality, canvas(1000, 400)),
    ),
    figure(
      "Kernels under the roofs",
      "Full: the fastest variant at its sizes; hollow: the others. The slope is what reading allows, the level what multiply-adds do, both measured in the same run. Small sizes lie low: a dispatch costs what it costs.",
      rooflineChart(kernels, roofs, canvas(1000, 460)),
    ),
  ].filter((figure) => figure !== null);
  if (figures.length === 0) return html``;
  const archs = [...rows, ...quality].map(({ arch }) => arch).filter(Boolean);
  const legend = colours([...new Set(archs)]);
  return html`<section>
<h2>Charts</h2>
<ul class="legend">${[...legend].map(([arch, colour]) => html`<li>${swatch(colour)}${arch}</li>`)}</ul>
${figures}
</section>`;
}

function answerSection({ title, note, columns, rows }: Answer, results: Results): Html {
  const archOf = new Map(
    [...results.rows, ...(results.fits ?? []), ...(results.quality ?? [])].map(({ model, arch }) => [
      model,
      arch,
    ]),
  );
  const colourOf = colours([...new Set(archOf.values())].filter(Boolean));
  const cell = (text: string, i: number) => {
    const { kind } = columns[i]!;
    if (kind !== "model") return html`<td class="${kind}">${text}</td>`;
    const name = html`${swatch(colourOf.get(archOf.get(text) ?? "") ?? "currentColor")}${text}`;
    return i === 0 ? html`<th scope="row">${name}</th>` : html`<td>${name}</td>`;
  };
  return html`<section>
<h2>${title}</h2>
<p>${note}</p>
<div class="scroll"><table class="answer">
<thead><tr>${columns.map(({ title, kind }) => html`<th class="${kind}">${title}</th>`)}</tr></thead>
<tbody>
${rows.map((cells) => html`<tr>${cells.map(cell)}</tr>\n`)}</tbody>
</table></div>
</section>`;
}

function figure(title: string, caption: string | Html, svg: SVGElement | null): Html | null {
  if (!svg) return null;
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", title);
  // Plot and linkedom have escaped the names in it.
  return html`<figure><h3>${title}</h3><div class="canvas">${new Html(svg.outerHTML)}</div><figcaption>${caption}</figcaption></figure>\n`;
}

const swatch = (colour: string): Html => html`<i class="swatch" style="background: ${colour}"></i>`;

function environmentSection(environment: Environment): Html {
  const { adapter, versions, browser_flags, limits, features, verdicts, clock_quantum_ns } = environment;
  const facts: [string, string][] = [
    ["adapter", adapterName(adapter)],
    [
      "vendor, architecture, device",
      adapter ? [adapter.vendor, adapter.architecture, adapter.device].filter(Boolean).join(", ") : "",
    ],
    ["software adapter", adapter?.software ? "yes" : "no"],
    ["runtime", environment.runtime],
    ["browser", environment.browser ?? "none"],
    ["browser flags", browser_flags.join(" ")],
    ["system", environment.os],
    ["processor", `${environment.cpu}, ${environment.cpu_cores} cores`],
    ["Node", environment.node ?? ""],
    [
      "versions",
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", "),
    ],
    ["build", environment.build_commit ?? "unknown"],
    ["started", environment.started],
    ["seed", String(environment.seed ?? "")],
    ["smallest step of the clock", show(clock_quantum_ns, formatNs)],
    ["tab hidden", environment.tab_hidden ? "yes" : "no"],
    ["features", features.join(", ")],
  ];
  return html`<section>
<h2>Environment</h2>
<dl>${facts.filter(([, value]) => value).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>\n`)}</dl>
${
  verdicts.length > 0 &&
  html`<details><summary>${verdicts.length} kernel variants chosen, ${verdicts.filter(({ kept }) => kept).length} by races of a run before</summary><div class="scroll"><table>
<thead><tr><th>kernel</th><th>sizes</th><th>variant</th><th>race, fastest</th><th>raced</th></tr></thead>
<tbody>${verdicts.map(
    ({ kernel, sizes, variant, times_ns, kept }) =>
      html`<tr><td>${kernel}</td><td>${sizes}</td><td>${variant}</td><td>${
        Object.entries(times_ns)
          .map(([name, ns]) => `${name} ${formatNs(ns)}`)
          .join(", ") || "no race"
      }</td><td>${kept ? "before" : "in this run"}</td></tr>\n`,
  )}</tbody>
</table></div></details>`
}
<details><summary>${Object.keys(limits).length} limits of the adapter</summary>
<dl>${Object.entries(limits).map(([name, value]) => html`<dt>${name}</dt><dd class="number">${value.toLocaleString("en-US")}</dd>\n`)}</dl></details>
</section>`;
}

const variables = (colours: readonly string[]): string =>
  colours.map((colour, i) => `--series-${i + 1}: ${colour};`).join(" ");

const style = `
:root { --surface: #fcfcfb; --raised: #ffffff; --ink: #1b1b19; --soft: #62615c; --line: #dddcd6; --notice: #fff4d6; --notice-line: #d9a400; ${variables(palette.light)} }
@media (prefers-color-scheme: dark) { :root { --surface: #171716; --raised: #1f1f1e; --ink: #edece8; --soft: #a3a29b; --line: #3a3a37; --notice: #33290d; --notice-line: #c98500; ${variables(palette.dark)} } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--surface); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 48px 24px 96px; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 12px; letter-spacing: -0.015em; }
h2 { font-size: 1.3rem; margin: 0 0 12px; letter-spacing: -0.01em; }
h3 { font-size: 1rem; margin: 0 0 8px; }
section { margin-top: 48px; }
p { margin: 0 0 12px; max-width: 80ch; }
.eyebrow { margin: 0 0 4px; font-weight: 600; color: var(--soft); letter-spacing: 0.04em; }
.lead { font-size: 1.1rem; }
.command { display: inline-block; max-width: 100%; overflow-wrap: anywhere; padding: 2px 8px; border: 1px solid var(--line); border-radius: 5px; background: var(--raised); font-size: 0.9rem; }
.meta, figcaption { color: var(--soft); font-size: 0.9rem; }
.meta { margin-top: 10px; max-width: none; }
.notice { margin: 20px 0 0; max-width: none; padding: 12px 16px; background: var(--notice); border-left: 4px solid var(--notice-line); border-radius: 3px; }
.notice.quiet { background: var(--raised); border-left-color: var(--line); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; background: var(--raised); }
.scroll.tall { max-height: 80vh; overflow-y: auto; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { position: sticky; top: 0; background: var(--raised); color: var(--soft); font-weight: 600; vertical-align: bottom; box-shadow: inset 0 -1px var(--line); border-bottom: 0; }
tbody th { font-weight: 600; }
tr > :first-child { position: sticky; left: 0; background: var(--raised); }
thead th { z-index: 1; }
thead tr > :first-child { z-index: 2; }
.number { text-align: right; }
tr.refused td, tr.unsupported td { color: var(--soft); }
tr.failed td { background: color-mix(in srgb, var(--series-6) 14%, var(--raised)); }
td.number { max-width: 34ch; }
td.prose { white-space: normal; min-width: 26ch; }
tr:is(.failed, .refused, .unsupported) td.number, td:is(.failed, .refused, .unsupported) { white-space: normal; min-width: 24ch; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; margin: 0 0 16px; padding: 0; font-size: 0.9rem; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px; }
figure { margin: 0 0 32px; padding: 20px; border: 1px solid var(--line); border-radius: 6px; background: var(--raised); }
.canvas { overflow-x: auto; }
.canvas svg { width: 100%; min-width: 640px; height: auto; --surface: var(--raised); }
figcaption { margin-top: 8px; max-width: 90ch; }
dl { display: grid; grid-template-columns: minmax(12ch, max-content) 1fr; gap: 4px 20px; margin: 0 0 16px; font-size: 0.9rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
dd.number { text-align: left; font-variant-numeric: tabular-nums; }
details { margin: 16px 0; }
summary { cursor: pointer; margin-bottom: 8px; color: var(--soft); }
@page { size: landscape; margin: 12mm; }
@media print {
  :root { --surface: #fff; --raised: #fff; --ink: #000; --soft: #444; --line: #bbb; --notice: #fff; ${variables(palette.light)} }
  main { max-width: none; padding: 0; }
  .scroll, .scroll.tall { overflow: visible; max-height: none; border: 0; }
  table { font-size: 6pt; }
  th, td { padding: 2px 4px; white-space: normal; }
  figure { break-inside: avoid; }
  .canvas { overflow: visible; }
  .canvas svg { min-width: 0; }
  tr > *, tr > :first-child { position: static; }
  details:not([open]) { display: none; }
}
`;
