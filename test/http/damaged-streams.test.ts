import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeEach, describe, expect, it, vi } from 'vitest';

import { BlobStore } from '../../src/blobs/blob-store.ts';
import { digestHex, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { seededBytes } from '../helpers/layers/gzip-corpus.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { dir, file, hardlink, tarOf } from '../helpers/layers/tar-members.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const MIB = 2 ** 20;
const FOREVER = 'max-age=31536000, immutable';
const NOISE = Buffer.from(seededBytes(4, 700_000)).toString('latin1');
const FILES = [dir('etc/'), file('etc/early', 'early'), file('twice', 'old'), file('twice', 'new')];
const tar = tarOf(
  ...FILES,
  hardlink('link', 'twice'),
  file('big', NOISE.slice(0, 300_000)),
  file('late', NOISE.slice(300_000)),
  file('etc/last', 'last'),
);
const BIG_BYTES = 300_000;
const bigStart = tar.indexOf(NOISE.slice(0, 64), 0, 'latin1');
const lateStart = tar.indexOf(NOISE.slice(300_000, 300_064), 0, 'latin1');
/** All that is damaged has its damage behind this. */
const SURE_BYTES = lateStart + 50_000;
const checked = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };

const gzip = gzipSync(tar);
const [head, tail] = [tar.subarray(0, SURE_BYTES + 50_000), tar.subarray(SURE_BYTES + 50_000)];
const zstd = zstdCompressSync(tar, checked);

/**
 * Blobs in which the data of `late` cannot be decompressed to their end, and how much of the tar comes out at
 * least.
 */
const CUT: Readonly<Record<string, Buffer>> = {
  'gzip that is cut short': gzip.subarray(0, 400_000),
  'gzip whose second member is cut in its header': Buffer.concat([
    gzipSync(head),
    gzipSync(tail).subarray(0, 6),
  ]),
  'gzip whose first member has a wrong CRC-32': Buffer.concat([
    gzipSync(head).subarray(0, -8),
    Buffer.alloc(8),
    gzipSync(tail),
  ]),
  'zstd that is cut short': zstd.subarray(0, 500_000),
  'zstd whose first frame has a wrong checksum': Buffer.concat([
    zstdCompressSync(head, checked).subarray(0, -4),
    Buffer.alloc(4),
    zstdCompressSync(tail),
  ]),
  'zstd with something else in the place of a frame': Buffer.concat([zstdCompressSync(head), tail]),
};

/** Blobs out of which all of the tar comes, and that a node refuses all the same. */
const WRONG_END: Readonly<Record<string, Buffer>> = {
  'gzip with a wrong CRC-32': Buffer.concat([gzip.subarray(0, -8), Buffer.alloc(8)]),
  'gzip with something behind it': Buffer.concat([gzip, Buffer.from('garbage')]),
  'zstd with a wrong checksum': Buffer.concat([zstd.subarray(0, -4), Buffer.alloc(4)]),
  'zstd with something behind it': Buffer.concat([zstd, Buffer.from('garbage')]),
};

let upstream: ImageUpstream;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
});

function start(environment: Readonly<Record<string, string>> = {}, root?: string): Promise<RunningApp> {
  return proxyWith(upstream, {
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_INDEX_SPAN_BYTES: '65536', ...environment },
    ...(root === undefined ? {} : { root }),
  });
}

async function newRoot(): Promise<string> {
  const root = await temporaryFolder();
  return root;
}

function layerOf(app: RunningApp, bytes: Buffer): string {
  return `${app.url}/v2/app/_soci/layers/${digestOf(bytes)}`;
}

async function manifestOf(app: RunningApp): Promise<string | null> {
  const response = await fetch(`${app.url}/v2/app/manifests/latest`);
  await response.arrayBuffer();
  return response.headers.get('docker-content-digest');
}

interface RegistryResponse {
  readonly status: number;
  readonly body: Buffer;
  readonly code: string | undefined;
}

async function ask(url: string, init: RequestInit = {}): Promise<RegistryResponse> {
  const response = await fetch(url, init);
  const body = Buffer.from(await response.arrayBuffer());
  const { errors } =
    response.ok || body.length === 0 ? {} : (JSON.parse(body.toString()) as { errors?: { code: string }[] });
  return { status: response.status, body, code: errors?.[0]?.code };
}

/** The status of an answer that comes to a clean end. */
async function readToEnd(url: string): Promise<number | undefined> {
  try {
    const response = await fetch(url);
    await response.arrayBuffer();
    return response.status;
  } catch (error) {
    // As undici reports a connection that breaks.
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

const range = (start: number, end: number | ''): RequestInit => ({
  headers: { range: `bytes=${start}-${end === '' ? '' : end - 1}` },
});

/** What lies ahead of the fault, all asked at once. */
async function expectReadableAhead(layer: string): Promise<void> {
  const [early, link, big, part, ofBig, headOfBig, state] = await Promise.all([
    ask(`${layer}/files/etc/early`),
    ask(`${layer}/files/link`),
    ask(`${layer}/files/big`),
    ask(`${layer}/tar`, range(bigStart - 1000, SURE_BYTES)),
    ask(`${layer}/files/big`, range(70_000, 200_000)),
    fetch(`${layer}/files/big`, { method: 'HEAD' }),
    fetch(layer),
  ]);
  expect([early.status, early.body.toString()]).toEqual([200, 'early']);
  expect([link.status, link.body.toString()]).toEqual([200, 'new']);
  expect(big.body.equals(Buffer.from(NOISE.slice(0, BIG_BYTES), 'latin1'))).toBe(true);
  expect([part.status, part.body.equals(tar.subarray(bigStart - 1000, SURE_BYTES))]).toEqual([206, true]);
  expect(ofBig.body.equals(Buffer.from(NOISE.slice(70_000, 200_000), 'latin1'))).toBe(true);
  expect([headOfBig.status, headOfBig.headers.get('content-length')]).toEqual([200, String(BIG_BYTES)]);
  expect(state.status).toBe(200);
}

/** What reaches into the fault or lies behind it. */
async function expectRefusedBehind(layer: string): Promise<void> {
  const refused = { status: 422, code: 'LAYER_CORRUPT' };
  const asked: [string, RequestInit][] = [
    ['files/late', {}],
    ['files/late', range(0, 10)],
    ['files/etc/last', {}],
    ['files/nowhere', {}],
    ['tar', range(SURE_BYTES, tar.length)],
    ['tar', range(SURE_BYTES, '')],
    ['tar', { headers: { range: 'bytes=-100' } }],
    ['spans/100000', {}],
  ];
  for (const [path, init] of asked) {
    expect([path, await ask(`${layer}/${path}`, init)]).toMatchObject([path, refused]);
    expect((await fetch(`${layer}/${path}`, { ...init, method: 'HEAD' })).status).toBe(422);
  }
}

/** The state of a layer, once its index is stored: readers may have all bytes shortly before that. */
async function endedState(layer: string): Promise<Record<string, unknown>> {
  for (;;) {
    const state = (await (await fetch(layer)).json()) as Record<string, unknown>;
    if (state['state'] !== 'building') return state;
  }
}

/** What a complete index says; equal for equal layers. */
async function describeLayer(layer: string): Promise<unknown> {
  const state = await endedState(layer);
  expect(state).toMatchObject({ state: 'readable', reason: 'LAYER_CORRUPT', diffId: null });
  expect(state).not.toHaveProperty('ztoc');
  expect(state).not.toHaveProperty('uncompressedSize');
  const spans = (await (await fetch(`${layer}/spans`)).json()) as {
    spans: { id: number; uncompressed: { start: number; end: number } }[];
    incomplete: string;
  };
  expect(spans.incomplete).toBe('LAYER_CORRUPT');
  expect(spans.spans.at(-1)?.uncompressed.end).toBe(state['readableSize']);
  for (const { id, uncompressed } of spans.spans) {
    const { body } = await ask(`${layer}/spans/${id}`);
    expect(body.equals(tar.subarray(uncompressed.start, uncompressed.end))).toBe(true);
  }
  return { state, spans, files: await (await fetch(`${layer}/files`)).json() };
}

/**
 * What the layer API says of a layer, which has been read while its index was being built, and afterwards.
 */
async function readColdAndWarm(
  bytes: Buffer,
  environment: Readonly<Record<string, string>>,
  root: string,
): Promise<unknown> {
  await using app = await start(environment, root);
  const layer = layerOf(app, bytes);
  const cold = readToEnd(`${layer}/tar`);
  await Promise.all([expectReadableAhead(layer), expectRefusedBehind(layer)]);
  // Broken off, or refused at once.
  expect([undefined, 422]).toContain(await cold);
  await expectReadableAhead(layer);
  await expectRefusedBehind(layer);
  expect(await ask(`${layer}/tar`)).toMatchObject({ status: 422, code: 'LAYER_CORRUPT' });
  return await describeLayer(layer);
}

/** Without a build of its own. */
async function expectSame(app: RunningApp, bytes: Buffer, described: unknown): Promise<void> {
  const layer = layerOf(app, bytes);
  await expectReadableAhead(layer);
  await expectRefusedBehind(layer);
  expect(await describeLayer(layer)).toEqual(described);
  expect(await app.metric('spandrel_index_builds_total{outcome="readable"}')).toBe(0);
}

describe('a layer whose stream is damaged', () => {
  it.each(Object.entries(CUT))(
    'is readable ahead of that, and refused behind it: cold, warm, by a replica, after a restart: %s',
    async (_, bytes) => {
      const redis = cleanup.use(await RedisServer.start());
      const environment = { SPANDREL_CACHE_REDIS_URL: redis.url };
      await upstream.addImage('app', [{ bytes, diffId: digestOf(tar) }]);
      const root = await newRoot();
      const described = await readColdAndWarm(bytes, environment, root);
      await using replica = await start(environment);
      await expectSame(replica, bytes, described);
      await using restarted = await start({}, root);
      await expectSame(restarted, bytes, described);
    },
  );

  it('is listed up to its damaged entry, which is marked, and the list is not complete', async () => {
    const bytes = CUT['gzip that is cut short'] ?? Buffer.alloc(0);
    await upstream.addImage('app', [{ bytes, diffId: digestOf(tar) }]);
    await using app = await start();
    const listed = (await (await fetch(`${layerOf(app, bytes)}/files`)).json()) as {
      files: { name: string; incomplete?: string }[];
      incomplete?: string;
    };
    expect(listed.incomplete).toBe('LAYER_CORRUPT');
    const names = ['big', 'etc/', 'etc/early', 'late', 'link', 'twice', 'twice'];
    expect(listed.files.map(({ name }) => name)).toEqual(names);
    expect(listed.files.filter(({ incomplete }) => incomplete !== undefined)).toMatchObject([
      { name: 'late', incomplete: 'LAYER_CORRUPT' },
    ]);
  });

  it.each(Object.entries(WRONG_END))('has all that comes out of it, but no end: %s', async (_, bytes) => {
    await upstream.addImage('app', [{ bytes, diffId: digestOf(tar) }]);
    await using app = await start();
    const layer = layerOf(app, bytes);
    for (const _state of ['cold', 'warm']) {
      expect((await ask(`${layer}/files/etc/last`)).body.toString()).toBe('last');
      const all = await ask(`${layer}/tar`, range(0, tar.length));
      expect([all.status, all.body.equals(tar)]).toEqual([206, true]);
      // While the index is being built, such a request gets what there is, and is cut off at the fault.
      await endedState(layer);
      for (const init of [{}, range(0, ''), range(0, tar.length + 1)])
        expect(await ask(`${layer}/tar`, init)).toMatchObject({ status: 422, code: 'LAYER_CORRUPT' });
    }
    expect(await endedState(layer)).toMatchObject({ state: 'readable', readableSize: tar.length });
    const referrers = await fetch(`${app.url}/v2/app/referrers/${await manifestOf(app)}`);
    expect(await referrers.json()).toMatchObject({ manifests: [] });
  });

  it('is so only for good: of wrong bytes from the upstream nothing is remembered', async () => {
    const bytes = gzip;
    await upstream.addImage('app', [{ bytes, diffId: digestOf(tar) }]);
    await using app = await start({ SPANDREL_UPSTREAM_RETRIES: '0' });
    const layer = layerOf(app, bytes);
    upstream.registry.faults.add({ match: { path: /blobs/ }, action: { kind: 'corrupt', atByte: 300_000 } });
    for (const path of ['files/etc/last', 'tar', 'spans', 'files']) {
      // A response that has begun is cut off.
      const asked = await ask(`${layer}/${path}`).catch(() => ({ code: 'none' }));
      expect(asked).not.toMatchObject({ code: 'LAYER_CORRUPT' });
    }
    upstream.registry.faults.clear();
    expect((await ask(`${layer}/tar`)).body.equals(tar)).toBe(true);
    await ask(`${layer}/spans`);
    expect(await endedState(layer)).toMatchObject({ state: 'indexed' });
  });
});

it('a blob damaged on disk after its verification is fetched again: no fault of its layer', async () => {
  const bytes = CUT['gzip that is cut short'] ?? Buffer.alloc(0);
  await upstream.addImage('app', [{ bytes, diffId: digestOf(tar) }]);
  await using app = await start();
  const layer = layerOf(app, bytes);
  // Without its manifest, the blob is no layer yet: it is stored, and no index is built.
  expect((await ask(`${app.url}/v2/app/blobs/${digestOf(bytes)}`)).body.equals(bytes)).toBe(true);
  const hex = digestHex(digestOf(bytes));
  const blobPath = join(app.root, 'blobs', 'sha256', hex.slice(0, 2), hex);
  const verify = vi.spyOn(BlobStore.prototype, 'verify');
  cleanup.defer(() => verify.mockRestore());
  verify.mockImplementationOnce(async function (this: BlobStore, digest) {
    const isRight = await this.verify(digest);
    const file = await open(blobPath, 'r+');
    await file.write('rot', 1000);
    await file.close();
    return isRight;
  });
  expect(await ask(`${layer}/spans`)).toMatchObject({ status: 502, code: 'BLOB_CORRUPT' });
  expect((await ask(`${layer}/spans`)).status).toBe(200);
  await describeLayer(layer);
  expect(await app.metric('spandrel_store_condemned_total{kind="blob",damage="digest"}')).toBe(1);
});

describe('a plain tar that ends early', () => {
  it('is readable up to its end, and says that its files are not all', async () => {
    const bytes = tar.subarray(0, SURE_BYTES);
    await upstream.addImage('app', [{ bytes, diffId: digestOf(bytes), mediaType: MEDIA_TYPES.ociLayer }]);
    await using app = await start();
    const layer = layerOf(app, bytes);
    for (const _state of ['cold', 'warm']) {
      await expectReadableAhead(layer);
      for (const path of ['files/late', 'files/etc/last'])
        expect(await ask(`${layer}/${path}`)).toMatchObject({ status: 422, code: 'TAR_INVALID' });
      expect((await ask(`${layer}/tar`)).body.equals(bytes)).toBe(true);
    }
    expect(await (await fetch(`${layer}/files`)).json()).toMatchObject({ incomplete: 'TAR_INVALID' });
  });
});

it('a file of which a later entry may still come is not for ever; the last one is', async () => {
  const more = Buffer.from(seededBytes(5, 3 * MIB)).toString('latin1');
  const members = [file('twice', 'old'), file('twice', 'new'), hardlink('link', 'twice')];
  const layerTar = tarOf(...members, file('noise', more), file('twice', 'last'));
  const bytes = gzipSync(layerTar);
  await upstream.addImage('app', [{ bytes, diffId: digestOf(layerTar) }]);
  const held = Promise.withResolvers<void>();
  cleanup.defer(held.resolve);
  const endOf = (header = ''): number => Number(/-(\d+)$/.exec(header)?.[1] ?? 0) + 1;
  upstream.registry.faults.add({
    match: (request) => endOf(request.range) === bytes.length,
    action: { kind: 'hold', until: held.promise },
  });
  await using app = await start({ SPANDREL_FILL_CHUNK_BYTES: '1MiB', SPANDREL_FILL_PARALLEL: '1' });
  await manifestOf(app);
  const read = async (path: string): Promise<readonly [string, string | null]> => {
    const response = await fetch(`${layerOf(app, bytes)}/files/${path}`);
    return [await response.text(), response.headers.get('cache-control')];
  };
  expect(await read('link')).toEqual(['new', 'no-cache']);
  expect(await read('link')).toEqual(['new', 'no-cache']);
  expect((await read('twice'))[1]).toBe('no-cache');
  held.resolve();
  await ask(`${layerOf(app, bytes)}/spans`);
  expect(await read('link')).toEqual(['new', FOREVER]);
  expect(await read('twice')).toEqual(['last', FOREVER]);
});
