// Support for the programs beside this file: the real Chromium, alone with one page.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

// open starts Chromium and opens a link in it. It returns the page, the requests that
// the browser has sent, and what the console has said.
export async function open(link, options = {}) {
  const directory = await mkdtemp(join(tmpdir(), "connpool-chromium-"));
  const context = await chromium.launchPersistentContext(directory, {
    executablePath: "/usr/bin/chromium", args: flags, viewport: { width: 1360, height: 900 }, ...options,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const seen = { requests: [], console: [] };
  page.on("request", (request) => seen.requests.push({ at: performance.now(), url: request.url() }));
  page.on("console", (message) => seen.console.push(message.text()));
  page.on("pageerror", (error) => seen.console.push(String(error)));
  await page.goto(link);
  const close = async () => {
    await context.close();
    await rm(directory, { recursive: true, force: true });
  };
  return { page, context, seen, close };
}

// ready waits until all that the cluster has is there.
export async function ready(page) {
  await page.locator("#pulse", { hasText: "live" }).waitFor({ timeout: 90_000 }); // on busy cores
}

// change asks the test to change the cluster.
export function change(name) {
  console.log(`change ${name}`);
}

// report hands the test what was found.
export function report(found) {
  console.log(`report ${JSON.stringify(found)}`);
}
