// A demo registry in a process of its own: `node serve-registry.ts '{"latencyMs":5,"image":{"seed":"1"}}'`
// prints one line, `{"url","controlUrl"}`, when it is ready, and runs until it is killed.
import { writeSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { type RegistryServiceOptions, startRegistryService } from './registry-service.ts';

const STANDARD_OUTPUT = 1;

const { positionals } = parseArgs({ allowPositionals: true });
const { url, controlUrl } = await startRegistryService(
  JSON.parse(positionals[0] ?? '{}') as RegistryServiceOptions,
);
writeSync(STANDARD_OUTPUT, `${JSON.stringify({ url, controlUrl })}\n`);
