import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { createApp } from '../app.ts';
import { parseConfig } from '../config/parse-config.ts';
import type { LayerDescription } from '../images/lazy/layers.ts';
import { createLogger } from '../telemetry/logger.ts';
import type { CommandHelp, Flags } from './terminal/command-help.ts';
import { startEmbeddedDemo } from './embedded-demo.ts';

const RANGE_BYTES = 64;

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
    'Explains each step: how long it takes, and how many bytes the registry sends. Leaves no files.',
  ],
  flags: FLAGS,
};

/** `spandrel demo`: starts a registry and the proxy, and explains a lazy read step by step. */
export async function demo(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: FLAGS });
  const say = values.json ? () => undefined : (line: string) => void process.stdout.write(`${line}\n`);

  await using stack = new AsyncDisposableStack();
  const root = await mkdtemp(join(tmpdir(), 'spandrel-demo-'));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const environment = {
    SPANDREL_LISTEN_PORT: '0',
    SPANDREL_ADMIN_PORT: '0',
    SPANDREL_STORAGE_ROOT: root,
    SPANDREL_LOG_LEVEL: 'error',
  };
  say('Generating an image and starting a registry with it …');
  const {
    config,
    registry,
    image: content,
  } = stack.use(await startEmbeddedDemo(parseConfig({ yaml: '', environment })));
  const app = stack.use(await createApp(config, createLogger(config.log.level)));
  const { registryUrl } = await app.listen();
  const base = `${registryUrl}/v2/demo/app`;
  const transferred = (): number => registry.bytesSent;

  say(`\n1. Registry at ${registry.url}, proxy in front of it at ${registryUrl}. Pull the manifest:`);
  say(`   curl ${base}/manifests/latest`);
  const image = (await fetchJson(`${base}/_soci/images/latest`)) as {
    platforms: { platform: string; manifest: string; layers: LayerDescription[] }[];
  };
  const platform = image.platforms[0];
  if (platform === undefined) throw new Error('the demo image has no platform');
  const imageBytes = platform.layers.reduce((sum, layer) => sum + (layer.size ?? 0), 0);
  say(
    `   ${platform.platform}: ${platform.layers.length} layers, ${formatBytes(imageBytes)}; ` +
      `transferred so far: ${formatBytes(transferred())}`,
  );

  const { path, sha256, layer: layerDigest } = content.files.middle;
  const layer = `${base}/_soci/layers/${layerDigest}`;
  say('\n2. First read of a file in the middle of the largest layer. There is no index yet: the layer is');
  say('   fetched and indexed in one pass. The file is sent as soon as its bytes are decompressed.');
  say(`   curl ${layer}/files/${path}`);
  const first = await timed(() => fetchBytes(`${layer}/files/${path}`));
  if (createHash('sha256').update(first.value.bytes).digest('hex') !== sha256)
    throw new Error('the proxy served wrong bytes');
  say(
    `   ${formatBytes(first.value.bytes.byteLength)} in ${first.ms.toFixed(0)} ms, ` +
      `digest correct; ${first.value.cacheStatus}`,
  );
  await fetchJson(`${layer}/spans`);
  const cold = transferred();
  say(`   Index: ${JSON.stringify(await fetchJson(layer))}`);
  say(`   Transferred from the registry: ${formatBytes(cold)} of ${formatBytes(imageBytes)}`);

  say(
    `\n3. Read ${RANGE_BYTES} bytes out of the middle of the same file again: no upstream, no decompression.`,
  );
  const middle = Math.floor(first.value.bytes.byteLength / 2);
  say(`   curl -r ${middle}-${middle + RANGE_BYTES - 1} ${layer}/files/${path}`);
  const warm = await timed(() =>
    fetchBytes(`${layer}/files/${path}`, { range: `bytes=${middle}-${middle + RANGE_BYTES - 1}` }),
  );
  say(
    `   ${warm.value.bytes.byteLength} bytes in ${warm.ms.toFixed(1)} ms; ${warm.value.cacheStatus}; ` +
      `transferred: ${formatBytes(transferred() - cold)}`,
  );

  say('\n4. The SOCI index that a stock snapshotter finds at this proxy:');
  say(`   curl ${base}/referrers/${platform.manifest}`);
  const referrers = (await fetchJson(`${base}/referrers/${platform.manifest}`)) as {
    manifests: { artifactType: string; digest: string }[];
  };
  for (const { artifactType, digest } of referrers.manifests) say(`   ${artifactType} ${digest}`);

  const summary = {
    imageBytes,
    transferredBytes: transferred(),
    firstReadMs: first.ms,
    warmReadMs: warm.ms,
    sociIndex: referrers.manifests[0]?.digest,
  };
  say(
    `\nTransferred in total, with the other layers that this index needed: ` +
      `${formatBytes(summary.transferredBytes)} of an image of ${formatBytes(imageBytes)}.`,
  );
  if (values.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
  return 0;
}

async function timed<T>(work: () => Promise<T>): Promise<{ value: T; ms: number }> {
  const started = performance.now();
  return { value: await work(), ms: performance.now() - started };
}

async function fetchBytes(
  url: string,
  headers: Record<string, string> = {},
): Promise<{ bytes: Buffer; cacheStatus: string }> {
  const response = await fetch(url, { headers });
  const bytes = Buffer.from(await response.arrayBuffer());
  if (!response.ok) throw new Error(`${url}: ${response.status} ${bytes.toString()}`);
  return { bytes, cacheStatus: response.headers.get('cache-status') ?? '' };
}

async function fetchJson(url: string): Promise<unknown> {
  return JSON.parse((await fetchBytes(url)).bytes.toString());
}

function formatBytes(bytes: number): string {
  if (bytes < 10_000) return `${bytes} bytes`;
  return bytes < 1_000_000 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
