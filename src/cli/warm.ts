import { readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { parseConfig } from '../config/parse-config.ts';
import { SpandrelError } from '../core/errors.ts';
import { escapeControls, escapeLines } from '../core/escape-controls.ts';
import { readAdminToken } from '../http/access/read-admin-token.ts';
import { REQUEST_HEADER } from '../http/access/page-guard.ts';
import type { WarmJobView } from '../images/operations/warm-job.ts';
import type { CommandHelp, Flags } from './terminal/command-help.ts';
import { printJson } from './terminal/print-json.ts';
import { listenerUrl } from './terminal/listener-url.ts';
import { ProgressBar } from './terminal/progress-bar.ts';
import { askProxy } from './terminal/ask-proxy.ts';
import { UsageError } from './terminal/usage-error.ts';

const POLL_MS = 200;

const FLAGS = {
  platform: {
    type: 'string',
    short: 'p',
    multiple: true,
    default: [],
    value: 'P',
    about: 'platform to index, like linux/arm64 (default: index.platforms)',
  },
  admin: {
    type: 'string',
    value: 'URL',
    about: 'admin listener of the proxy (default: as configured, else http://127.0.0.1:5001)',
  },
  config: {
    type: 'string',
    value: 'FILE',
    about: 'configuration file with the address and the token of the admin listener',
  },
  json: { type: 'boolean', default: false, about: 'print the finished job as JSON' },
} satisfies Flags;

export const WARM_HELP: CommandHelp = {
  usage: ['warm IMAGE [--platform P]... [--admin URL] [--config FILE] [--json]'],
  about: [
    'Asks a running proxy to fetch and index IMAGE (upstream/repository:tag), waits for the end, and ' +
      'lists the',
    'layers. The environment configures the address and the token too: SPANDREL_ADMIN_TOKEN.',
  ],
  flags: FLAGS,
};

/** `spandrel warm`: makes a running proxy fetch and index an image, and waits for it. */
export async function warm(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: FLAGS,
  });
  const [image, ...more] = positionals;
  if (image === undefined || more.length > 0)
    throw new UsageError('expected an image like upstream/repository:tag');
  const yaml = values.config === undefined ? '' : await readFile(values.config, 'utf8');
  const config = parseConfig({ yaml, environment: process.env }).admin;
  const admin = values.admin ?? listenerUrl(config);
  const token = await readAdminToken(config);
  const headers = {
    [REQUEST_HEADER]: 'spandrel warm',
    ...(token === undefined ? {} : { authorization: `Bearer ${token.reveal()}` }),
  };
  const body = values.platform.length === 0 ? { image } : { image, platforms: values.platform };
  let job = await request(`${admin}/api/v1/warm`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  using bar = new ProgressBar('fetching and indexing', 0);
  let total = 0;
  while (job.state === 'running') {
    await pause(POLL_MS);
    job = await request(`${admin}/api/v1/jobs/${job.id}`, { headers });
    const size = job.layers.reduce((sum, layer) => sum + layer.size, 0);
    bar.addTotal(size - total);
    total = size;
    bar.update(job.layers.reduce((sum, layer) => sum + layer.fetched, 0));
  }
  if (job.error !== undefined) throw new SpandrelError(job.error.code, job.error.message);
  if (values.json) {
    printJson(job);
    return 0;
  }
  const summary = job.layers.map(
    ({ digest, size, state, reason }) =>
      `  layer ${digest} (${size} bytes) ${state}${reason === undefined ? '' : `: ${reason}`}`,
  );
  const indexed = escapeControls(job.platforms.join(', ')) || 'nothing to index';
  process.stdout.write(`${escapeLines([`${image}: ${indexed}`, ...summary].join('\n'))}\n`);
  return 0;
}

async function request(url: string, init: RequestInit): Promise<WarmJobView> {
  return (await (await askProxy(url, init)).json()) as WarmJobView;
}
