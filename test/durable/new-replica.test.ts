import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { gzipped, pullManifest, requestBlob, sha256 } from '../helpers/images/inflated-image.ts';
import { CONTAINERD } from '../helpers/lazy-app.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { file, member, tarOf } from '../helpers/layers/tar-members.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { GivenProfiles } from '../helpers/starts/given-profiles.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const SHARED_KEY = makeSecret('shared key');

let bucket: MotoBucket;
let upstream: ImageUpstream;

beforeAll(async () => {
  bucket = cleanup.use(await MotoBucket.start());
  upstream = cleanup.use(await ImageUpstream.start());
});

beforeEach(() => {
  setAwsEnvironment(STATIC_KEYS);
  cleanup.defer(() => {
    vi.unstubAllEnvs();
  });
});

function startReplica(
  prefix: string,
  environment: Readonly<Record<string, string>>,
  profiles = new GivenProfiles(),
): Promise<RunningApp> {
  return proxyWith(upstream, {
    profiles,
    upstream: { host: 'registry.test' },
    environment: {
      SPANDREL_STORAGE_S3_BUCKET: bucket.name,
      SPANDREL_STORAGE_S3_PREFIX: prefix,
      SPANDREL_STORAGE_S3_ENDPOINT: bucket.url,
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_HOLD_MS: '600000',
      ...environment,
    },
  });
}

/** Requests for blobs that the registry has answered with bytes. */
function fetched(): number {
  const { requests } = upstream.registry;
  return requests.entries.filter(({ method, path }) => method === 'GET' && path.includes('/blobs/')).length;
}

const BOOT = { SPANDREL_INDEX_BOOT_LAYER: 'next' };

describe('a new replica with an empty disk and the same bucket', () => {
  it.each([
    ['lean', 'without Redis', {}],
    ['inflated', 'without Redis', { SPANDREL_INDEX_V2_FORM: 'inflated' }],
    ['boot', 'without Redis', BOOT],
    ['boot', 'with a new Redis and the same key', BOOT],
  ] as const)(
    'serves an image (%s, %s) without a byte of its layers from the upstream, and builds nothing',
    async (form, storage, settings) => {
      const hasRedis = storage !== 'without Redis';
      const repository = `team/${form}${hasRedis ? '-redis' : ''}`;
      const noise = Buffer.from(randomBlob(200_000, form.length));
      const layers = [
        gzipped(tarOf(file('etc/a', form), member({ name: 'noise', data: noise }))),
        gzipped(tarOf(file('etc/b', 'second'))),
      ];
      await upstream.addImage(repository, layers);
      const redisSettings = async (): Promise<Record<string, string>> => {
        if (!hasRedis) return {};
        const redis = cleanup.use(await RedisServer.start());
        return { SPANDREL_CACHE_REDIS_URL: redis.url, SPANDREL_CACHE_REDIS_KEY: SHARED_KEY };
      };
      const profiles = new GivenProfiles();
      profiles.give(repository, ['etc/a']);
      const prefix = repository.replaceAll('/', '-');
      const seen = async (app: RunningApp): Promise<unknown> => {
        const { digest, manifest } = await pullManifest(app, 'latest', { repository });
        const blobs = [];
        for (const { digest: blob } of [manifest.config, ...manifest.layers]) {
          const { status, body } = await requestBlob(app, blob, {}, { repository });
          blobs.push([status, sha256(body) === blob, blob]);
        }
        const path = `/v2/up/${repository}/_soci/images/latest/files/noise`;
        const read = await fetch(`${app.url}${path}`, {
          headers: { range: 'bytes=100000-150000', 'user-agent': CONTAINERD },
        });
        return [digest, blobs, read.status, sha256(Buffer.from(await read.arrayBuffer()))];
      };
      const first = await startReplica(prefix, { ...settings, ...(await redisSettings()) }, profiles);
      const answers = await seen(first);
      const named = layers.map(({ bytes }) => `${prefix}/blobs/sha256/${sha256(bytes).slice(7)}`);
      await expect.poll(() => bucket.names(`${prefix}/blobs/`)).toEqual(expect.arrayContaining(named));
      for (const kind of ['blob', 'record'])
        await expect.poll(() => first.metric(`spandrel_durable_queue_length{kind="${kind}"}`)).toBe(0);
      await first[Symbol.asyncDispose]();
      const before = fetched();
      expect(before).toBeGreaterThan(0);

      // It has no profile: the boot layer is that of the first one.
      const second = await startReplica(prefix, { ...settings, ...(await redisSettings()) });
      expect(await seen(second)).toEqual(answers);
      expect(fetched() - before).toBe(0);
      expect(await second.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
    },
  );
});
