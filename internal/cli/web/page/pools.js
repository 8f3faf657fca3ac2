// Pools as rows, and in each row a square for each target. The squares of a pool are
// one list of options: Tab reaches the list, arrows move in it and on to the next.
import { drawLine, keyed, make, setAttribute, setText, sparkline } from "./dom.js";
import { needsAttention, poolName, rate, sentenceOf } from "./words.js";

const rateSamples = 60;

const section = document.getElementById("pools");
const table = section.querySelector("table");
const body = section.querySelector("tbody");
const tip = document.getElementById("tip");
const rows = new Map();

const idOf = (pool) => `${pool.namespace}/${pool.name}`;
let chosen = null; // of the target that is shown in detail
let severalNamespaces = false;

// showPools shows all rows.
export function showPools(pools) {
  table.hidden = pools.length === 0;
  severalNamespaces = new Set(pools.map((pool) => pool.namespace)).size > 1;
  keyed(body, rows, pools, idOf, buildRow, updateRow);
}

// tick adds a sample to the lines of uses per second.
export function tick() {
  for (const row of rows.values()) {
    row.rates.push(row.pool.rate);
    if (row.rates.length > rateSamples) row.rates.shift();
    drawLine(row.line, row.rates, rateSamples);
  }
}

function buildRow(pool) {
  const row = { pool, rates: [], squares: new Map(), line: sparkline(), level: make("span", { class: "mark" }) };
  row.name = make("span", { class: "name" });
  row.kind = make("span", { class: "kind" });
  row.word = make("span", { class: "word" });
  row.ready = make("td", { class: "number" });
  row.warm = make("td", { class: "number" });
  row.running = make("td", { class: "number" });
  row.rate = make("span");
  row.sentence = make("p", { class: "sentence" });
  row.list = make("div", { class: "squares", role: "listbox", "aria-label": `Targets of ${poolName(pool)}` });
  row.list.row = row;
  row.element = make("tr", {},
    make("th", { scope: "row" }, row.name, row.kind, row.word), row.ready, row.warm, row.running,
    make("td", { class: "number rate" }, row.line, row.rate), make("td", { class: "targets" }, row.sentence, row.list));
  return row;
}

function updateRow(row, pool) {
  row.pool = pool;
  setText(row.name, (severalNamespaces ? `${pool.namespace}/` : "") + poolName(pool));
  setText(row.kind, pool.type ?? "");
  setText(row.word, pool.level === "ready" ? "" : pool.word);
  setAttribute(row.word, "data-level", pool.level);
  setText(row.ready, `${pool.ready}/${pool.members.length}`);
  setText(row.warm, pool.desired ? `${pool.warm}/${pool.desired}` : String(pool.warm));
  setText(row.running, String(pool.running));
  setText(row.rate, rate(pool.rate));
  const explained = pool.level === "ready" || pool.members.some((member) => needsAttention(member.level));
  setText(row.sentence, explained ? "" : pool.message ?? "");
  row.list.hidden = pool.members.length === 0;
  keyed(row.list, row.squares, pool.members, (member) => member.name, (member) => buildSquare(row, member), updateSquare);
  if (!row.list.querySelector("[tabindex='0']")) row.list.firstElementChild?.setAttribute("tabindex", "0");
}

function buildSquare(row, member) {
  const element = make("div", { class: "square", role: "option", tabindex: "-1", "aria-selected": "false" });
  const square = { element, row, member, shown: "", matches: true };
  element.square = square;
  return square;
}

function updateSquare(square, member) {
  square.member = member;
  if (tip.square === square) showTip(square);
  const sentence = sentenceOf(member);
  if (square.shown === sentence + member.level) return;
  square.shown = sentence + member.level;
  square.element.setAttribute("aria-label", sentence);
  setAttribute(square.element, "data-level", member.level);
  fill(square.element, member);
}

// fill fills a square as far as its target is in use. What is in use at all is seen,
// be it one slot of a hundred.
export function fill(element, member) {
  const part = member?.slots ? Math.min(1, (member.running ?? 0) / member.slots) : 0;
  element.style.setProperty("--fill", part > 0 ? `${Math.round(15 + 85 * part)}%` : "0%");
}

// select marks the square of a choice, or none.
export function select(choice) {
  chosen?.element.setAttribute("aria-selected", "false");
  chosen = choice ? squareOf(choice) : null;
  if (!chosen) return;
  chosen.element.setAttribute("aria-selected", "true");
  rove(chosen.element);
}

// squareOf returns the square of a choice, or undefined.
export function squareOf(choice) {
  return rows.get(`${choice.namespace}/${choice.pool}`)?.squares.get(choice.target);
}

// filterBy hides squares and rows that do not have a word, and returns how many match.
export function filterBy(word) {
  let matching = 0;
  for (const row of rows.values()) {
    const rowHas = word === "" || has(word, row.pool.name, row.pool.namespace, row.pool.type, row.pool.word);
    let shown = 0;
    for (const square of row.squares.values()) {
      const { member } = square;
      const matches = rowHas || has(word, member.name, member.endpoint, member.word, member.level);
      if (square.matches !== matches) {
        square.matches = matches;
        square.element.hidden = !matches;
      }
      if (matches) shown++;
    }
    matching += shown;
    row.element.hidden = !rowHas && shown === 0;
    const current = row.list.querySelector("[tabindex='0']");
    if (current?.hidden) rove(row.list.querySelector(".square:not([hidden])"));
  }
  return matching;
}

function has(word, ...texts) {
  return texts.some((text) => text?.toLowerCase().includes(word));
}

// rove makes a square the one of its list that Tab reaches.
function rove(element) {
  if (!element) return;
  element.parentElement.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
  element.setAttribute("tabindex", "0");
}

function focus(element) {
  if (!element) return;
  rove(element);
  element.focus();
}

// moves are the keys that go from one square to another.
const moves = {
  ArrowRight: (all, at) => all[at + 1],
  ArrowLeft: (all, at) => all[at - 1],
  Home: (all) => all[0],
  End: (all) => all.at(-1),
  ArrowDown: (all, at) => below(all, at, 1),
  ArrowUp: (all, at) => below(all, at, -1),
};

// below returns the square in the next line, in the direction 1 or -1, that is
// nearest, also if it is one of another pool.
function below(all, at, direction) {
  const box = all[at].getBoundingClientRect();
  let best = null;
  for (let i = at + direction; i >= 0 && i < all.length; i += direction) {
    const other = all[i].getBoundingClientRect();
    if (Math.abs(other.top - box.top) < 2) continue;
    if (best && Math.abs(other.top - best.top) > 2) break;
    const distance = Math.abs(other.left - box.left);
    if (!best || distance < best.distance) best = { element: all[i], top: other.top, distance };
  }
  return best?.element;
}

// listen calls choose with the target that the user has chosen, and whether the keyboard did.
export function listen(choose) {
  const choiceOf = ({ row, member }) => ({ namespace: row.pool.namespace, pool: row.pool.name, target: member.name });
  body.addEventListener("click", (event) => {
    const { square } = event.target;
    if (!square) return;
    focus(square.element);
    choose(choiceOf(square), false);
  });
  body.addEventListener("keydown", (event) => {
    const { square } = event.target;
    if (!square || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") choose(choiceOf(square), true);
    else if (moves[event.key]) focus(moves[event.key](reachable(event.key, square), indexOf(event.key, square)));
    else return;
    event.preventDefault();
  });
  body.addEventListener("focusin", (event) => event.target.square && showTip(event.target.square));
  body.addEventListener("focusout", hideTip);
  body.addEventListener("pointerover", (event) => (event.target.square ? showTip(event.target.square) : hideTip()));
  section.addEventListener("pointerleave", hideTip);
}

// reachable returns the squares among which a key moves: Home and End stay in their pool.
function reachable(key, square) {
  const root = key === "Home" || key === "End" ? square.row.list : body;
  return [...root.querySelectorAll(".square")].filter((element) => !element.hidden && !element.closest("tr").hidden);
}

function indexOf(key, square) {
  return reachable(key, square).indexOf(square.element);
}

function showTip(square) {
  tip.square = square;
  const { member } = square;
  setText(tip, sentenceOf(member) + (member.rate ? `, ${rate(member.rate)} uses/s` : ""));
  tip.hidden = false;
  const box = square.element.getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8));
  tip.style.setProperty("left", `${left + scrollX}px`);
  tip.style.setProperty("top", `${box.bottom + 6 + scrollY}px`);
}

// hideTip hides the words beside a square, and reports whether there were any.
export function hideTip() {
  const was = !tip.hidden;
  tip.hidden = true;
  tip.square = null;
  return was;
}
