import { parseArgs } from 'node:util';

import { escapeControls, escapeLines } from '../core/escape-controls.ts';
import { type Job, type JobLayer, jobProgress, SpandrelClient } from '../client/spandrel-client.ts';
import type { CommandHelp, Flags } from './terminal/command-help.ts';
import { printJson } from './terminal/print-json.ts';
import { EXIT } from './terminal/exit-status.ts';
import { ADMIN_FLAGS, reachAdmin } from './config/reach-admin.ts';
import { ProgressBar } from './terminal/progress-bar.ts';
import { UsageError } from './terminal/usage-error.ts';

const FLAGS = {
  platform: {
    type: 'string',
    short: 'p',
    multiple: true,
    default: [],
    value: 'P',
    about: 'platform to index, like linux/arm64 (default: index.platforms)',
  },
  ...ADMIN_FLAGS,
  json: { type: 'boolean', default: false, about: 'print the finished job as JSON' },
} satisfies Flags;

export const WARM_HELP: CommandHelp = {
  usage: ['warm IMAGE [--platform P]... [--admin URL] [--config FILE] [--json]'],
  about: [
    'Asks a running proxy to fetch and index IMAGE (upstream/repository:tag), waits for the end, and ' +
      'lists the layers: indexed, skipped (too small, or of a format that SOCI does not index), or failed, ' +
      'with the reason. Fails if nodes would pull one of its platforms whole.',
    'The environment configures address and token too: SPANDREL_ADMIN_TOKEN.',
  ],
  flags: FLAGS,
  exits: [EXIT.notFound, EXIT.unreachable, EXIT.notLazy],
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
  const { url, send, token } = await reachAdmin(values);
  const client = new SpandrelClient({ admin: url, send, token });
  const job = await warmWithProgress(client, image, values.platform);
  if (values.json) printJson(job);
  else process.stdout.write(`${escapeLines(describeJob(job))}\n`);
  const why = whyWhole(job);
  if (why === undefined) return EXIT.ok;
  process.stderr.write(`spandrel: ${escapeControls(image)} would not be lazy: ${why}\n`);
  return EXIT.notLazy;
}

/** Shows the progress on a terminal. */
async function warmWithProgress(
  client: SpandrelClient,
  image: string,
  platforms: readonly string[],
): Promise<Job> {
  using bar = new ProgressBar('fetching and indexing');
  return await client.warm(image, {
    ...(platforms.length === 0 ? {} : { platforms }),
    onProgress: (job) => {
      const { doneBytes, totalBytes } = jobProgress(job);
      bar.setTotal(totalBytes);
      bar.update(doneBytes);
    },
  });
}

/** A line for each platform and layer, and a summary on the last one. */
function describeJob({ image, images, layers }: Job): string {
  const platforms = images.map(
    ({ platform, index }) =>
      `${image} ${platform}: ${index === undefined ? 'not lazy' : `SOCI index ${index}`}`,
  );
  const described = layers.map(
    (layer) => `  layer ${layer.digest} (${layer.size} bytes) ${describeLayer(layer)}`,
  );
  const count = (wanted: string): number => layers.filter(({ state }) => state === wanted).length;
  const lazy = images.filter((found) => found.lazy).length;
  const summary =
    `${image}: ${lazy} of ${images.length} platforms lazy; layers: ${count('complete')} indexed, ` +
    `${count('skipped')} skipped, ${count('failed')} failed`;
  return [...platforms, ...described, summary].join('\n');
}

function describeLayer({ state, reason, skipped }: JobLayer): string {
  if (state === 'complete') return 'indexed';
  if (state === 'skipped') {
    const why = skipped === 'too_small' ? 'smaller than index.minLayerBytes' : 'its format has no zTOC';
    return `skipped: ${why}`;
  }
  return reason === undefined ? state : `${state}: ${reason}`;
}

/** Why nodes would pull some platform whole; `undefined` if all are lazy. */
function whyWhole({ images, layers }: Job): string | undefined {
  if (images.length === 0)
    return 'it has none of the platforms to index: name one with --platform, or add it to index.platforms';
  const whole = images.filter(({ lazy }) => !lazy).map(({ platform }) => platform);
  if (whole.length === 0) return undefined;
  const reasons = new Set(
    layers.map(({ reason, skipped }) => reason ?? skipped).filter((why) => why !== undefined),
  );
  const isIndexed = layers.some(({ state }) => state === 'complete');
  const cause = isIndexed
    ? 'no index is offered: see index.v1, index.v2 and index.rules'
    : `no layer can be indexed${reasons.size === 0 ? '' : ` (${[...reasons].join(', ')})`}`;
  return `${whole.join(', ')}: ${cause}`;
}
