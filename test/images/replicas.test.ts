import { createHash, randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';

import { beforeEach, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const SOCI_V1 = 'application/vnd.amazon.soci.index.v1+json';

interface Named {
  readonly kind: 'manifests' | 'blobs';
  readonly digest: string;
}

const SHARED_KEY = makeSecret('shared key');

let upstream: ImageUpstream;
let redis: RedisServer;

beforeEach(async () => {
  redis = cleanup.use(await RedisServer.start());
  upstream = cleanup.use(await ImageUpstream.start());
  const layers = [1, 2].map((name) =>
    gzipLayer(tarArchive({ [`file-${name}`]: Uint8Array.from(randomBytes(300_000)) })),
  );
  for (const repository of ['app', 'copy']) await upstream.addImage(repository, layers);
  await upstream.addImage('stranger', [gzipLayer(tarArchive({ other: Uint8Array.of(1) }))]);
});

function startReplica(
  { isShared, hasKey = isShared }: { isShared: boolean; hasKey?: boolean },
  options: { readonly environment?: Record<string, string>; readonly root?: string } = {},
): Promise<RunningApp> {
  return proxyWith(upstream, {
    upstream: { host: 'registry.test' },
    ...(options.root === undefined ? {} : { root: options.root }),
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: '65536',
      ...(isShared ? { SPANDREL_CACHE_REDIS_URL: redis.url } : {}),
      ...(hasKey ? { SPANDREL_CACHE_REDIS_KEY: SHARED_KEY } : {}),
      ...options.environment,
    },
  });
}

async function ask(app: RunningApp, repository: string, path: string): Promise<Response> {
  const headers = { accept: OCI, 'user-agent': CONTAINERD, 'accept-encoding': 'identity' };
  return fetch(`${app.url}/v2/up/${repository}/${path}`, { headers });
}

async function json(response: Response): Promise<Record<string, unknown>> {
  expect(response.status, response.url).toBe(200);
  return (await response.json()) as Record<string, unknown>;
}

/** Everything that a tag leads to and no upstream has, in the order of a node's requests. */
async function namedByTag(app: RunningApp, form = 'lean'): Promise<Named[]> {
  const named: Named[] = [];
  const manifest = await json(await ask(app, 'app', 'manifests/latest'));
  const { headers } = await ask(app, 'app', 'manifests/latest');
  named.push({ kind: 'manifests', digest: headers.get('docker-content-digest') ?? '' });
  if (form !== 'lean') return named;
  const annotations = manifest['annotations'] as Record<string, string>;
  const index = annotations['com.amazon.soci.index-digest'] ?? '';
  named.push({ kind: 'manifests', digest: index }, ...(await listedBy(app, index)));
  return named;
}

/** The same for the referrers of the original image. */
async function namedByReferrers(app: RunningApp): Promise<Named[]> {
  const isIndexed = await ask(app, 'app', 'manifests/latest');
  const subject = (await fetch(`${app.url}/v2/up/app/manifests/latest`)).headers.get('docker-content-digest');
  await isIndexed.arrayBuffer();
  const listed = await json(
    await ask(app, 'app', `referrers/${subject}?artifactType=${encodeURIComponent(SOCI_V1)}`),
  );
  const digest = (listed['manifests'] as { digest: string }[])[0]?.digest ?? '';
  return [{ kind: 'manifests', digest }, ...(await listedBy(app, digest))];
}

async function listedBy(app: RunningApp, index: string): Promise<Named[]> {
  const { config, layers } = await json(await ask(app, 'app', `manifests/${index}`));
  const ztocs = layers as { digest: string }[];
  expect(ztocs).toHaveLength(2);
  return [config as { digest: string }, ...ztocs].map(({ digest }) => ({ kind: 'blobs', digest }));
}

/** Asserts that each exists and matches its digest. */
async function expectAll(app: RunningApp, repository: string, named: readonly Named[]): Promise<void> {
  for (const { kind, digest } of named) {
    const response = await ask(app, repository, `${kind}/${digest}`);
    const bytes = Buffer.from(await response.arrayBuffer());
    const sum = createHash('sha256').update(bytes).digest('hex');
    expect([kind, response.status, `sha256:${sum}`]).toEqual([kind, 200, digest]);
  }
}

async function expectNone(app: RunningApp, repository: string, named: readonly Named[]): Promise<void> {
  const ofImage = named.filter(({ digest }) => !digest.startsWith('sha256:44136fa355b3'));
  for (const { kind, digest } of ofImage) {
    const { status } = await ask(app, repository, `${kind}/${digest}`);
    expect([kind, digest, status]).toEqual([kind, digest, 404]);
  }
}

describe.each([
  ['that share a Redis', { isShared: true, isFlushed: false }],
  ['whose Redis has lost all', { isShared: true, isFlushed: true }],
  ['that share nothing', { isShared: false, isFlushed: false }],
])('replicas %s', (_what, { isShared, isFlushed }) => {
  it.each([
    ['a tag', namedByTag],
    ['the referrers of an image', namedByReferrers],
  ])(
    'have what %s names on one of them, for all repositories that have the image and no other',
    async (_by, naming) => {
      await using first = await startReplica({ isShared });
      await using second = await startReplica({ isShared });
      const named = await naming(first);
      if (isFlushed) await redis.command('FLUSHALL');
      await expectAll(second, 'app', named);
      await expectAll(second, 'copy', named);
      await expectAll(first, 'copy', named);
      await expectNone(second, 'stranger', named);
      await expectNone(first, 'stranger', named);
    },
  );

  it('replicas serve the files of an image under a digest that another replica returned', async () => {
    for (const form of ['lean', 'full']) {
      const environment = { SPANDREL_INDEX_V2_FORM: form };
      await using first = await startReplica({ isShared }, { environment });
      await using second = await startReplica({ isShared }, { environment });
      const [top] = await namedByTag(first, form);
      if (isFlushed) await redis.command('FLUSHALL');
      const path = `_soci/images/${top?.digest}/files/file-2`;
      const files = await Promise.all([first, second].map((app) => ask(app, 'app', path)));
      const bytes = await Promise.all(files.map(async (file) => Buffer.from(await file.arrayBuffer())));
      expect(files.map(({ status }) => status)).toEqual([200, 200]);
      expect(bytes[0]?.length).toBe(300_000);
      expect(bytes[0]?.equals(bytes[1] ?? Buffer.alloc(0))).toBe(true);
    }
  });

  it('replicas serve any part of an image first, in any order', async () => {
    await using first = await startReplica({ isShared });
    const named = (await namedByTag(first)).toReversed();
    if (isFlushed) await redis.command('FLUSHALL');
    for (const one of named) {
      await using second = await startReplica({ isShared });
      await expectAll(second, 'app', [one]);
      if (isFlushed) await redis.command('FLUSHALL');
    }
  });

  it('replicas serve a digest that they reported missing a moment before', async () => {
    await using earlier = await startReplica({ isShared: false });
    const named = await namedByTag(earlier);
    await using first = await startReplica({ isShared });
    await using second = await startReplica({ isShared });
    const gone = { kind: 'status', status: 404 } as const;
    upstream.registry.faults.set([{ match: { path: /\/v2\/app\// }, action: gone }]);
    await expectNone(second, 'app', named);
    upstream.registry.faults.clear();
    expect(await namedByTag(first)).toEqual(named);
    if (isFlushed) await redis.command('FLUSHALL');
    await expectAll(second, 'app', named);
  });

  it('replicas serve a digest made by earlier rules, as long as the image exists', async () => {
    await using first = await startReplica({ isShared });
    const named = await namedByTag(first);
    await first.reload({
      SPANDREL_INDEX_MIN_LAYER_BYTES: '1GiB',
      ...(isShared ? { SPANDREL_CACHE_REDIS_URL: redis.url, SPANDREL_CACHE_REDIS_KEY: SHARED_KEY } : {}),
    });
    await expectAll(first, 'app', named);
    await expectAll(first, 'copy', named);
  });
});

describe('a replica with Redis', () => {
  it('a replica with Redis and a key fetches no layer for what another has made', async () => {
    const environment = { SPANDREL_CACHE_REDIS_KEY: 'of all of the replicas' };
    await using first = await startReplica({ isShared: true }, { environment });
    const named = await namedByTag(first);
    await using second = await startReplica({ isShared: true }, { environment });
    upstream.registry.requests.clear();
    await expectAll(second, 'app', named);
    const blobs = upstream.registry.requests.entries.filter(
      ({ method, path, status }) => method === 'GET' && /blobs/.test(path) && status !== 404,
    );
    expect(blobs).toEqual([]);
  });

  it('a replica takes nothing from Redis that does not match the digest, even without a key', async () => {
    await using first = await startReplica({ isShared: true, hasKey: false });
    const named = await namedByTag(first);
    await using second = await startReplica({ isShared: true, hasKey: false });
    for (const { digest } of named)
      await redis.command(`SET spandrel:1:origin:1:${digest} {"manifest":"${digest}","document":"e30="}`);
    await expectAll(second, 'app', named);
  });
});

it('a store that has lost everything but origins makes derived documents again', async () => {
  await using first = await startReplica({ isShared: false });
  const named = await namedByTag(first);
  for (const folder of ['manifests', 'indexes', 'origins'])
    await rm(`${first.root}/${folder}`, { recursive: true });
  await expectAll(first, 'app', named);
});

it('an unknown digest costs a list of tags and a few builds, for any number of clients', async () => {
  const tags = Array.from({ length: 30 }, (_, place) => `v${String(place).padStart(2, '0')}`);
  for (const tag of tags) {
    await upstream.addImage(
      'many',
      [gzipLayer(tarArchive({ file: Uint8Array.from(randomBytes(5000)) }))],
      tag,
    );
  }
  await using app = await startReplica({ isShared: false });
  const nobodys = `sha256:${'7'.repeat(64)}`;
  upstream.registry.requests.clear();
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => ask(app, 'many', `manifests/${nobodys}`)),
  );
  expect(answers.map(({ status }) => status)).toEqual([404, 404, 404, 404, 404]);
  const paths = upstream.registry.requests.entries
    .filter(({ path, method }) => method === 'GET' && path.includes('/many/'))
    .map(({ path }) => path.replace(/.*\/many\//, ''));
  const count = (pattern: RegExp): number => paths.filter((path) => pattern.test(path)).length;
  expect(count(/^tags\/list/)).toBe(1);
  expect(count(/^manifests\/v/)).toBe(16);
  // A config per image, and a layer per build.
  expect(count(/^blobs\//)).toBe(16 + 4);
});
