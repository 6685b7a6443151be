import { randomBytes } from 'node:crypto';

import { Redis } from 'ioredis';
import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const WAIT = { timeout: 20_000, interval: 100 };
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

let redis: RedisServer;
let upstream: ImageUpstream;
let replicas: readonly [RunningApp, RunningApp];
let admin: Redis;
let lastTag = 0;
/** A command that runs until it is stopped. */
let busy: Promise<unknown>;

beforeAll(async () => {
  redis = cleanup.use(await RedisServer.start());
  await redis.command('ACL SETUSER admin on nopass ~* +@all');
  admin = new Redis(redis.url.replace('//', '//admin:any@'));
  cleanup.defer(() => admin.disconnect());
  upstream = cleanup.use(await ImageUpstream.start());
  const environment = { SPANDREL_MANIFESTS_TAG_SECONDS: '600', SPANDREL_INDEX_V2: 'false' };
  replicas = (await startReplicas(2, upstream, redis, { environment })) as [RunningApp, RunningApp];
});

/** An image that nobody knows yet. @returns the tag, and the digest of its layer */
async function addImage(): Promise<{ tag: string; layer: string }> {
  const tag = `tag-${++lastTag}`;
  const bytes = Uint8Array.from(randomBytes(10_000));
  const [layer = ''] = await upstream.addImage('app', [gzipLayer(tarArchive({ file: bytes }))], tag);
  return { tag, layer };
}

async function pull(app: RunningApp, { tag, layer }: { tag: string; layer: string }): Promise<void> {
  const headers = { accept: OCI_MANIFEST };
  const manifest = await fetch(`${app.url}/v2/up/app/manifests/${tag}`, { headers });
  expect(manifest.status).toBe(200);
  const { layers } = (await manifest.json()) as { layers: { digest: string }[] };
  expect(layers.map(({ digest }) => digest)).toEqual([layer]);
  const blob = await fetch(`${app.url}/v2/up/app/blobs/${layer}`);
  expect(blob.status).toBe(200);
  await blob.arrayBuffer();
}

/** Requests of the upstream for a tag. */
function asked(tag: string): number {
  return upstream.registry.requests.entries.filter(({ path }) => path.endsWith(`/manifests/${tag}`)).length;
}

/** What one replica was told is the answer of the other. */
async function expectTogether(): Promise<void> {
  const share = async (): Promise<number> => {
    const image = await addImage();
    await pull(replicas[0], image);
    const before = asked(image.tag);
    await pull(replicas[1], image);
    return asked(image.tag) - before;
  };
  await expect.poll(share, WAIT).toBe(0);
}

/** Commands of the administrator of Redis. */
function say(...lines: string[]): () => Promise<void> {
  return async () => {
    for (const line of lines) {
      const [command = '', ...words] = line.split(' ');
      await admin.call(command, ...words);
    }
  };
}

const [TIGHT, WIDE] = ['CONFIG SET maxmemory 1500kb', 'CONFIG SET maxmemory 0'];
const LEAVE = 'CLIENT KILL TYPE normal SKIPME yes';

interface Fault {
  readonly begin: () => unknown;
  readonly end: () => unknown;
}

describe('replicas go on without Redis, and are together again without a restart', () => {
  it.each<[string, Fault]>([
    [
      'is full',
      {
        begin: say('CONFIG SET maxmemory-policy noeviction', 'CONFIG SET maxmemory 1'),
        end: say(WIDE),
      },
    ],
    ['evicts anything', { begin: say('CONFIG SET maxmemory-policy allkeys-random', TIGHT), end: say(WIDE) }],
    ['evicts by age', { begin: say('CONFIG SET maxmemory-policy volatile-ttl', TIGHT), end: say(WIDE) }],
    ['is read-only after a failover', { begin: say('REPLICAOF 127.0.0.1 1'), end: say('REPLICAOF NO ONE') }],
    [
      'waits for its primary',
      {
        begin: say('CONFIG SET replica-serve-stale-data no', 'REPLICAOF 127.0.0.1 1'),
        end: say('REPLICAOF NO ONE', 'CONFIG SET replica-serve-stale-data yes'),
      },
    ],
    [
      'denies scripts',
      { begin: say('ACL SETUSER default -eval -evalsha'), end: say('ACL SETUSER default +@all') },
    ],
    [
      'denies everything',
      { begin: say('ACL SETUSER default -@all', LEAVE), end: say('ACL SETUSER default +@all') },
    ],
    [
      'wants another password',
      { begin: say('ACL SETUSER default resetpass >other', LEAVE), end: say('ACL SETUSER default nopass') },
    ],
    [
      'has no room for clients',
      { begin: say('CONFIG SET maxclients 1', LEAVE), end: say('CONFIG SET maxclients 100') },
    ],
    ['takes no writes', { begin: say('CLIENT PAUSE 600000 WRITE'), end: say('CLIENT UNPAUSE') }],
    [
      'runs a script for long',
      {
        async begin() {
          await say('CONFIG SET busy-reply-threshold 1')();
          busy = redis.command('EVAL "while true do end" 0');
          await expect.poll(() => admin.call('GET', 'x').catch(String)).toContain('BUSY');
        },
        async end() {
          await say('SCRIPT KILL')();
          await busy;
        },
      },
    ],
    ['loses the scripts and all keys', { begin: say('FLUSHALL', 'SCRIPT FLUSH'), end: () => undefined }],
  ])('if Redis %s', async (_, { begin, end }) => {
    await expectTogether();
    await begin();
    const image = await addImage();
    for (const app of [...replicas, ...replicas]) await pull(app, image);
    // Each knows it for itself.
    expect(asked(image.tag)).toBeLessThanOrEqual(2);
    await end();
    await expectTogether();
  });
});
