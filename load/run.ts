import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';

import { describeNetwork, enterOwnNetwork } from './own-network.ts';
import { formatTable, saveResults } from './report.ts';
import type { Scenario } from './scenario.ts';
import { burst } from './scenarios/burst.ts';
import { inflate } from './scenarios/inflate.ts';
import { lazy } from './scenarios/lazy.ts';
import { warm } from './scenarios/warm.ts';

const SCENARIOS: readonly Scenario[] = [burst, warm, lazy, inflate];
const INSTALLER = new URL('../scripts/install-tools.mjs', import.meta.url).pathname;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    clients: { type: 'string', default: '1,50,200' },
    without: { type: 'string', multiple: true, default: [] },
    list: { type: 'boolean', default: false },
  },
});

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

const chosen = SCENARIOS.filter(({ name }) => positionals.includes(name));
if (values.list || chosen.length === 0) {
  say('npm run load -- <scenario> [--clients 1,50,200] [--without <peer>]...');
  for (const { name, question } of SCENARIOS) say(`  ${name.padEnd(10)} ${question}`);
  process.exitCode = values.list ? 0 : 2;
}
for (const { tools = [] } of chosen) {
  const { status } = spawnSync(process.execPath, [INSTALLER, ...tools], { stdio: 'inherit' });
  if (status !== 0) process.exit(1);
}
if (chosen.length > 0) enterOwnNetwork();
for (const scenario of chosen) {
  say(`${scenario.name}, on ${describeNetwork()}`);
  const rows = await scenario.run({
    clients: values.clients.split(',').map(Number),
    isLeftOut: (peer) => values.without.includes(peer),
    log: say,
  });
  process.stdout.write(`${formatTable(rows)}\n`);
  say(`written to ${await saveResults(scenario, rows)}`);
}
