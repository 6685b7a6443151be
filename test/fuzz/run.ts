import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';

import { parseWhole, runAsCommand, say, UsageError } from '../helpers/clients/runner-command.ts';
import { FINDINGS, FuzzRunner, printFinding } from './fuzz-runner.ts';
import { FuzzTally } from './fuzz-tally.ts';
import type { FuzzTarget } from './target.ts';
import { ALL_TARGETS } from './targets/all-targets.ts';

const USAGE = `npm run fuzz -- [--seconds S | --cases N] [--seed X] [--target T]... [--corpus small|large]
npm run fuzz -- --target T --seed X --case K [--corpus small|large]

Runs for 60 seconds by default; Ctrl-C ends it early. Targets:
${ALL_TARGETS.map(({ name, claim }) => `  ${name.padEnd(16)} ${claim}`).join('\n')}`;

const DEFAULT_SECONDS = 60;
/**
 * Cases per turn of a target: few, so that progress is visible and memory is measured; fewer for slow
 * targets.
 */
function batchCases({ testCases }: FuzzTarget): number {
  return Math.max(60, Math.min(200, Math.ceil(testCases / 20)));
}

function readArguments(): {
  seed: number;
  only: number | undefined;
  targets: readonly FuzzTarget[];
  maxCases: number;
  maxMs: number;
  corpus: 'small' | 'large';
} {
  const { values } = parseArgs({
    options: {
      cases: { type: 'string' },
      seconds: { type: 'string' },
      seed: { type: 'string' },
      target: { type: 'string', multiple: true, default: [] },
      case: { type: 'string' },
      corpus: { type: 'string', default: 'large' },
    },
  });
  const { target: names, corpus } = values;
  const unknown = names.filter((name) => !ALL_TARGETS.some((target) => target.name === name));
  if (unknown.length > 0) throw new UsageError(`no such target: ${unknown.join(', ')}`);
  if (corpus !== 'small' && corpus !== 'large') throw new UsageError(`no such corpus: ${corpus}`);
  const only = parseWhole(values.case, 'case');
  if (only !== undefined && (names.length !== 1 || values.seed === undefined))
    throw new UsageError('--case needs --seed and one --target');
  const cases = parseWhole(values.cases, 'cases');
  const seconds =
    parseWhole(values.seconds, 'seconds') ?? (cases === undefined ? DEFAULT_SECONDS : undefined);
  return {
    seed: parseWhole(values.seed, 'seed') ?? randomInt(2 ** 32),
    only,
    targets: ALL_TARGETS.filter(({ name }) => names.length === 0 || names.includes(name)),
    maxCases: cases ?? Number.POSITIVE_INFINITY,
    maxMs: seconds === undefined ? Number.POSITIVE_INFINITY : 1000 * seconds,
    corpus,
  };
}

async function runAll(options: ReturnType<typeof readArguments>): Promise<number> {
  const { seed, targets, maxCases, maxMs, corpus } = options;
  await using runner = new FuzzRunner({ corpus, findings: FINDINGS });
  const tally = new FuzzTally(targets, maxCases);
  let isStopped = false;
  process.once('SIGINT', () => (isStopped = true));
  say(`seed ${seed}, corpus ${corpus}`);
  const isOver = (): boolean => isStopped || tally.cases >= maxCases || tally.elapsedMs >= maxMs;
  while (!isOver()) {
    for (const target of targets) {
      if (isOver()) break;
      const from = tally.nextCase(target.name);
      const count = Math.min(batchCases(target), maxCases - tally.cases);
      const batch = await runner.run({ target: target.name, seed, from, to: from + count });
      tally.add(target.name, batch);
      for (const finding of batch.findings) say(`\n${printFinding(finding)}`);
      tally.showProgress(target.name);
    }
  }
  process.stdout.write(tally.summary(seed));
  return tally.failures === 0 ? 0 : 1;
}

async function runOne(options: ReturnType<typeof readArguments>, only: number): Promise<number> {
  const { seed, targets, corpus } = options;
  await using runner = new FuzzRunner({ corpus, findings: FINDINGS });
  const target = targets[0]?.name ?? '';
  const { findings, outcomes } = await runner.run({ target, seed, from: only, to: only + 1 });
  for (const finding of findings) process.stdout.write(`${printFinding(finding)}\n`);
  if (findings.length === 0)
    process.stdout.write(`${target}, case ${only}: ${[...outcomes.keys()].join()}\n`);
  return findings.length === 0 ? 0 : 1;
}

await runAsCommand(USAGE, async () => {
  const options = readArguments();
  return options.only === undefined ? runAll(options) : runOne(options, options.only);
});
