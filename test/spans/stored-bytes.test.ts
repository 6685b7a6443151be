import { mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32, gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import {
  addPackedImage,
  type PackedLayer,
  packedLayer,
  seededGzipLayer,
} from '../helpers/images/packed-image.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { rot, storedPath } from '../helpers/faults/stored-files.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const LAYER_BYTES = 2 ** 20;
const BUILT = 'spandrel_index_builds_total{outcome="indexed"}';
const ROTTEN_BLOBS = 'spandrel_store_condemned_total{kind="blob",damage="digest"}';

let upstream: ScriptedRegistry;
let root: string;
let app: RunningApp;
let layer: PackedLayer;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  root = await temporaryFolder();
  layer = seededGzipLayer(1, LAYER_BYTES);
  await addPackedImage(upstream, 'app', 'latest', [layer]);
  await start();
});

/** A process without a memory cache, in which only reads notice damage. */
async function start(environment: Readonly<Record<string, string>> = {}): Promise<void> {
  app = await proxyWith(upstream, {
    root,
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: '65536',
      SPANDREL_INDEX_READ_SPAN_BYTES: '65536',
      SPANDREL_CACHE_MEMORY_BYTES: '0',
      SPANDREL_STORAGE_SCRUB: 'off',
      SPANDREL_UPSTREAM_RETRIES: '0',
      SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '1000',
      ...environment,
    },
  });
}

/** @param spoil runs while no process uses the store */
async function restart(spoil: () => Promise<unknown> = () => Promise.resolve()): Promise<void> {
  await app[Symbol.asyncDispose]();
  await spoil();
  await start();
}

function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${app.url}/v2/up/app/${path}`, { headers });
}

async function readTar(digest: Digest, start: number, end: number): Promise<Buffer> {
  const answer = await get(`_soci/layers/${digest}/tar`, { range: `bytes=${start}-${end - 1}` });
  expect(answer.status).toBe(206);
  return Buffer.from(await answer.arrayBuffer());
}

async function expectTar(digest: Digest, tar: Buffer): Promise<void> {
  for (let start = 0; start < tar.length; start += 200_000) {
    const end = Math.min(tar.length, start + 200_000);
    expect((await readTar(digest, start, end)).equals(tar.subarray(start, end)), `from ${start}`).toBe(true);
  }
}

/** Resolves when the layer is stored and indexed. */
async function waitForIndex(digest: Digest): Promise<void> {
  const answer = await get(`_soci/layers/${digest}/spans`);
  expect(answer.status).toBe(200);
  await answer.arrayBuffer();
}

async function makeIndex(): Promise<{ ztoc: Digest }> {
  await waitForIndex(layer.digest);
  const { ztoc } = (await (await get(`_soci/layers/${layer.digest}`)).json()) as { ztoc: { digest: Digest } };
  return { ztoc: ztoc.digest };
}

/** The digest of a tag for a lazy client. */
async function lazyTag(): Promise<Digest> {
  const answer = await get('manifests/latest', { accept: OCI, 'user-agent': CONTAINERD });
  expect(answer.status).toBe(200);
  await answer.arrayBuffer();
  return (answer.headers.get('docker-content-digest') ?? '') as Digest;
}

function blobBytesSent(digest: Digest): number {
  return [...upstream.requests].filter(({ method, path }) => method === 'GET' && path.endsWith(digest))
    .length;
}

describe('a span of a stored blob that has gone bad', () => {
  it.each(['gzip', 'zstd'] as const)(
    'a damaged span of a stored %s blob condemns the blob, and the reader gets the right bytes',
    async (compression) => {
      const bytes = compression === 'gzip' ? layer.packed : zstdCompressSync(layer.tar);
      const digest = digestOf(bytes);
      await upstream.addBlob('app', new Uint8Array(bytes), digest);
      await waitForIndex(digest);
      await rot(storedPath(root, 'blobs', digest), 300_000);
      upstream.requests.clear();
      await expectTar(digest, layer.tar);
      expect(await app.metric(ROTTEN_BLOBS)).toBe(1);
      expect(blobBytesSent(digest)).toBeGreaterThan(0);
      upstream.requests.clear();
      await expectTar(digest, layer.tar);
      expect(blobBytesSent(digest)).toBe(0);
      expect(await app.metric('spandrel_index_builds_total{outcome="failed"}')).toBe(0);
    },
  );

  it('a damaged span is a clear error while the upstream is away, and right once it is back', async () => {
    await makeIndex();
    await rot(storedPath(root, 'blobs', layer.digest), 300_000);
    upstream.faults.set([{ match: {}, action: { kind: 'reset' } }]);
    const answers = await Promise.all(
      Array.from({ length: 11 }, (_, place) => {
        const start = place * 50_000;
        return get(`_soci/layers/${layer.digest}/tar`, { range: `bytes=${start}-${start + 49_999}` });
      }),
    );
    expect(answers.some(({ status }) => status === 502)).toBe(true);
    for (const [place, answer] of answers.entries()) {
      const start = place * 50_000;
      // After its head, a response can only be cut off.
      const body = await answer.arrayBuffer().catch(() => undefined);
      if (body === undefined) continue;
      if (answer.status === 502) expect(Buffer.from(body).toString()).toContain('UPSTREAM_UNREACHABLE');
      else expect(Buffer.from(body).equals(layer.tar.subarray(start, start + 50_000))).toBe(true);
    }
    upstream.faults.set([]);
    await expectTar(layer.digest, layer.tar);
  });

  it('two hundred concurrent reads of a damaged span fetch the blob once', async () => {
    await makeIndex();
    await rot(storedPath(root, 'blobs', layer.digest), 300_000);
    upstream.requests.clear();
    const reads = Array.from({ length: 200 }, async (_, reader) => {
      const start = reader * 5000;
      return (await readTar(layer.digest, start, start + 5000)).equals(
        layer.tar.subarray(start, start + 5000),
      );
    });
    expect(new Set(await Promise.all(reads))).toEqual(new Set([true]));
    expect(await app.metric(ROTTEN_BLOBS)).toBe(1);
  });
});

describe('an index that has gone bad', () => {
  it('a damaged index is rebuilt once, and its blob stays', async () => {
    // Swaps the indexes of two layers that differ only in content.
    const stored = (tar: Buffer): Buffer => gzipSync(tar, { level: 0 });
    const [mine, other] = [packedLayer(5, LAYER_BYTES, stored), packedLayer(6, LAYER_BYTES, stored)];
    expect(mine.packed.length).toBe(other.packed.length);
    for (const { packed, tar, digest } of [mine, other]) {
      await upstream.addBlob('app', new Uint8Array(packed), digest);
      await waitForIndex(digest);
      await expectTar(digest, tar);
    }
    await restart(async () => {
      const wrong = await indexAs(
        storedPath(root, 'indexes/layers', other.digest),
        other.digest,
        mine.digest,
      );
      await writeFile(storedPath(root, 'indexes/layers', mine.digest), wrong);
    });
    upstream.requests.clear();
    await expectTar(mine.digest, mine.tar);
    await waitForIndex(mine.digest);
    expect(await app.metric(ROTTEN_BLOBS)).toBe(0);
    expect(await app.metric(BUILT)).toBe(1);
    expect(blobBytesSent(mine.digest)).toBe(0);
    await expectTar(mine.digest, mine.tar);
    expect(await app.metric(BUILT)).toBe(1);
  });

  it.each([
    ['its trailer', (path: string) => truncate(path, 100)],
    ['its footer', (path: string) => rotFromEnd(path, 60)],
    [
      'all of it, for a folder',
      async (path: string) => {
        await rm(path);
        await mkdir(join(path, 'x'), { recursive: true });
      },
    ],
  ])('an index damaged in %s is rebuilt', async (_, spoil) => {
    await makeIndex();
    await restart(() => spoil(storedPath(root, 'indexes/layers', layer.digest)));
    await expectTar(layer.digest, layer.tar);
    await waitForIndex(layer.digest);
    expect(await app.metric(BUILT)).toBe(1);
    await restart();
    await expectTar(layer.digest, layer.tar);
    expect(await app.metric(BUILT)).toBe(0);
  });

  it.each([
    ['damaged', (path: string) => rotFromEnd(path, 60)],
    ['cut', (path: string) => truncate(path, 100)],
    ['removed', (path: string) => rm(path)],
  ])('damage to an open index does not hide the files of an image: %s', async (_, spoil) => {
    const lower = seededGzipLayer(2, LAYER_BYTES);
    await addPackedImage(upstream, 'app', 'latest', [lower, layer]);
    for (const { digest } of [lower, layer]) await waitForIndex(digest);
    for (const { digest } of [lower, layer]) await spoil(storedPath(root, 'indexes/layers', digest));
    upstream.requests.clear();
    const answer = await get('_soci/images/latest/files/text-2');
    expect(answer.status).toBe(200);
    expect(Buffer.from(await answer.arrayBuffer()).equals(Buffer.alloc(LAYER_BYTES / 2, 'text '))).toBe(true);
    expect(await app.metric(BUILT)).toBe(4);
    for (const { digest } of [lower, layer]) expect(blobBytesSent(digest)).toBe(0);
  });

  it('an index is never built from a damaged blob: the blob is fetched again first', async () => {
    const expected = await makeIndex();
    await restart(() => rm(join(root, 'indexes'), { recursive: true }));
    await rot(storedPath(root, 'blobs', layer.digest), 300_000);
    expect(await makeIndex()).toEqual(expected);
    await expectTar(layer.digest, layer.tar);
    expect(await app.metric(ROTTEN_BLOBS)).toBe(1);
  });
});

describe('what the proxy has made and given out', () => {
  beforeEach(async () => {
    await app[Symbol.asyncDispose]();
    await start({ SPANDREL_CACHE_MEMORY_BYTES: '64MiB' });
  });

  it.each(['rotten', 'gone', 'a folder'])('a zTOC that is %s in the store is made again', async (how) => {
    const { ztoc } = await makeIndex();
    await lazyTag();
    const path = storedPath(root, 'indexes/ztocs', ztoc);
    for (const isFresh of [false, true]) {
      if (isFresh) await restart();
      if (how === 'rotten') await rot(path, 50);
      else await rm(path, { recursive: true });
      if (how === 'a folder') await mkdir(join(path, 'x'), { recursive: true });
      const answer = await get(`blobs/${ztoc}`);
      expect(answer.status).toBe(200);
      expect(digestOf(Buffer.from(await answer.arrayBuffer()))).toBe(ztoc);
      const plain = await get(`blobs/${ztoc}`, { 'accept-encoding': 'identity' });
      expect(digestOf(Buffer.from(await plain.arrayBuffer()))).toBe(ztoc);
    }
  });

  it.each([
    ['in its bytes', 200],
    ['in its media type', 5],
    ['gone', undefined],
  ])('a derived manifest that is wrong %s in the store is made again', async (_, position) => {
    await makeIndex();
    const digest = await lazyTag();
    const path = storedPath(root, 'manifests', digest);
    for (const isFresh of [false, true]) {
      if (isFresh) await restart();
      if (position === undefined) await rm(path);
      else await rot(path, position);
      const answer = await get(`manifests/${digest}`);
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe('application/vnd.oci.image.manifest.v1+json');
      expect(digestOf(Buffer.from(await answer.arrayBuffer()))).toBe(digest);
    }
  });
});

/** The file of an index that claims to be of another layer. */
async function indexAs(path: string, from: Digest, to: Digest): Promise<Buffer> {
  const file = Buffer.from((await readFile(path)).toString('latin1').replaceAll(from, to), 'latin1');
  const trailer = file.subarray(-32);
  const start = trailer.readDoubleLE(16);
  trailer.writeUInt32LE(crc32(file.subarray(start, start + trailer.readDoubleLE(24))), 12);
  return file;
}

async function rotFromEnd(path: string, bytes: number): Promise<void> {
  await rot(path, (await readFile(path)).length - bytes);
}
