import { parseArgs } from 'node:util';

import { formatTable, saveResults } from './report.ts';
import type { Scenario } from './scenario.ts';
import { burst } from './scenarios/burst.ts';
import { inflate } from './scenarios/inflate.ts';
import { lazy } from './scenarios/lazy.ts';

const SCENARIOS: readonly Scenario[] = [burst, lazy, inflate];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { clients: { type: 'string', default: '1,50,200' }, list: { type: 'boolean', default: false } },
});

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

const chosen = SCENARIOS.filter(({ name }) => positionals.includes(name));
if (values.list || chosen.length === 0) {
  say('npm run load -- <scenario> [--clients 1,50,200]');
  for (const { name, question } of SCENARIOS) say(`  ${name.padEnd(10)} ${question}`);
  process.exitCode = values.list ? 0 : 2;
}
for (const scenario of chosen) {
  const rows = await scenario.run({ clients: values.clients.split(',').map(Number), log: say });
  process.stdout.write(`${formatTable(rows)}\n`);
  say(`written to ${await saveResults(scenario, rows)}`);
}
