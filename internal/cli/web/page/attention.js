// What needs attention: failing targets with their sentence, and the next step in it.
import { keyed, make, setText } from "./dom.js";
import { ago, count, needsAttention, poolName } from "./words.js";

const mostGroups = 12;
const mostNames = 6;

const section = document.getElementById("attention");
const list = section.querySelector("ul");
const more = section.querySelector(".more");
const known = new Map();

// showAttention shows each failure once, with all targets that have it.
export function showAttention(pools, choose) {
  const groups = groupsOf(pools);
  section.hidden = groups.length === 0;
  keyed(list, known, groups.slice(0, mostGroups), (group) => group.key, build, (kept, group) => update(kept, group, choose));
  const hidden = groups.slice(mostGroups).reduce((sum, group) => sum + group.members.length, 0);
  setText(more, hidden ? `And ${count(hidden, "more target")} for other reasons: the squares with a mark.` : "");
}

// groupsOf puts targets together that fail in the same pool for the same reason.
function groupsOf(pools) {
  const groups = new Map();
  for (const pool of pools) {
    if (needsAttention(pool.level) && !pool.members.some((member) => needsAttention(member.level))) {
      const key = JSON.stringify([pool.namespace, pool.name]);
      groups.set(key, { key, pool, level: pool.level, word: pool.word, message: pool.message, since: pool.since, members: [] });
    }
    for (const member of pool.members) {
      if (!needsAttention(member.level)) continue;
      const key = JSON.stringify([pool.namespace, pool.name, member.level, member.word, member.message]);
      const group = groups.get(key) ?? { key, pool, level: member.level, word: member.word, message: member.message, since: member.since, members: [] };
      group.members.push(member);
      group.since = Math.min(group.since ?? Infinity, member.since ?? Infinity);
      groups.set(key, group);
    }
  }
  const urgent = (group) => (group.level === "failing" ? 0 : 1);
  return [...groups.values()].sort((a, b) => urgent(a) - urgent(b) || b.members.length - a.members.length);
}

function build(group) {
  const head = make("p", { class: "what" });
  const names = make("span", { class: "names" });
  const word = make("strong", { class: "word", "data-level": group.level });
  const since = make("span", { class: "since" });
  head.append(make("span", { class: "square", "data-level": group.level, "aria-hidden": "true" }), names, word, since);
  const message = make("p", { class: "sentence" });
  return { element: make("li", {}, head, message), names, word, since, message, buttons: new Map(), shown: "" };
}

function update(kept, group, choose) {
  setText(kept.word, group.word);
  setText(kept.since, group.since && group.since !== Infinity ? `for ${ago(group.since)}` : "");
  setText(kept.message, group.message ?? "");
  const shown = JSON.stringify(group.members.map((member) => member.name));
  if (kept.shown === shown && kept.names.firstChild) return;
  kept.shown = shown;
  const items = group.members.slice(0, mostNames).map((member) => ({ name: member.name, member }));
  const rest = group.members.length - items.length;
  const tail = rest ? ` and ${count(rest, "more", "more")}` : "";
  items.push({ name: "", text: group.members.length ? `${tail} in ${poolName(group.pool)}` : poolName(group.pool) });
  keyed(kept.names, kept.buttons, items, (item) => item.name, (item) => ({ element: item.member ? buttonOf(group.pool, item.member, choose) : make("span") }),
    (button, item) => setText(button.element, item.text ?? item.name));
}

function buttonOf(pool, member, choose) {
  const button = make("button", { type: "button", class: "name" });
  button.addEventListener("click", () => choose({ namespace: pool.namespace, pool: pool.name, target: member.name }));
  return button;
}
