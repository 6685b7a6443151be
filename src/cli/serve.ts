import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';

import { createApp } from '../app.ts';
import { type Config, environmentName } from '../config/config-keys.ts';
import { createLogger, type Logger } from '../telemetry/logger.ts';
import { openTracer } from '../telemetry/open-tracer.ts';
import type { CommandHelp, Flags } from './terminal/command-help.ts';
import { ConfigReload } from './config/config-reload.ts';
import { fileReader, readConfig, type ReadConfig, readGivenConfig } from './config/read-config.ts';
import { DEMO_IMAGE, printFirstScreen, readyMessage } from './terminal/print-first-screen.ts';
import { printLogLine } from './terminal/print-log-line.ts';
import { stopSignal } from './terminal/stop-signal.ts';
import { warnOfOpenFiles } from './terminal/warn-of-open-files.ts';

/**
 * Decompressed spans and buffers are outside V8's heap. By default V8 runs a full collection after about
 * every ten MB of them. With this flag it collects when they have grown in proportion to what is in use, by
 * at most three tenths since V8 14 (Node 26). This saves a third of the CPU of each read that decompresses.
 */
const V8_FLAGS = '--external-memory-accounted-in-global-limit';
const OWNER_ONLY = 0o077;
/** EX_SOFTWARE of sysexits.h. */
const DEFECT_STATUS = 70;

const FLAGS = {
  config: {
    type: 'string',
    value: 'FILE',
    about: 'configuration file (default: config/spandrel.yaml, which may be missing)',
  },
} satisfies Flags;

export const SERVE_HELP: CommandHelp = {
  usage: ['serve [--config FILE]'],
  about: [
    'Runs the proxy until SIGTERM or SIGINT. SIGHUP, or a changed file, makes it read the configuration ' +
      'again.',
    'Environment variables override the file: storage.maxBytes is SPANDREL_STORAGE_MAX_BYTES; lists are ' +
      'JSON.',
    'Without upstreams it serves an embedded demo registry: image demo/app:latest.',
  ],
  flags: FLAGS,
};

/** `spandrel serve`: runs the proxy until it is stopped. */
export async function serve(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: FLAGS });
  setFlagsFromString(V8_FLAGS);
  // Images may be private, so the store is private. Only the umask sets the modes of SQLite's files.
  process.umask(OWNER_ONLY);
  const stopped = stopSignal();
  const read = (): Promise<ReadConfig> => readConfig({ file: values.config, environment: process.env });
  const first = await readGivenConfig({ file: values.config, environment: process.env });
  const given = first.config;
  const isText = isTextLog(given);
  const logger = isText
    ? createLogger(given.log.level, process.stdout, (line) => printLogLine(line, process.stdout))
    : createLogger(given.log.level);
  // If Node's diagnostic reports are enabled, they must not contain the environment, which may have
  // passwords.
  process.report.excludeEnv = true;
  await using stack = new AsyncDisposableStack();
  const isDemo = hasNoUpstreams(given);
  const config = isDemo
    ? stack.use(await (await import('./embedded-demo.ts')).startEmbeddedDemo(given)).config
    : given;
  endOnDefects(logger);
  await warnOfOpenFiles(first, logger);
  const tracer = stack.use(await openTracer(process.env, logger));
  const app = stack.use(
    await createApp(config, logger, {
      pid: process.pid,
      tracer,
      environment: process.env,
      readFile: fileReader(first),
    }),
  );
  const complete = (next: Config): Config =>
    isDemo && hasNoUpstreams(next) ? { ...next, upstreams: config.upstreams } : next;
  stack.use(new ConfigReload({ app, read, complete }, first));
  const { registryUrl, adminUrl } = await app.listen();
  logger.debug({ config }, 'configuration');
  const screen = {
    registryUrl,
    adminUrl,
    configFile: first.file,
    isFromFile: process.env[environmentName('upstreams')] === undefined,
    upstreams: isDemo ? [] : (config.upstreams ?? []),
  };
  if (isText) process.stdout.write(printFirstScreen(screen));
  else {
    // Whoever starts the proxy waits for this line, whatever the level of the log is.
    logger.child({}, { level: 'info' }).info(readyMessage(screen));
    if (isDemo) logger.info({ image: DEMO_IMAGE }, 'no upstreams configured, serving the demo image');
  }
  logger.info({ signal: await stopped }, 'stopping');
  await app.drain();
  return 0;
}

/** Whether a person reads the log. */
function isTextLog({ log: { format } }: Config): boolean {
  return format === 'auto' ? process.stdout.isTTY : format === 'text';
}

function hasNoUpstreams({ upstreams = [] }: Config): boolean {
  return upstreams.length === 0;
}

/**
 * After an uncaught error the state of the process is unknown: log it and exit. The next start finds a
 * consistent store.
 */
function endOnDefects(logger: Logger): void {
  process.on('uncaughtException', (error, origin) => {
    logger.fatal({ err: error, origin }, 'a defect: the process ends');
    process.exit(DEFECT_STATUS);
  });
}
