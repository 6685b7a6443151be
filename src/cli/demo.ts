import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';

import { createApp } from '../app.ts';
import { parseConfig } from '../config/parse-config.ts';
import { createLogger } from '../telemetry/logger.ts';
import { EXIT } from './terminal/exit-status.ts';
import { DEMO_IMAGE } from './terminal/print-first-screen.ts';
import { printJson } from './terminal/print-json.ts';
import type { CommandHelp, Flags } from './terminal/command-help.ts';
import { LazyReadTour } from './lazy-read-tour.ts';
import { startEmbeddedDemo } from './embedded-demo.ts';
import { stopSignal } from './terminal/stop-signal.ts';

const FLAGS = {
  json: {
    type: 'boolean',
    default: false,
    about: 'print one JSON object with sizes and times instead of the tour',
  },
} satisfies Flags;

export const DEMO_HELP: CommandHelp = {
  usage: ['demo [--json]'],
  about: [
    'Starts a registry with a generated image and the proxy in front of it, and reads a file lazily.',
    'Explains each step: how long it takes, and how many bytes the registry sends. On a terminal the proxy ' +
      'then runs until Ctrl+C. Leaves no files.',
  ],
  flags: FLAGS,
};

/** `spandrel demo`: starts a registry and the proxy, and explains a lazy read step by step. */
export async function demo(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: FLAGS });
  const isWatched = process.stdout.isTTY && !values.json;
  const say = values.json ? () => undefined : (line: string) => void process.stdout.write(`${line}\n`);

  await using stack = new AsyncDisposableStack();
  const stopped = isWatched ? stopSignal() : undefined;
  const root = await mkdtemp(join(tmpdir(), 'spandrel-demo-'));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const environment = {
    SPANDREL_LISTEN_PORT: '0',
    SPANDREL_ADMIN_PORT: '0',
    SPANDREL_STORAGE_ROOT: root,
    SPANDREL_LOG_LEVEL: 'error',
  };
  say('Generates an image, and starts a registry with it and the proxy in front of it.');
  const { config, registry, image } = stack.use(
    await startEmbeddedDemo(parseConfig({ yaml: '', environment })),
  );
  const app = stack.use(await createApp(config, createLogger(config.log.level)));
  const { registryUrl } = await app.listen();
  const summary = await new LazyReadTour({ registryUrl, registry, image, say }).run();
  if (values.json) printJson(summary);
  if (stopped === undefined) return EXIT.ok;
  const { path } = image.files.middle;
  const proxy = ` --proxy ${registryUrl}`;
  say(
    `\nThe proxy runs at ${registryUrl} until you press Ctrl+C. Try in another terminal, in this folder:\n`,
  );
  say(`  npx spandrel ls ${DEMO_IMAGE} /${dirname(path)}${proxy}`);
  say(`  npx spandrel cat ${DEMO_IMAGE} /${path} --range 0-99${proxy}`);
  say(`  npx spandrel doctor ${DEMO_IMAGE} --no-node${proxy}`);
  await stopped;
  return EXIT.ok;
}
