// Drives Chromium for the tests of the status page: one order a line on standard input (JSON), one answer a line on standard
// output. Ends, and the browser with it, with its standard input.
//
//   node tests/browser/drive.mjs FOLDER-WITH-node_modules CHROMIUM
//
// Orders: open {url} · look {scheme, width, height} · wait {until: expression} · get {value: expression} · axe {} ·
// shot {file} · seen {}: every URL asked for, and what the page complained about.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [folder, executablePath] = process.argv.slice(2);
const require = createRequire(join(folder, 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const PATIENCE = 60_000;

const profile = mkdtempSync(join(tmpdir(), 'holdline-browser-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  timeout: PATIENCE,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const page = context.pages()[0] ?? await context.newPage();
page.setDefaultTimeout(PATIENCE);

const requested = [], complaints = [];
context.on('request', request => requested.push(request.url()));
page.on('console', message => { if (message.type() === 'error') complaints.push(message.text()); });
page.on('pageerror', error => complaints.push(String(error)));

const orders = {
  async open({ url }) { await page.goto(url, { waitUntil: 'domcontentloaded' }); },
  async look({ scheme, width, height }) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height });
  },
  // Not waitForFunction: it evaluates inside the page, whose policy forbids that.
  async wait({ until }) {
    for (const end = Date.now() + PATIENCE; ;) {
      const found = await page.evaluate(until).catch(error => error);
      if (found === true) return;
      if (Date.now() > end) throw new Error(`waited ${PATIENCE} ms in vain: ${found}`);
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  },
  async get({ value }) { return await page.evaluate(value); },
  async axe() {
    await page.evaluate(axe);
    const { violations } = await page.evaluate('axe.run(document)');
    return violations.map(v => `${v.id}: ${v.help}: ${v.nodes.map(n => n.html).slice(0, 3).join(' | ')}`);
  },
  async shot({ file }) { await page.screenshot({ path: file, fullPage: true }); },
  async seen() { return { requested, complaints }; },
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await orders[order.do](order)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
await context.close();
rmSync(profile, { recursive: true, force: true });
