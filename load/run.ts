import { parseArgs } from 'node:util';

import { describeNetwork, enterOwnNetwork } from './processes/own-network.ts';
import { formatTable, saveResults } from './reports/report.ts';
import { writeResultsDocument } from './reports/results-document.ts';
import type { Scenario } from './scenario.ts';
import { beside } from './scenarios/beside.ts';
import { burst } from './scenarios/burst.ts';
import { capacity } from './scenarios/capacity.ts';
import { crash } from './scenarios/crash.ts';
import { indexBuild } from './scenarios/index-build.ts';
import { inflate } from './scenarios/inflate.ts';
import { lazy } from './scenarios/lazy.ts';
import { parallel } from './scenarios/parallel.ts';
import { replicaSoak } from './scenarios/replica-soak.ts';
import { replicas } from './scenarios/replicas.ts';
import { scale } from './scenarios/scale.ts';
import { soak } from './scenarios/soak.ts';
import { span } from './scenarios/span.ts';
import { warm } from './scenarios/warm.ts';
import { parseWire } from './clients/wire.ts';

const SCENARIOS: readonly Scenario[] = [
  burst,
  parallel,
  warm,
  span,
  crash,
  soak,
  lazy,
  inflate,
  indexBuild,
  beside,
  capacity,
  scale,
  replicas,
  replicaSoak,
];

const USAGE = `npm run load -- SCENARIO... [flags]

Flags:
  --clients 1,50,200        numbers of clients
  --cap PEER=CLIENTS        most clients that a peer is measured with; may be repeated
  --without PEER            leave a peer out; may be repeated
  --minutes N               length of a scenario without an end of its own
  --rounds N                repetitions of each measurement
  --wires "http,tls,tls h2" how clients talk to the servers
  --list, --help            print this text

Scenarios:
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    clients: { type: 'string' },
    minutes: { type: 'string' },
    wires: { type: 'string' },
    rounds: { type: 'string' },
    cap: { type: 'string', multiple: true, default: [] },
    without: { type: 'string', multiple: true, default: [] },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const { clients, minutes, wires, rounds } = values;
const caps = new Map([
  ...values.cap.map((cap): [string, number] => [cap.split('=')[0] ?? '', Number(cap.split('=')[1])]),
  ...values.without.map((peer): [string, number] => [peer, 0]),
]);

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

const isQuestion = values.list || values.help;
const chosen = isQuestion ? [] : SCENARIOS.filter(({ name }) => positionals.includes(name));
if (chosen.length === 0) {
  const scenarios = SCENARIOS.map(({ name, question }) => `  ${name.padEnd(10)} ${question}\n`);
  (isQuestion ? process.stdout : process.stderr).write(`${USAGE}${scenarios.join('')}`);
  process.exitCode = isQuestion ? 0 : 2;
}
if (chosen.length > 0) enterOwnNetwork();
for (const scenario of chosen) {
  say(`${scenario.name}, on ${describeNetwork()}`);
  const result = await scenario.run({
    ...(clients === undefined ? {} : { clients: clients.split(',').map(Number) }),
    ...(minutes === undefined ? {} : { minutes: Number(minutes) }),
    ...(rounds === undefined ? {} : { rounds: Number(rounds) }),
    ...(wires === undefined ? {} : { wires: wires.split(',').map(parseWire) }),
    capOf: (peer) => caps.get(peer),
    log: say,
  });
  process.stdout.write(`${formatTable(result.rows)}\n`);
  for (const file of await saveResults(scenario, result)) say(`written: ${file}`);
  say(`written: ${writeResultsDocument()}`);
  if (result.failure === undefined) continue;
  say(`${scenario.name} FAILED: ${result.failure}`);
  process.exitCode = 1;
}
