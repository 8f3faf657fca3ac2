// Measures the page with 1,000 targets of which many change every second.
import { change, open, ready, report } from "./browser.mjs";

const seconds = 10;
const { page, context, seen, close } = await open(process.argv[2]);
await ready(page);
const found = { squares: await page.getByRole("option").count() };

found.firstPaint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
found.firstPools = await page.evaluate(() => {
  const first = performance.getEntriesByName("update")[0];
  return first.startTime + first.duration;
});

// The main thread: the processor time of script, style, layout and paint while updates come.
const session = await context.newCDPSession(page);
await session.send("Performance.enable", { timeDomain: "threadTicks" });
const figures = async () => Object.fromEntries((await session.send("Performance.getMetrics")).metrics.map(({ name, value }) => [name, value]));
const updates = () => page.evaluate(() => performance.getEntriesByName("update").length);
const before = { ...(await figures()), updates: await updates(), requests: seen.requests.length, at: performance.now() };
for (let i = 0; i < seconds; i++) {
  change("busy");
  await page.waitForTimeout(1000);
}
const after = { ...(await figures()), updates: await updates(), requests: seen.requests.length, at: performance.now() };
const count = after.updates - before.updates;
found.updates = count;
found.taskMillisPerUpdate = (1000 * (after.TaskDuration - before.TaskDuration)) / count;
found.scriptMillisPerUpdate = (1000 * (after.ScriptDuration - before.ScriptDuration)) / count;
found.styleMillisPerUpdate = (1000 * (after.RecalcStyleDuration - before.RecalcStyleDuration)) / count;
found.layoutMillisPerUpdate = (1000 * (after.LayoutDuration - before.LayoutDuration)) / count;
found.longestUpdateMillis = await page.evaluate(() => Math.max(...performance.getEntriesByName("update").slice(1).map((entry) => entry.duration)));
found.requests = after.requests - before.requests;
found.seconds = (after.at - before.at) / 1000;
found.requestsPerSecond = found.requests / found.seconds;
const starts = await page.evaluate(() => performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/state")).map((entry) => entry.startTime));
found.shortestPauseMillis = Math.min(...starts.slice(1).map((at, i) => at - starts[i]));
found.stateBytes = await page.evaluate(() => fetch("state").then((answer) => answer.text()).then((text) => text.length));

// Every square is reached by the keyboard, and quickly.
await page.getByRole("option").first().focus();
for (let i = 0; i < 30; i++) await page.keyboard.press("ArrowDown");
found.down = await page.evaluate(() => document.activeElement.getAttribute("aria-label").split(",")[0]);
await page.getByLabel("Filter").fill("rack-07");
found.matches = await page.locator("#matches").innerText();
await page.getByLabel("Filter").fill("");

// A page that is not seen asks for nothing. No page of a headless browser is ever
// covered, so the page is told that it is.
await page.evaluate(() => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
  document.dispatchEvent(new Event("visibilitychange"));
});
await page.waitForTimeout(1500); // one request may have been on its way
const hidden = seen.requests.length;
await page.waitForTimeout(3000);
found.requestsWhileHidden = seen.requests.length - hidden;
change("unwatched");
await page.evaluate(() => {
  delete document.hidden;
  document.dispatchEvent(new Event("visibilitychange"));
});
await page.waitForRequest((request) => request.url().includes("/state"));
await close();
report(found);
