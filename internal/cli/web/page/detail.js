// One target in detail: its sentence, its connections and who uses them.
import { drawLine, keyed, make, setAttribute, setText, sparkline } from "./dom.js";
import { fill } from "./pools.js";
import { ago, clock, micros, poolName, rate } from "./words.js";

const aside = document.getElementById("detail");
let shown = null; // the parts of what is shown, and of which target

const idOf = (choice) => JSON.stringify([choice.namespace, choice.pool, choice.target]);

// showDetail shows the chosen target: what its square knows, and what the last answer
// of the server adds, if that is already about this target.
export function showDetail(choice, pool, member, answer, scope, close) {
  aside.hidden = !choice;
  document.body.toggleAttribute("data-detail", Boolean(choice));
  if (!choice) {
    shown = null;
    aside.replaceChildren();
    return;
  }
  if (shown?.id !== idOf(choice)) shown = build(choice, close);
  update(shown, choice, pool, member, answer && idOf(answer) === shown.id ? answer : null, scope);
}

// focusDetail moves the focus to what is shown.
export function focusDetail() {
  shown?.title.focus();
}

function build(choice, close) {
  const part = { id: idOf(choice), connections: new Map(), uses: new Map(), ended: new Map(), conditions: new Map() };
  part.title = make("h2", { id: "detail-title", tabindex: "-1" }, choice.target);
  const closing = make("button", { type: "button", class: "close", "aria-label": "Close the details" }, "×");
  closing.addEventListener("click", close);
  part.place = make("p", { class: "place" });
  part.mark = make("span", { class: "square", "aria-hidden": "true" });
  part.word = make("strong", { class: "word" });
  part.since = make("span", { class: "since" });
  part.message = make("p", { class: "sentence" });
  part.figures = make("p", { class: "figures" });
  const connections = tableOf("Connections", ["State", "Uses now", "Uses", "Age", "Idle", "Round trip"], [1, 2, 3, 4, 5]);
  const uses = tableOf("In use now", ["Who", "What", "For"], [2]);
  const ended = tableOf("Lately", ["Who", "What", "End", "Ago"], [3]);
  Object.assign(part, { table: connections, useTable: uses, endedTable: ended });
  part.list = make("dl");
  part.conditionPart = make("section", {}, make("h3", {}, "Conditions"), part.list);
  part.commands = make("p", { class: "commands" });
  aside.replaceChildren(
    make("div", { class: "head" }, part.title, closing), part.place,
    make("p", { class: "what" }, part.mark, part.word, part.since), part.message, part.figures,
    connections.element, uses.element, ended.element, part.conditionPart, part.commands);
  return part;
}

// tableOf returns a table with a caption, and a sentence in the place of no rows.
function tableOf(title, columns, numbers) {
  const rows = make("tbody");
  const heads = columns.map((column, i) => make("th", { scope: "col", class: numbers.includes(i) ? "number" : null }, column));
  const table = make("table", {}, make("caption", {}, title), make("thead", {}, make("tr", {}, ...heads)), rows);
  const none = make("p", { class: "none" });
  return { element: make("section", {}, table, none), table, rows, none, columns };
}

function update(part, choice, pool, member, answer, scope) {
  const words = [pool ? `pool ${poolName(pool)}` : `pool ${choice.pool}`, choice.namespace, member?.endpoint, answer?.server];
  setText(part.place, words.filter(Boolean).join(" · "));
  setAttribute(part.mark, "data-level", member?.level ?? "unknown");
  fill(part.mark, member);
  setAttribute(part.word, "data-level", member?.level ?? "unknown");
  setText(part.word, member?.word ?? "Gone");
  setText(part.since, member?.since ? `for ${ago(member.since)}` : "");
  setText(part.message, member ? member.message ?? "" : "There is no such target in this pool any more, or you may not see it.");
  setText(part.figures, figuresOf(member));
  updateConnections(part, answer);
  updateUses(part, answer);
  updateConditions(part, member, answer);
  setText(part.commands, `${scope.program} check ${choice.target} -n ${choice.namespace}`);
}

function figuresOf(member) {
  if (!member?.slots) return "";
  return `${member.warm} warm, ${member.running ?? 0} of ${member.slots} slots in use, ${rate(member.rate ?? 0)} uses/s`;
}

function fillTable(table, known, items, keyOf, cells) {
  table.table.hidden = items.length === 0;
  keyed(table.rows, known, items, keyOf,
    () => {
      const columns = table.columns.map((_, i) => make("td", { class: table.table.tHead.rows[0].cells[i].className || null }));
      return { element: make("tr", {}, ...columns), columns };
    },
    (row, item) => cells(row, item));
}

function updateConnections(part, answer) {
  setText(part.table.none, answer ? (answer.connections.length ? "" : "No connections.") : "Asking…");
  fillTable(part.table, part.connections, answer?.connections ?? [], (connection) => connection.name, (row, connection) => {
    const [state, running, uses, age, idle, trip] = row.columns;
    setText(state, connection.state === "InUse" ? "in use" : connection.state.toLowerCase());
    setAttribute(row.element, "title", [connection.name, connection.address].filter(Boolean).join(" · "));
    setText(uses, connection.uses.toLocaleString("en"));
    setText(running, String(connection.running));
    setText(age, ago(connection.made));
    setText(idle, connection.state === "Idle" ? ago(connection.used || connection.made) : "–");
    drawTrips(row, trip, connection.roundTrips);
  });
}

function drawTrips(row, cell, trips) {
  if (!row.line) {
    row.line = sparkline();
    row.trip = make("span");
    row.about = make("span", { class: "unseen" });
    cell.append(row.line, row.trip, row.about);
  }
  drawLine(row.line, trips);
  setText(row.trip, micros(trips.at(-1)));
  setText(row.about, trips.length > 1 ? `; between ${micros(Math.min(...trips))} and ${micros(Math.max(...trips))} in the last ${trips.length}` : "");
}

function updateUses(part, answer) {
  setText(part.useTable.none, noUses(answer));
  fillTable(part.useTable, part.uses, answer?.running ?? [], (use) => use.id, (row, use) => {
    const [who, what, since] = row.columns;
    setText(who, use.user);
    setText(what, use.what);
    setText(since, ago(use.since));
    setAttribute(since, "title", `since ${clock(use.since)}`);
  });
  const ended = answer?.ended ?? [];
  part.endedTable.element.hidden = ended.length === 0;
  fillTable(part.endedTable, part.ended, ended, (use) => use.id, (row, use) => {
    const [who, what, result, until] = row.columns;
    setText(who, use.user);
    setText(what, use.what);
    setText(result, use.result ?? "");
    setText(until, ago(use.until || use.since));
    setAttribute(until, "title", `at ${clock(use.until || use.since)}`);
  });
}

// noUses says why the table of uses that run is empty, or is not whole.
function noUses(answer) {
  if (!answer) return "";
  if (answer.noUses) return `Only sessions are shown: ${answer.noUses}`;
  return answer.running.length ? "" : "Nothing runs on it now.";
}

// updateConditions shows what the conditions of a target that is not simply ready say
// beside its sentence.
function updateConditions(part, member, answer) {
  const all = member?.level === "ready" ? [] : answer?.conditions ?? [];
  const conditions = all.filter((condition) => condition.type !== "Ready" && condition.message !== member?.message);
  part.conditionPart.hidden = conditions.length === 0;
  keyed(part.list, part.conditions, conditions, (condition) => condition.type,
    () => {
      const [term, text] = [make("dt"), make("dd")];
      return { element: make("div", {}, term, text), term, text };
    },
    (kept, condition) => {
      setText(kept.term, `${condition.type}=${condition.status} for ${ago(condition.since)}`);
      setText(kept.text, `${condition.reason}. ${condition.message}`);
    });
}
