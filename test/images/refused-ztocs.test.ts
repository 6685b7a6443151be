import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, expect, it } from 'vitest';

import { parseDigest } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { EMPTY_CONFIG } from '../../src/soci/soci-index.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { blobsOf, type KnownLayer, makeContent } from '../histories/content.ts';
import { makePushedIndex, type PushedIndex } from '../histories/pushed-index.ts';

const PATIENCE = { timeout: 20_000 };
const INDEXED = 'spandrel_index_builds_total{outcome="indexed"}';

let upstream: ScriptedRegistry;
let pushed: PushedIndex;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
});

/** An image with a pushed SOCI v1 index in the upstream; its zTOC may be that of another layer. */
async function publish(kind: 'wrong' | 'right'): Promise<void> {
  const made = await makePushedIndex(makeContent(1), kind);
  if (made === undefined) throw new Error('there is an index');
  pushed = made;
  const { repository, top, ztocs } = pushed;
  const blobs = [...blobsOf(repository), ...ztocs] as const;
  for (const [digest, bytes] of blobs)
    await upstream.addBlob('app', Uint8Array.from(bytes), parseDigest(digest));
  await upstream.addBlob('app', Uint8Array.from(EMPTY_CONFIG));
  for (const reference of [top.document.digest, 'latest'])
    upstream.addManifest('app', reference, top.document.bytes, top.document.mediaType);
}

function pushIndex(): void {
  const { digest, bytes, mediaType } = pushed.index;
  upstream.addManifest('app', digest, bytes, mediaType);
}

async function start(environment: Readonly<Record<string, string>> = {}): Promise<RunningApp> {
  const settings = {
    SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
    SPANDREL_INDEX_SPAN_BYTES: '65536',
    ...environment,
  };
  return proxyWith(upstream, { environment: settings });
}

function layers(): readonly KnownLayer[] {
  return pushed.top.images[0]?.layers ?? [];
}

async function resolveTag(app: RunningApp): Promise<string | null> {
  const headers = { accept: OCI, 'user-agent': CONTAINERD };
  const response = await fetch(`${app.url}/v2/up/app/manifests/latest`, { headers });
  await response.arrayBuffer();
  return response.headers.get('docker-content-digest');
}

/** Digests of the SOCI indexes that a node gets. */
async function referrers(app: RunningApp): Promise<string[]> {
  const response = await fetch(`${app.url}/v2/up/app/referrers/${pushed.top.document.digest}`);
  const { manifests } = (await response.json()) as { manifests: { digest: string }[] };
  return manifests.map(({ digest }) => digest);
}

async function readLayers(app: RunningApp): Promise<void> {
  for (const { digest, tar } of layers()) {
    const response = await fetch(`${app.url}/v2/up/app/_soci/layers/${digest}/tar`);
    expect(Buffer.from(await response.arrayBuffer()).equals(tar)).toBe(true);
  }
}

it('a wrong zTOC found by one replica is refused by all, whatever Redis loses later', async () => {
  await publish('wrong');
  pushIndex();
  const redis = cleanup.use(await RedisServer.start());
  // Without a key, replicas accept no indexes from each other.
  const environment = { SPANDREL_CACHE_REDIS_URL: redis.url, SPANDREL_CACHE_REDIS_KEY: 'shared '.repeat(8) };
  const [one, other] = [await start(environment), await start(environment)];
  expect(await resolveTag(one)).toBe(pushed.top.document.digest);
  await readLayers(one);
  await expect.poll(() => resolveTag(one), PATIENCE).not.toBe(pushed.top.document.digest);
  const answer = await resolveTag(one);
  expect(await referrers(one)).not.toContain(pushed.index.digest);
  // The other one has never read the layer.
  expect(await resolveTag(other)).toBe(answer);
  expect(await other.metric(INDEXED)).toBe(0);
  await redis.command('FLUSHALL');
  expect([await resolveTag(one), await resolveTag(other)]).toEqual([answer, answer]);
  expect(await referrers(other)).not.toContain(pushed.index.digest);
});

it.each([
  ['wrong', 'is refused'],
  ['right', 'is kept'],
] as const)(
  'a %s zTOC that is pushed when its layer has an index %s, when the layer has passed through once more',
  async (kind, _outcome) => {
    await publish(kind);
    const app = await start();
    await readLayers(app);
    const builds = pushed.ztocs.size;
    await expect.poll(() => app.metric(INDEXED), PATIENCE).toBe(builds);
    pushIndex();
    await resolveTag(app);
    if (kind === 'wrong')
      await expect.poll(() => resolveTag(app), PATIENCE).not.toBe(pushed.top.document.digest);
    const judged = join(app.root, 'indexes', 'refused', 'sha256');
    await expect.poll(() => readdir(judged).catch(() => []), PATIENCE).toHaveLength(pushed.ztocs.size);
    expect((await referrers(app)).includes(pushed.index.digest)).toBe(kind === 'right');
    expect(await app.metric(INDEXED)).toBe(builds);
    await readLayers(app);
  },
);

it('an image with a refused pushed index has one response, with or without indexed layers', async () => {
  await publish('wrong');
  const early = await start();
  await readLayers(early);
  await expect.poll(() => early.metric(INDEXED), PATIENCE).toBe(pushed.ztocs.size);
  pushIndex();
  const late = await start();
  await resolveTag(late);
  await readLayers(late);
  const answers = async (): Promise<unknown> => [await resolveTag(early), await resolveTag(late)];
  await expect.poll(answers, PATIENCE).not.toContain(pushed.top.document.digest);
  expect(new Set([await resolveTag(early), await resolveTag(late)]).size).toBe(1);
});

it('a wrong zTOC leaves no partial index', async () => {
  await publish('wrong');
  pushIndex();
  const app = await start();
  await readLayers(app);
  await expect.poll(() => resolveTag(app), PATIENCE).not.toBe(pushed.top.document.digest);
  await expect.poll(() => readdir(join(app.root, 'indexes', 'layers', 'tmp')), PATIENCE).toEqual([]);
  await readLayers(app);
});
