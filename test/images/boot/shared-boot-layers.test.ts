import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../../helpers/cleanup.ts';
import { GivenProfiles } from '../../helpers/starts/given-profiles.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import { gzipped, pullManifest, requestBlob, sha256 } from '../../helpers/images/inflated-image.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { RedisServer } from '../../helpers/upstreams/redis-server.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { makeSecret } from '../../helpers/secrets.ts';
import { file, member, tarOf } from '../../helpers/layers/tar-members.ts';

const SHARED_KEY = makeSecret('shared key');

let upstream: ImageUpstream;
let redis: RedisServer;

beforeAll(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  redis = cleanup.use(await RedisServer.start());
});

function startReplica(profiles: GivenProfiles): Promise<RunningApp> {
  return proxyWith(upstream, {
    profiles,
    environment: {
      SPANDREL_INDEX_BOOT_LAYER: 'next',
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_HOLD_MS: '600000',
      SPANDREL_CACHE_REDIS_URL: redis.url,
      SPANDREL_CACHE_REDIS_KEY: SHARED_KEY,
    },
  });
}

async function push(tag: string): Promise<void> {
  const noise = member({ name: 'noise', data: Buffer.from(randomBlob(20_000, tag.length)) });
  await upstream.addImage('team/app', [gzipped(tarOf(file('etc/a', tag), file('etc/b', tag), noise))], tag);
}

describe('replicas that share a Redis with a key', () => {
  it('give the answer that one of them has given, and the boot layer that it has named', async () => {
    await push('with');
    await push('without');
    const [learned, ignorant] = [new GivenProfiles(), new GivenProfiles()];
    const [first, second] = [await startReplica(learned), await startReplica(ignorant)];
    const without = await pullManifest(first, 'without');
    expect(without.manifest.layers).toHaveLength(1);
    learned.give('team/app', ['etc/a']);
    const { digest, manifest } = await pullManifest(first, 'with');
    expect(manifest.layers).toHaveLength(2);

    // Nobody has asked the second one for the tag yet: nodes may have it from the first.
    for (const { digest: blob } of [manifest.config, ...manifest.layers]) {
      const { status, body } = await requestBlob(second, blob);
      expect([status, sha256(body)]).toEqual([200, blob]);
    }
    expect((await pullManifest(second, 'with')).digest).toBe(digest);
    ignorant.give('team/app', ['etc/a']);
    expect((await pullManifest(second, 'without')).digest).toBe(without.digest);
  });

  it('agree if both are the first to answer an image, though they have learned differently', async () => {
    const tags = ['1', '2', '3', '4', '5'];
    for (const tag of tags) await push(tag);
    const [a, b] = [new GivenProfiles(), new GivenProfiles()];
    a.give('team/app', ['etc/a']);
    b.give('team/app', ['etc/b']);
    const replicas = [await startReplica(a), await startReplica(b), await startReplica(new GivenProfiles())];
    for (const tag of tags) {
      const pulls = await Promise.all(replicas.map((replica) => pullManifest(replica, tag)));
      expect(new Set(pulls.map(({ digest }) => digest)).size, tag).toBe(1);
      const { config, layers = [] } = pulls[0]?.manifest ?? {};
      for (const replica of replicas)
        for (const { digest } of [...layers, ...(config === undefined ? [] : [config])]) {
          const { status, body } = await requestBlob(replica, digest);
          expect([status, sha256(body)]).toEqual([200, digest]);
        }
    }
  });
});
