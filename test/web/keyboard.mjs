// Goes through the page with nothing but the keyboard.
import { open, ready, report } from "./browser.mjs";

const { page, seen, close } = await open(process.argv[2]);
const found = {};
const press = async (...keys) => {
  for (const key of keys) await page.keyboard.press(key);
};
// focused returns the words of what has the focus.
const focused = () => page.evaluate(() => {
  const element = document.activeElement;
  return element.getAttribute("aria-label") ?? element.id ?? element.textContent;
}).then((words) => words.split(",")[0]);
const words = () => page.evaluate(() => document.activeElement.textContent.trim());

await ready(page);
await press("Tab");
found.first = await words();
await press("/");
found.slash = await focused();
await page.keyboard.type("edge");
await page.getByText("24 targets", { exact: true }).waitFor();
await press("Escape");
found.filterAfterEscape = await page.getByLabel("Filter").inputValue();

// One Tab stop for each name in "Needs attention", and one for each pool.
found.stops = [];
for (let i = 0; i < 12; i++) {
  await press("Tab");
  const stop = await page.evaluate(() => {
    const element = document.activeElement;
    return element === document.body ? "" : element.getAttribute("aria-label")?.split(",")[0] ?? element.textContent.trim();
  });
  if (!stop) break;
  found.stops.push(stop);
}

// Arrows move within a pool and on to the next, Home and End within it.
await page.getByRole("option", { name: "build-00" }).focus();
const moves = ["ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "ArrowLeft", "Home", "ArrowDown", "ArrowDown", "ArrowUp"];
found.moves = [];
for (const key of moves) {
  await press(key);
  found.moves.push(`${key} ${await focused()}`);
}
found.outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
found.tip = await page.locator("#tip").innerText();

// Enter shows the target and takes the focus there. Escape brings it back.
await press("Enter");
await page.waitForSelector("#detail tbody tr");
found.entered = await words();
found.scrollables = await page.locator("#detail table").count();
await press("Escape");
found.back = await focused();
found.detailHidden = await page.locator("#detail").isHidden();
await press("Space");
await page.waitForSelector("#detail tbody tr");
found.space = await words();

// At twice the size nothing is cut off to the right.
await page.setViewportSize({ width: 680, height: 450 });
found.overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

found.console = seen.console;
await close();
report(found);
