import { randomInt } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { parseWhole, runAsCommand, say } from '../helpers/clients/runner-command.ts';
import { type Action, type History, parseHistory, printHistory } from './history.ts';
import { playHistory, type Played } from './play-history.ts';
import { randomHistory } from './random-history.ts';
import { shrinkList } from './shrink-history.ts';

const USAGE = `npm run histories -- [--seconds S] [--seed X] [--shrink S]
npm run histories -- --replay FILE [--times N]

Plays random histories for 60 seconds by default, from seed X on (by default a random one). The first that fails ends
the run: it is shortened for up to S seconds (300), printed, and written to a file for --replay.`;

const DEFAULT_SECONDS = 60;
const DEFAULT_SHRINK_SECONDS = 300;
const FINDINGS = resolve(import.meta.dirname, '../../data/histories');
/** A failing history need not fail each time: concurrency depends on the machine. */
const TRIES = 2;

/** Concurrent histories: each mostly waits for upstreams that do not respond. */
const LANES = 3;

async function runSeeds(options: { seconds: number; seed: number; shrinkSeconds: number }): Promise<number> {
  const end = performance.now() + 1000 * options.seconds;
  let requests = 0;
  let histories = 0;
  let next = options.seed;
  let failed: { seed: number; history: History; played: Played } | undefined;
  const runLane = async (): Promise<void> => {
    while (performance.now() < end && failed === undefined) {
      const seed = next++;
      const startedAt = performance.now();
      const history = randomHistory(seed);
      const played = await playHistory(history);
      histories++;
      requests += played.requests;
      say(`${describe(seed, history, played)}, ${Math.round(performance.now() - startedAt)} ms`);
      if (played.finding === undefined) continue;
      say(
        `\nseed ${seed}, after ${Math.round((performance.now() - end) / 1000 + options.seconds)} s: ${played.finding}\n`,
      );
      failed ??= { seed, history, played };
    }
  };
  await Promise.all(Array.from({ length: LANES }, runLane));
  if (failed !== undefined) {
    await report(failed, options.shrinkSeconds);
    return 1;
  }
  process.stdout.write(
    `${histories} histories from seed ${options.seed} on, ${requests} requests, no finding\n`,
  );
  return 0;
}

function describe(seed: number, { actions }: History, { requests, bytes, refused }: Played): string {
  const megabytes = (bytes / 1e6).toFixed(1);
  return `seed ${seed}: ${actions.length} actions, ${requests} requests (${refused} refused), ${megabytes} MB`;
}

/** Prints the shortest history that still fails, or all of it if it does not fail again. */
async function report(
  failed: { readonly seed: number; readonly history: History; readonly played: Played },
  seconds: number,
): Promise<void> {
  const { seed, history } = failed;
  const end = performance.now() + 1000 * seconds;
  let last = failed.played;
  const fails = async (actions: readonly Action[]): Promise<boolean> => {
    for (let count = 0; count < TRIES; count++) {
      const played = await playHistory({ ...history, actions });
      if (played.finding === undefined) continue;
      last = played;
      say(`  ${actions.length} actions: ${played.finding.slice(0, 200)}`);
      return true;
    }
    return false;
  };
  const actions = await shrinkList(history.actions, fails, () => performance.now() > end);
  const text = printHistory({ ...history, actions });
  mkdirSync(FINDINGS, { recursive: true });
  const path = join(FINDINGS, `${seed}.jsonl`);
  writeFileSync(path, text);
  writeFileSync(path.replace('.jsonl', '.log'), last.output);
  process.stdout.write(`${last.finding}\n${text}npm run histories -- --replay ${path}\n`);
}

async function replay(path: string, times: number): Promise<number> {
  const history = parseHistory(readFileSync(path, 'utf8'));
  for (let count = 0; count < times; count++) {
    const { finding } = await playHistory(history);
    if (finding === undefined) continue;
    process.stdout.write(`${finding}\n`);
    return 1;
  }
  process.stdout.write('no finding\n');
  return 0;
}

await runAsCommand(USAGE, async () => {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string' },
      seed: { type: 'string' },
      shrink: { type: 'string' },
      replay: { type: 'string' },
      times: { type: 'string' },
    },
  });
  return values.replay === undefined
    ? runSeeds({
        seconds: parseWhole(values.seconds, 'seconds') ?? DEFAULT_SECONDS,
        seed: parseWhole(values.seed, 'seed') ?? randomInt(2 ** 31),
        shrinkSeconds: parseWhole(values.shrink, 'shrink') ?? DEFAULT_SHRINK_SECONDS,
      })
    : replay(values.replay, parseWhole(values.times, 'times') ?? 1);
});
