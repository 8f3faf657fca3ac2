// Goes through the page with the mouse, while the cluster changes.
import { change, open, ready, report } from "./browser.mjs";

const { page, seen, close } = await open(process.argv[2]);
const found = { steps: [] };
const step = (name) => found.steps.push(name);
const text = (selector) => page.locator(selector).innerText();

await ready(page);
found.title = await page.title();
found.attention = await page.locator("#attention li").allInnerTexts();
found.rows = await page.locator("#pools tbody th .name").allInnerTexts();
found.squares = await page.getByRole("option").count();
found.levels = await page.locator("#pools .square").evaluateAll((all) => {
  const levels = {};
  for (const square of all) levels[square.dataset.level] = (levels[square.dataset.level] ?? 0) + 1;
  return levels;
});

// A square shows its words beside it, and its target when it is clicked.
await page.getByRole("option", { name: "web-03" }).hover();
found.tip = await text("#tip");
await page.getByRole("option", { name: "web-03" }).click();
await page.waitForSelector("#detail tbody tr");
found.detail = await page.locator("#detail table").first().locator("tbody tr").allInnerTexts();
found.hash = new URL(page.url()).hash;
await page.locator("#detail").getByText("alice").waitFor();
found.selected = await page.getByRole("option", { selected: true }).getAttribute("aria-label");
step("shows a target");

// A name in "Needs attention" leads to the same.
await page.getByRole("button", { name: "web-07" }).click();
await page.locator("#detail h2", { hasText: "web-07" }).waitFor();
await page.locator("#detail dt", { hasText: "Reachable=False" }).waitFor();
found.sentence = await text("#detail .sentence");
step("shows a failing target");

// The address leads back to the target, also in a page that is loaded anew.
await page.reload();
await page.locator("#detail h2", { hasText: "web-07" }).waitFor();
step("keeps the target in the address");

await page.getByRole("button", { name: "Close the details" }).click();
await page.locator("#detail").waitFor({ state: "hidden" });
step("closes it");

// Filter.
await page.getByLabel("Filter").fill("unreach");
await page.getByText("2 targets", { exact: true }).waitFor();
found.filtered = await page.locator("#pools .square:visible").evaluateAll((all) => all.map((square) => square.getAttribute("aria-label").split(",")[0]));
await page.getByLabel("Filter").fill("");
step("filters");

// What changes in the cluster is seen, and screen readers are told.
change("recover");
await page.locator("#announce", { hasText: "web-07 in web is ready again." }).waitFor();
step("sees a recovery");
change("fail");
await page.locator("#announce", { hasText: "build-02 in build is failing: HostKeyMismatch." }).waitFor();
found.hostile = await page.locator("#attention li", { hasText: "HostKeyMismatch" }).locator(".sentence").innerText();
found.injected = await page.evaluate(() => [globalThis.injected ?? null, document.querySelectorAll("main img, main script").length]);
step("sees a failure");

// The cluster refuses, and is back.
change("expire");
await page.locator("#banner", { hasText: "No news of connections, sessions" }).waitFor();
await page.locator("#pulse", { hasText: "stale" }).waitFor();
found.hint = await text("#banner");
change("renew");
await page.locator("#pulse", { hasText: "live" }).waitFor();
found.banner = await text("#banner");
step("says what is stale, and when it is not");

// The command ends.
change("stop");
await page.locator("#banner", { hasText: "does not answer" }).waitFor();
step("says that the command has ended");

found.foreign = seen.requests.map((request) => request.url).filter((url) => !url.startsWith(new URL(page.url()).origin));
found.console = seen.console.filter((line) => !line.includes("ERR_CONNECTION_REFUSED"));
await close();
report(found);
