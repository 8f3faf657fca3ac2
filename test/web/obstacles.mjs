// Looks for obstacles with axe-core, in light and in dark, in each state of the page.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { change, open, ready, report } from "./browser.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const { page, close } = await open(process.argv[2]);
const found = { checked: 0, violations: [] };
const rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

async function look(where) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.evaluate(axe); // not a script of the page, which its policy would refuse
    const result = await page.evaluate((values) => globalThis.axe.run(document, { runOnly: { type: "tag", values } }), rules);
    found.checked += result.passes.length;
    for (const violation of result.violations) {
      found.violations.push(`${where}, ${colorScheme}: ${violation.id}: ${violation.help}: ${violation.nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
    }
  }
}

await ready(page);
await look("pools");
await page.getByRole("option", { name: "web-07" }).hover();
await page.getByRole("option", { name: "web-03" }).click();
await page.waitForSelector("#detail tbody tr");
await look("a target");
await page.getByRole("button", { name: "web-07" }).click();
await page.waitForSelector("#detail dt");
await look("a failing target");
await page.setViewportSize({ width: 640, height: 800 });
await look("a narrow window");
await page.setViewportSize({ width: 1360, height: 900 });
await page.getByLabel("Filter").fill("nothing like this");
await look("no target matches");
await page.getByLabel("Filter").fill("");
change("deny");
await page.locator("#banner", { hasText: "You may not see sessions" }).waitFor({ timeout: 45_000 });
await page.locator("#banner summary").first().click();
await look("something is denied");
await close();
report(found);
