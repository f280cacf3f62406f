// Drives a browser as it is told: a command a line in JSON on standard input, an answer a line on standard output.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, executablePath] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const pages = new Map();

async function feed(page, instead) {
  for (const [path, [contentType, body]] of Object.entries(instead)) {
    await page.route((where) => where.pathname === path, (route) => route.fulfill({ contentType, body }));
  }
}

const commands = {
  // A window of its own, with nothing in its cache. `instead` has what is answered to some paths: its type, its body.
  // `first` is run before the page's own script.
  async open({ page: name, url, width, height, scheme, script, instead, first }) {
    const context = await browser.newContext({
      viewport: { width, height },
      colorScheme: scheme,
      javaScriptEnabled: script,
      reducedMotion: "reduce",
    });
    const page = await context.newPage();
    const said = [];
    const asked = new Set();
    page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => said.push(`error: ${error.stack}`));
    page.on("dialog", (dialog) => (said.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
    page.on("request", (request) => asked.add(new URL(request.url()).origin));
    await feed(page, instead);
    await page.addInitScript(first);
    pages.set(name, { context, page, said, asked });
    await page.goto(url, { waitUntil: "load" });
  },
  async evaluate({ page, expression }) {
    return (await pages.get(page).page.evaluate(expression)) ?? null;
  },
  async wait({ page, expression, patience }) {
    const deadline = Date.now() + patience * 1000;
    while (!(await pages.get(page).page.evaluate(expression))) {
      if (Date.now() > deadline) throw new Error(`waited ${patience} s for ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
  async change({ page, instead }) {
    await feed(pages.get(page).page, instead);
  },
  async press({ page, key }) {
    await pages.get(page).page.keyboard.press(key);
  },
  async audit({ page }) {
    await pages.get(page).page.evaluate(axe);
    const { violations } = await pages.get(page).page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
    return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]);
  },
  async heap({ page }) {
    const { context, page: target } = pages.get(page);
    const session = await context.newCDPSession(target);
    await session.send("HeapProfiler.collectGarbage");
    const { usedSize } = await session.send("Runtime.getHeapUsage");
    const { nodes, jsEventListeners } = await session.send("Memory.getDOMCounters");
    await session.detach();
    return { bytes: usedSize, nodes, listeners: jsEventListeners };
  },
  async screenshot({ page, path, full }) {
    await pages.get(page).page.screenshot({ path, fullPage: full, animations: "disabled" });
  },
  async said({ page }) {
    return pages.get(page).said;
  },
  async asked({ page }) {
    return [...pages.get(page).asked];
  },
  async close({ page }) {
    await pages.get(page).context.close();
    pages.delete(page);
  },
};

console.log(JSON.stringify({ version: browser.version() }));
for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...words } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ found: (await commands[command](words)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error}` }));
  }
}
await browser.close();
