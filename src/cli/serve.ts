import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';

import { createApp } from '../app.ts';
import { parseConfig } from '../config/parse-config.ts';
import type { Config } from '../config/schema.ts';
import { SpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { createLogger, type Logger } from '../telemetry/logger.ts';
import { openTracer } from '../telemetry/open-tracer.ts';
import { ConfigReload } from './config-reload.ts';
import { warnOfOpenFiles } from './secret-files.ts';

/**
 * Decompressed spans and buffers lie outside V8's heap. By default V8 collects all of it whenever some ten MB of them have come up; with this,
 * when they have grown in proportion to what is in use, by at most three tenths since V8 14 (Node 26). A third less CPU for each read that
 * decompresses.
 */
const V8_FLAGS = '--external-memory-accounted-in-global-limit';
const DEFAULT_FILE = 'config/spandrel.yaml';
/** EX_SOFTWARE of sysexits.h. */
const DEFECT_STATUS = 70;

/** `spandrel serve`: run the proxy until it is told to stop. */
export async function serve(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { config: { type: 'string' } } });
  setFlagsFromString(V8_FLAGS);
  const stopped = stopSignal();
  const given = await readConfig(values.config);
  const logger = createLogger(given.log.level);
  // Node's own reports, for whoever turns them on: the environment may have passwords.
  process.report.excludeEnv = true;
  await using stack = new AsyncDisposableStack();
  const isDemo = given.upstreams === undefined || given.upstreams.length === 0;
  const config = isDemo
    ? stack.use(await (await import('./embedded-demo.ts')).startEmbeddedDemo(given)).config
    : given;
  endOnDefects(logger);
  await warnOfOpenFiles(given, values.config ?? DEFAULT_FILE, logger);
  const tracer = stack.use(await openTracer(process.env, logger));
  const app = stack.use(await createApp(config, logger, { tracer, environment: process.env }));
  const read = async (): Promise<Config> => ({
    ...(await readConfig(values.config)),
    ...(isDemo ? { upstreams: config.upstreams } : {}),
  });
  stack.use(new ConfigReload({ app, logger, file: values.config ?? DEFAULT_FILE, read }, config));
  const { registryUrl, adminUrl } = await app.listen();
  logger.info({ config }, 'started');
  process.stderr.write(`spandrel: registry and span API at ${registryUrl}, operations at ${adminUrl}\n`);
  if (isDemo)
    process.stderr.write('spandrel: no upstreams configured, serving the demo image demo/app:latest\n');
  logger.info({ signal: await stopped }, 'stopping');
  return 0;
}

/** The configuration file and the environment together. @throws SpandrelError CONFIG_INVALID */
export async function readConfig(file: string | undefined): Promise<Config> {
  return parseConfig({ yaml: await readConfigFile(file), environment: process.env });
}

async function readConfigFile(file: string | undefined): Promise<string> {
  try {
    return await readFile(file ?? DEFAULT_FILE, 'utf8');
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT' && file === undefined) return '';
    throw new SpandrelError(
      'CONFIG_INVALID',
      `cannot read ${file ?? DEFAULT_FILE}: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

/** What nobody has caught leaves the process in an unknown state: it says why, and ends. The next start finds a clean store. */
function endOnDefects(logger: Logger): void {
  process.on('uncaughtException', (error, origin) => {
    logger.fatal({ err: error, origin }, 'a defect: the process ends');
    process.exit(DEFECT_STATUS);
  });
}

function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
}
