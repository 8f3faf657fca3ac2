// Elements. Text is set as text and never parsed: most of it are words of servers.

// make returns an element with attributes and children. Children are nodes or text.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// setText changes the text of an element, if it is another one.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// setAttribute changes an attribute, if it is another one.
export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// keyed gives parent one child for each item, and keeps the children of items that
// were there before, so that focus and selection stay. known is a Map that belongs to
// the parent; make builds what is kept for an item and has an element; update fills it.
export function keyed(parent, known, items, keyOf, build, update) {
  const present = new Set();
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    present.add(key);
    let kept = known.get(key);
    if (!kept) {
      kept = build(item);
      known.set(key, kept);
    }
    update(kept, item);
    if (kept.element === next) next = next.nextElementSibling;
    else parent.insertBefore(kept.element, next);
  }
  for (const [key, kept] of known) {
    if (present.has(key)) continue;
    kept.element.remove();
    known.delete(key);
  }
}

const svg = "http://www.w3.org/2000/svg";

// sparkline returns an empty line, drawn by drawLine.
export function sparkline() {
  const picture = document.createElementNS(svg, "svg");
  picture.setAttribute("class", "spark");
  picture.setAttribute("viewBox", "0 0 80 20");
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("aria-hidden", "true");
  picture.append(document.createElementNS(svg, "polyline"));
  return picture;
}

// drawLine draws values from left to right, 0 at the bottom. One value is a flat line.
export function drawLine(picture, values, room = values.length) {
  const most = Math.max(...values, 0);
  const wide = 80 / Math.max(room - 1, 1);
  const start = 80 - wide * Math.max(values.length - 1, 0);
  const high = (value) => (18.5 - (most > 0 ? (17 * value) / most : 0)).toFixed(1);
  const points = values.map((value, i) => `${(start + i * wide).toFixed(1)},${high(value)}`);
  if (values.length === 1) points.unshift(`0,${high(values[0])}`);
  setAttribute(picture.firstElementChild, "points", points.join(" "));
}
