// node custom-resources.mjs MODELS RESOURCES.json: checks each resource against the types of the Prometheus operator.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [models, file] = process.argv.slice(2);
const v1 = join(models, 'monitoring.coreos.com', 'v1');
for (const resource of JSON.parse(readFileSync(file, 'utf8'))) {
  const types = await import(pathToFileURL(join(v1, `${resource.kind}.js`)));
  new types[resource.kind](resource).validate();
}
