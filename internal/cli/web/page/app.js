// The page: asks for the state once a second while it is seen, and shows it.
import { showAttention } from "./attention.js";
import { focusDetail, showDetail } from "./detail.js";
import { setText } from "./dom.js";
import { filterBy, hideTip, listen, select, showPools, squareOf, tick } from "./pools.js";
import { ago, clock, count, needsAttention, poolName, rate } from "./words.js";

const interval = 1000; // the shortest time between two requests, in milliseconds
const patience = 15_000; // for one answer

const at = (id) => document.getElementById(id);
const filter = at("filter");

let state = null; // the newest answer
let etag = "";
let asked = -interval; // when the newest request began
let timer = 0;
let asking = false;
let trouble = ""; // why there is no newer answer
let choice = null; // the target that is shown in detail

// schedule asks as soon as a second has passed since the last request, if the page is seen.
function schedule() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  timer = setTimeout(ask, Math.max(0, asked + interval - performance.now()));
}

async function ask() {
  if (asking || document.hidden) return;
  asking = true;
  asked = performance.now();
  const about = choice;
  try {
    const answer = await fetch(`state${about ? `?${new URLSearchParams(about)}` : ""}`, {
      headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store", signal: AbortSignal.timeout(patience),
    });
    await take(answer);
  } catch {
    trouble = `${state?.program ?? "connpool"} web does not answer. If you have ended it, start it again: it prints a new link.`;
  }
  asking = false;
  show();
  tick();
  schedule();
}

// take takes in an answer. 304 says that the state is the one that is shown.
async function take(answer) {
  if (answer.status === 304) {
    trouble = "";
  } else if (answer.ok) {
    const before = state;
    state = await answer.json();
    etag = answer.headers.get("ETag") ?? "";
    trouble = "";
    announce(before, state);
  } else {
    trouble = (await answer.text()).trim();
  }
}

// show brings the page up to date.
function show() {
  performance.mark("show");
  if (state) {
    showPools(state.pools);
    showAttention(state.pools, (chosen) => choose(chosen, true));
    showChoice();
    showSummary();
    showFilter();
  }
  showBanner();
  performance.measure("update", "show");
}

function showSummary() {
  const sums = { targets: 0, running: 0, rate: 0, ready: 0, attention: 0 };
  for (const pool of state.pools) {
    sums.targets += pool.members.length;
    sums.ready += pool.ready;
    sums.running += pool.running;
    sums.rate += pool.rate;
    sums.attention += pool.members.filter((member) => needsAttention(member.level)).length;
  }
  const named = [state.context, state.namespace || "all namespaces"].filter(Boolean).join(" / ");
  setText(at("scope"), named);
  const parts = [`${count(sums.ready, "ready", "ready")} of ${count(sums.targets, "target")}`];
  if (sums.attention) parts.push(`${count(sums.attention, "needs attention", "need attention")}`);
  parts.push(`${count(sums.running, "use")} now`, `${rate(sums.rate)} per second`);
  setText(at("summary"), state.waiting && !state.pools.length ? "Asking the cluster…" : parts.join(" · "));
  document.title = sums.attention ? `(${sums.attention}) connpool · ${named}` : `connpool · ${named}`;
  const isEmpty = !state.pools.length && !state.waiting && !state.problems;
  at("empty").hidden = !isEmpty;
  if (isEmpty) setText(at("empty"), state.namespace ? `Namespace ${state.namespace} has no pools and no targets.` : "There are no pools and no targets.");
}

// showBanner says what is missing or old.
function showBanner() {
  const lines = [];
  if (trouble) lines.push(["late", trouble]);
  if (state?.heard) lines.push(["late", `The cluster has not answered for ${ago(state.heard)}. What you see is from ${clock(state.heard)}.`]);
  for (const problem of state?.problems ?? []) {
    const lead = problem.denied ? `You may not see ${problem.what}` : `No news of ${problem.what}`;
    lines.push([problem.denied ? "denied" : "late", `${lead}: ${problem.text}`, problem.hint]);
  }
  const isLate = lines.some(([kind]) => kind === "late");
  document.documentElement.toggleAttribute("data-stale", isLate);
  setText(at("pulse"), isLate ? "stale" : state && !state.waiting ? "live" : "");
  at("pulse").dataset.level = isLate ? "failing" : "ready";
  const text = JSON.stringify(lines);
  const banner = at("banner");
  if (banner.shown === text) return;
  banner.shown = text;
  const open = new Set([...banner.querySelectorAll("details[open]")].map((details) => details.dataset.about));
  banner.replaceChildren(...lines.map((line) => noteOf(line, open)));
}

function noteOf([kind, text, hint], open) {
  const note = document.createElement("div");
  note.className = `note ${kind}`;
  const words = document.createElement("p");
  const isShort = hint && !hint.includes("\n");
  words.textContent = isShort ? `${text}. ${hint}` : text;
  note.append(words);
  if (!hint || isShort) return note;
  const [details, summary, pre] = ["details", "summary", "pre"].map((tag) => document.createElement(tag));
  summary.textContent = "What to do";
  pre.textContent = hint;
  pre.tabIndex = 0;
  details.dataset.about = text;
  details.open = open.has(text);
  details.append(summary, pre);
  note.append(details);
  return note;
}

// announce tells screen readers what has changed for the better or the worse.
function announce(before, after) {
  if (!before) return;
  const levels = new Map();
  for (const pool of before.pools) for (const member of pool.members) levels.set(`${pool.namespace}/${pool.name}/${member.name}`, member.level);
  const news = [];
  for (const pool of after.pools) {
    for (const member of pool.members) {
      const level = levels.get(`${pool.namespace}/${pool.name}/${member.name}`);
      if (level === undefined || level === member.level) continue;
      if (needsAttention(member.level)) news.push(`${member.name} in ${poolName(pool)} is ${member.level}: ${member.word}.`);
      else if (needsAttention(level) && member.level === "ready") news.push(`${member.name} in ${poolName(pool)} is ready again.`);
    }
  }
  if (!news.length) return;
  const rest = news.length - 3;
  setText(at("announce"), news.slice(0, 3).join(" ") + (rest > 0 ? ` And ${count(rest, "more change")}.` : ""));
}

function showFilter() {
  const word = filter.value.trim().toLowerCase();
  const matching = filterBy(word);
  setText(at("matches"), word ? count(matching, "target") : "");
}

// choose shows a target in detail, and moves the focus there if the keyboard chose it.
function choose(chosen, moves) {
  const path = [chosen.namespace, chosen.pool || "-", chosen.target].map(encodeURIComponent).join("/");
  history.replaceState(null, "", `#/${path}`);
  readHash();
  if (moves) focusDetail();
}

function close() {
  if (!choice) return;
  const square = squareOf(choice);
  history.replaceState(null, "", location.pathname);
  readHash();
  square?.element.focus();
}

function readHash() {
  const words = location.hash.startsWith("#/") ? location.hash.slice(2).split("/").map(decodeURIComponent) : [];
  choice = words.length === 3 ? { namespace: words[0], pool: words[1] === "-" ? "" : words[1], target: words[2] } : null;
  if (state) showChoice();
  schedule();
}

function showChoice() {
  select(choice);
  const square = choice && squareOf(choice);
  showDetail(choice, square?.row.pool, square?.member, state.detail, state, close);
}

listen(choose);
filter.addEventListener("input", () => state && showFilter());
addEventListener("hashchange", readHash);
document.addEventListener("visibilitychange", schedule);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && event.target !== filter && !event.ctrlKey && !event.metaKey && !event.altKey) {
    filter.focus();
    event.preventDefault();
  } else if (event.key === "Escape") {
    if (hideTip() && event.target.square && !choice) return;
    if (event.target === filter && filter.value) {
      filter.value = "";
      if (state) showFilter();
    } else close();
  }
});
readHash();
