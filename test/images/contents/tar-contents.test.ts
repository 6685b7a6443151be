import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, createZstdCompress, gunzipSync, gzipSync, zstdDecompressSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { randomFrom, seededText } from '../../helpers/layers/gzip-corpus.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import {
  gzipped,
  plain,
  pullManifest,
  requestBlob,
  sha256,
  startInflating,
  zstd,
} from '../../helpers/images/inflated-image.ts';
import { RedisServer } from '../../helpers/upstreams/redis-server.ts';
import { tarArchive } from '../../helpers/layers/tar-blocks.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const REPOSITORY = 'team/app';
const SEED = 20_281;
const SNAPSHOTTER = { 'user-agent': 'soci-snapshotter/0.15.0' };
/** As containerd sends it: `core/remotes/docker/fetcher.go`. */
const CONTAINERD = {
  'user-agent': 'containerd/2.2.6+unknown',
  'accept-encoding': 'zstd;q=1.0, gzip;q=0.8, deflate;q=0.5',
};

const text = Buffer.from(seededText(29, 500_000));
const tarA = tarArchive({ 'etc/a.txt': text.subarray(0, 300_000) });
const tarB = tarArchive({ 'usr/b.txt': text.subarray(300_000) });
const layerA = gzipped(tarA);
const layerB = zstd(tarB);

let root: string;
beforeEach(async () => void (root = await temporaryFolder()));

function digestField(bytes: Uint8Array): string {
  return `sha-256=:${Buffer.from(sha256(bytes).slice(7), 'hex').toString('base64')}:`;
}

describe('a blob by diffID', () => {
  it('has the size of the tar, and any range of its bytes, never encoded', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layerA, layerB]);
    const app = await startInflating(upstream);
    await pullManifest(app);
    const random = randomFrom(SEED);
    for (const tar of [tarA, tarB]) {
      const digest = sha256(tar);
      const head = await requestBlob(app, digest, CONTAINERD, { method: 'HEAD' });
      expect(head.status).toBe(200);
      expect(head.headers['content-length']).toBe(String(tar.length));
      expect(head.headers['content-encoding']).toBeUndefined();
      const starts = [0, 1, 511, 16_383, 16_384, 65_536, tar.length - 1];
      const ranges = [
        ...starts.map((start) => [start, start] as const),
        [0, tar.length - 1] as const,
        ...Array.from({ length: 12 }, () => {
          const start = Math.floor(random() * tar.length);
          return [start, start + Math.floor(random() * 80_000)] as const;
        }),
      ];
      for (const [first, last] of ranges) {
        const { status, headers, body } = await requestBlob(app, digest, {
          ...CONTAINERD,
          range: `bytes=${first}-${last}`,
        });
        const part = tar.subarray(first, last + 1);
        expect(status, `${first}-${last} of ${tar.length}, seed ${SEED}`).toBe(206);
        expect(headers['content-range']).toBe(`bytes ${first}-${first + part.length - 1}/${tar.length}`);
        expect(headers['content-encoding']).toBeUndefined();
        expect(headers['content-digest']).toBeUndefined();
        expect(headers['repr-digest']).toBe(digestField(tar));
        expect(body.equals(part), `${first}-${last}, seed ${SEED}`).toBe(true);
      }
      const suffix = await requestBlob(app, digest, { range: 'bytes=-700' });
      expect(suffix.body.equals(tar.subarray(-700))).toBe(true);
      const rest = await requestBlob(app, digest, { ...CONTAINERD, range: 'bytes=1000-' });
      expect([rest.status, rest.body.equals(tar.subarray(1000))]).toEqual([206, true]);
      const beyond = await requestBlob(app, digest, { range: `bytes=${tar.length}-` });
      expect([beyond.status, beyond.headers['content-range']]).toEqual([416, `bytes */${tar.length}`]);
    }
  });

  it('is the original as an encoding for clients that want it whole and can decode it', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layerA, layerB]);
    const app = await startInflating(upstream);
    await pullManifest(app);
    for (const [layer, tar, coding, decode] of [
      [layerA, tarA, 'gzip', gunzipSync],
      [layerB, tarB, 'zstd', zstdDecompressSync],
    ] as const) {
      for (const range of [{}, { range: 'bytes=0-' }]) {
        const { status, headers, body } = await requestBlob(app, sha256(tar), { ...CONTAINERD, ...range });
        expect(status).toBe(200);
        expect(headers['content-encoding']).toBe(coding);
        expect(headers['content-length']).toBe(String(layer.bytes.length));
        expect(headers['content-range']).toBeUndefined();
        expect(headers['docker-content-digest']).toBe(sha256(tar));
        expect(headers['content-digest']).toBe(digestField(layer.bytes));
        expect(headers['repr-digest']).toBe(digestField(layer.bytes));
        expect(headers['vary']).toBe('accept-encoding, user-agent');
        expect(body.equals(layer.bytes)).toBe(true);
        expect(decode(body).equals(tar)).toBe(true);
      }
    }
  });

  const UNENCODED: readonly (readonly [string, Record<string, string>])[] = [
    ['without Accept-Encoding', {}],
    ['that accept no coding', { 'accept-encoding': 'identity' }],
    ['that accept another coding', { 'accept-encoding': 'br, zstd' }],
    ['that refuse the coding', { 'accept-encoding': 'gzip;q=0, *;q=0.5' }],
    ['that prefer none', { 'accept-encoding': 'identity, gzip;q=0.5' }],
    ['of the snapshotter, whose HTTP client adds gzip', { ...SNAPSHOTTER, 'accept-encoding': 'gzip' }],
  ];

  it('is the tar itself, under another ETag, for all other clients that want it whole', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layerA]);
    const app = await startInflating(upstream);
    await pullManifest(app);
    const digest = sha256(tarA);
    const encoded = await requestBlob(app, digest, CONTAINERD);
    for (const [who, headers] of UNENCODED) {
      const whole = await requestBlob(app, digest, headers);
      expect([whole.status, whole.headers['content-encoding']], who).toEqual([200, undefined]);
      expect(whole.body.equals(tarA), who).toBe(true);
      expect(whole.headers['content-digest'], who).toBe(digestField(tarA));
      expect(whole.headers['vary'], who).toBe('accept-encoding, user-agent');
      const fromZero = await requestBlob(app, digest, { ...headers, range: 'bytes=0-' });
      expect([fromZero.status, fromZero.body.equals(tarA)], who).toEqual([206, true]);
      expect(fromZero.headers['etag']).toBe(whole.headers['etag']);
      expect(whole.headers['etag']).not.toBe(encoded.headers['etag']);
    }
    const etag = encoded.headers['etag'] ?? '';
    const again = await requestBlob(app, digest, { ...CONTAINERD, 'if-none-match': etag });
    expect([again.status, again.body.length]).toEqual([304, 0]);
    const other = await requestBlob(app, digest, { 'if-none-match': etag });
    expect([other.status, other.body.equals(tarA)]).toEqual([200, true]);
    // Positions in the encoded form are others: a client that has begun with it gets all of the tar.
    const resumed = await requestBlob(app, digest, { range: 'bytes=700-', 'if-range': etag });
    expect([resumed.status, resumed.body.equals(tarA)]).toEqual([200, true]);
  });

  it('is not sent as zstd with a window that decoders may lack, nor as gzip that Go refuses', async () => {
    await using upstream = await ImageUpstream.start();
    const wide = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: 24 } });
    wide.end(tarB);
    const bytes = Buffer.concat(await wide.toArray());
    const padded = { bytes: Buffer.concat([gzipSync(tarA), Buffer.alloc(512)]), diffId: sha256(tarA) };
    await upstream.addImage(REPOSITORY, [
      { bytes, mediaType: MEDIA_TYPES.ociLayerZstd, diffId: sha256(tarB) },
      padded,
    ]);
    const app = await startInflating(upstream);
    const { manifest } = await pullManifest(app);
    expect(manifest.layers.map(({ digest }) => digest)).toEqual([sha256(tarB), sha256(tarA)]);
    for (const tar of [tarB, tarA]) {
      const { headers, body } = await requestBlob(app, sha256(tar), CONTAINERD);
      expect([headers['content-encoding'], body.equals(tar)]).toEqual([undefined, true]);
    }
  });

  it('that the registry has too is served either way', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [plain(tarA), layerA]);
    const app = await startInflating(upstream);
    const { manifest } = await pullManifest(app);
    expect(manifest.layers.map(({ digest }) => digest)).toEqual([sha256(tarA), sha256(tarA)]);
    const whole = await requestBlob(app, sha256(tarA), { 'accept-encoding': 'identity' });
    expect(whole.body.equals(tarA)).toBe(true);
    const part = await requestBlob(app, sha256(tarA), { range: 'bytes=5-5000' });
    expect(part.body.equals(tarA.subarray(5, 5001))).toBe(true);
  });
});

describe('access to a blob by diffID', () => {
  const asks = [
    [{}, { method: 'HEAD' }],
    [CONTAINERD, {}],
    [{ range: 'bytes=0-1' }, {}],
    [{ ...SNAPSHOTTER, range: 'bytes=100-200' }, {}],
  ] as const;

  it('another repository has none, whatever is cached and claimed, until it has the layer', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layerA]);
    await upstream.addImage('team/other', [layerB]);
    const app = await startInflating(upstream);
    await pullManifest(app);
    await pullManifest(app, 'latest', { repository: 'team/other' });
    for (const [headers, options] of asks) {
      const own = await requestBlob(app, sha256(tarA), headers, options);
      expect(own.status).toBeLessThan(300);
      const foreign = await requestBlob(app, sha256(tarA), headers, { ...options, repository: 'team/other' });
      expect(foreign.status).toBe(404);
    }
    // A config may claim anything.
    await upstream.addImage('team/other', [{ ...layerB, diffId: sha256(tarA) }], 'claims');
    for (const [headers, options] of asks) {
      const foreign = await requestBlob(app, sha256(tarA), headers, { ...options, repository: 'team/other' });
      expect(foreign.status).toBe(404);
    }
    await upstream.addImage('team/other', [layerA], 'has');
    const part = { range: 'bytes=100-200' };
    const now = await requestBlob(app, sha256(tarA), part, { repository: 'team/other' });
    expect([now.status, now.body.equals(tarA.subarray(100, 201))]).toEqual([206, true]);
  });

  it('ends when the registry no longer has the layer', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layerA]);
    const app = await startInflating(upstream, { environment: { SPANDREL_ACCESS_PROOF_SECONDS: '1' } });
    await pullManifest(app);
    const ask = async (): Promise<number> =>
      (await requestBlob(app, sha256(tarA), { range: 'bytes=0-9' })).status;
    expect(await ask()).toBe(206);
    upstream.registry.content.removeBlob(REPOSITORY, sha256(layerA.bytes));
    await expect.poll(ask, { timeout: 20_000 }).toBe(404);
  });
});

describe('a diffID that the proxy has named', () => {
  it('is served after a restart without the cache, in another form, when the tag is gone', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layerA, layerB]);
    {
      await using app = await startInflating(upstream, { root });
      await pullManifest(app);
    }
    for (const name of await readdir(root))
      if (name !== 'records') await rm(join(root, name), { recursive: true });
    const { registry } = upstream;
    await upstream.addImage(REPOSITORY, [layerB]);
    registry.requests.clear();
    const app = await startInflating(upstream, { root, environment: { SPANDREL_INDEX_V2_FORM: 'lean' } });
    const { status, body } = await requestBlob(app, sha256(tarA), {
      ...SNAPSHOTTER,
      'accept-encoding': 'identity',
      range: 'bytes=1000-70000',
    });
    expect([status, body.equals(tarA.subarray(1000, 70_001))]).toEqual([206, true]);
    expect(registry.requests.entries.filter(({ path }) => /manifests|tags/.test(path))).toEqual([]);
  });

  it('is served by a replica that shares a sealed Redis, without a look at any image', async () => {
    await using redis = await RedisServer.start();
    const environment = {
      SPANDREL_CACHE_REDIS_URL: redis.url,
      SPANDREL_CACHE_REDIS_KEY: 'shared '.repeat(8),
    };
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layerA, layerB]);
    const [one, other] = [
      await startInflating(upstream, { environment }),
      await startInflating(upstream, { environment }),
    ];
    const { digest } = await pullManifest(one);
    upstream.registry.requests.clear();
    const part = await requestBlob(other, sha256(tarA), { ...SNAPSHOTTER, range: 'bytes=100-40000' });
    expect([part.status, part.body.equals(tarA.subarray(100, 40_001))]).toEqual([206, true]);
    const { entries } = upstream.registry.requests;
    expect(entries.filter(({ path }) => /manifests|tags/.test(path))).toEqual([]);
    expect((await pullManifest(other)).digest).toBe(digest);
    expect(await other.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
  });

  it('is found by a proxy that never saw the image, in the configs of the tags', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layerB], 'a-newer');
    await upstream.addImage(REPOSITORY, [layerA], 'an-older');
    const app = await startInflating(upstream);
    const part = await requestBlob(app, sha256(tarA), { ...SNAPSHOTTER, range: 'bytes=100-40000' });
    expect([part.status, part.body.equals(tarA.subarray(100, 40_001))]).toEqual([206, true]);
    const whole = await requestBlob(app, sha256(tarB), CONTAINERD);
    expect([whole.headers['content-encoding'], whole.body.equals(layerB.bytes)]).toEqual(['zstd', true]);
  });

  it('costs few requests if it does not exist, and none in a repository without tars', async () => {
    await using upstream = await ImageUpstream.start();
    for (let tag = 0; tag < 40; tag++) await upstream.addImage(REPOSITORY, [layerB], `tag-${tag}`);
    await upstream.addImage('team/other', [layerB]);
    const rules = JSON.stringify([{ repository: 'team/other', v2: false, v1: false }]);
    const app = await startInflating(upstream, { environment: { SPANDREL_INDEX_RULES: rules } });
    const { registry } = upstream;
    const missing = sha256(Buffer.from('nothing'));
    expect((await requestBlob(app, missing, { range: 'bytes=0-1' })).status).toBe(404);
    // Each of 16 tags has a manifest, a config and a layer.
    expect(registry.requests.entries.length).toBeLessThan(60);
    registry.requests.clear();
    const other = await requestBlob(app, missing, { range: 'bytes=0-1' }, { repository: 'team/other' });
    expect(other.status).toBe(404);
    expect(registry.requests.entries.filter(({ path }) => !path.includes(missing))).toEqual([]);
  });
});
