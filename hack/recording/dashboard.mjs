// Draws the panels of a dashboard in Chromium, as dashboard.sh says. It is no Grafana: it
// asks the same queries, with All for each variable, and draws lines, numbers and tables.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [prometheus, file, minutes, picture] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const dashboard = JSON.parse(await readFile(file, "utf8"));
const end = Math.floor(Date.now() / 1000);
const start = end - minutes * 60;
const step = Math.max(1, Math.round((minutes * 60) / 200));

async function ask(path, parameters) {
  const answer = await (await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(parameters)}`)).json();
  if (answer.status !== "success") throw new Error(answer.error);
  return answer.data.result;
}

// answer returns the series of a target, each with its legend.
async function answer(target) {
  const query = target.expr.replaceAll("$__rate_interval", "30s").replaceAll(/\$(namespace|pool|job)/g, ".*");
  const found = target.instant
    ? await ask("query", { query, time: end })
    : await ask("query_range", { query, start, end, step });
  return found.map(({ metric, value, values }) => ({
    metric, value: value?.[1], values,
    legend: (target.legendFormat ?? "").replaceAll(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? ""),
  }));
}

const panels = [];
for (const panel of dashboard.panels) {
  const series = [];
  for (const target of panel.targets ?? []) series.push(...(await answer(target)));
  panels.push({ ...panel, series });
}

// draw runs in the page.
function draw({ title, panels, start, end, step }) {
  const colors = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#8ab8ff", "#fa6400", "#c4162a"];
  const unit = {
    s: (v) => (v === 0 ? "0" : v >= 86400 ? `${(v / 86400).toFixed(0)} days` : v >= 1 ? `${+v.toPrecision(3)} s`
      : v >= 1e-3 ? `${+(v * 1e3).toPrecision(3)} ms` : `${+(v * 1e6).toPrecision(3)} µs`),
    percentunit: (v) => `${+(v * 100).toPrecision(3)} %`, bytes: (v) => `${(v / 2 ** 20).toFixed(0)} MiB`,
    ops: (v) => `${+v.toPrecision(3)}/s`, reqps: (v) => `${+v.toPrecision(3)}/s`,
    dateTimeFromNow: (v) => `${Math.round((Date.now() - v) / 60000)} min ago`,
  };
  const of = (panel) => unit[panel.fieldConfig?.defaults.unit] ?? ((v) => `${+(+v).toPrecision(4)}`);
  const add = (parent, tag, name, text) => {
    const element = parent.appendChild(document.createElement(tag));
    element.className = name ?? "";
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const kinds = {
    stat(box, panel) {
      const last = panel.series.at(-1);
      const steps = panel.fieldConfig.defaults.thresholds.steps.filter((s) => s.value === null || +last?.value >= s.value);
      const words = panel.options.textMode === "name" ? last?.legend : last && of(panel)(+last.value);
      add(box, "div", "number", words ?? "No data").style.color = steps.at(-1).color === "red" ? "#f2495c" : "#73bf69";
    },
    table(box, panel) {
      const { excludeByName: hidden, renameByName: renamed } = panel.transformations[0].options;
      const rows = panel.series.map(({ metric, value }) => ({ ...metric, Value: value }));
      const names = [...new Set(rows.flatMap(Object.keys))].filter((name) => !hidden[name]);
      const table = add(box, "table");
      const head = add(table, "tr");
      for (const name of names) add(head, "th", "", renamed[name] ?? name);
      for (const row of rows.slice(0, 8)) {
        const line = add(table, "tr");
        for (const name of names) add(line, "td", "", row[name] ?? "");
      }
    },
    timeseries(box, panel) {
      const times = Array.from({ length: (end - start) / step + 1 }, (_, i) => start + i * step);
      const stacked = panel.fieldConfig.defaults.custom.stacking !== undefined;
      const sums = times.map(() => 0);
      const lines = panel.series.map(({ values }) => {
        const at = new Map(values.map(([time, value]) => [time, value === "NaN" ? null : +value]));
        return times.map((time, i) => {
          const value = at.get(time) ?? null;
          return stacked ? (sums[i] += value ?? 0) : value;
        });
      });
      const axis = { stroke: "#9aa0aa", grid: { stroke: "#2c3235", width: 1 }, ticks: { show: false }, font: "11px sans-serif" };
      new uPlot({
        width: box.clientWidth, height: box.clientHeight - 48, legend: { show: false }, cursor: { show: false },
        scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
        axes: [axis, { ...axis, size: 62, values: (_, ticks) => ticks.map(of(panel)) }],
        series: [{}, ...lines.map((_, i) => ({ stroke: colors[i % 10], width: 1.3, fill: stacked ? undefined : `${colors[i % 10]}14` }))],
      }, [times, ...lines], add(box, "div"));
      const legend = add(box, "div", "legend");
      panel.series.forEach((s, i) => {
        add(legend, "span", "key").style.background = colors[i % 10];
        add(legend, "span", "", s.legend);
      });
    },
    text(box, panel) { add(box, "pre", "", panel.options.content); },
  };
  add(document.body, "h1", "", title);
  const grid = add(document.body, "div", "grid");
  for (const panel of panels) {
    const box = add(grid, "div", panel.type);
    const { x, y, w, h } = panel.gridPos;
    box.style.gridArea = `${y + 1} / ${x + 1} / span ${h} / span ${w}`;
    add(box, "h2", "", panel.title);
    kinds[panel.type]?.(box, panel);
  }
}

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
const asset = async (name) => readFile(require.resolve(`uplot/dist/${name}`), "utf8");
await page.setContent(`<style>${await asset("uPlot.min.css")}
  body { background: #111217; color: #ccccdc; font: 12px sans-serif; margin: 12px; } table { font-size: 12px; }
  h1 { font-size: 18px; font-weight: 500; margin: 4px 0 12px; } h2 { font-size: 12px; font-weight: 500; margin: 6px 8px 4px; }
  .grid { display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: 26px; gap: 6px; }
  .grid > div { background: #181b1f; border: 1px solid #2c3235; border-radius: 3px; overflow: hidden; min-width: 0; }
  .grid > .row { background: none; border: none; } .number { font-size: 30px; text-align: center; margin-top: 10px; }
  table { border-collapse: collapse; margin: 0 8px; } td, th { text-align: left; padding: 3px 12px 3px 0; font-weight: 400; }
  th { color: #6e9fff; } .legend { padding: 0 8px; height: 16px; overflow: hidden; white-space: nowrap; }
  .key { display: inline-block; width: 10px; height: 3px; margin: 3px 4px 3px 8px; } pre { margin: 0 8px; white-space: pre-wrap; }
</style>`);
await page.addScriptTag({ content: await asset("uPlot.iife.min.js") });
await page.evaluate(draw, { title: dashboard.title, panels, start, end, step });
await page.screenshot({ path: picture, fullPage: true });
await browser.close();
