import { gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { MemoryCache } from '../../src/cache/memory-cache.ts';
import { digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { markAuthorized } from '../../src/layers/layer.ts';
import { LayerReader } from '../../src/spans/layer-reader.ts';
import type { ReadSpan } from '../../src/ztoc/span.ts';
import { SpanCache } from '../../src/spans/span-cache.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import {
  addPackedImage,
  packedLayer,
  type PackedLayer,
  seededGzipLayer,
} from '../helpers/images/packed-image.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { makeSecret } from '../helpers/secrets.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { buildFromBytes } from '../helpers/layers/built-layer.ts';

const MIB = 2 ** 20;
const PATIENCE = { timeout: 20_000 };
const INFLATED = 'spandrel_inflate_bytes_total{engine="wasm"}';

let upstream: ScriptedRegistry;
const SHARED_KEY = makeSecret('shared key');
let redis: RedisServer;
let layer: PackedLayer;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  redis = cleanup.use(await RedisServer.start());
});

/** Compressions in which a changed byte changes only a byte of a file. */
const STORED = {
  gzip: (tar) => gzipSync(tar, { level: 0 }),
  // Noise stays uncompressed.
  zstd: (tar) => zstdCompressSync(tar),
  none: (tar) => tar,
} satisfies Record<string, (tar: Buffer) => Buffer>;

/** An image of one layer, which arrives in order, a MiB per request. */
async function startApp(pack: (tar: Buffer) => Buffer): Promise<{ app: RunningApp; url: string }> {
  layer = packedLayer(1, 24 * MIB, pack);
  await addPackedImage(upstream, 'app', 'latest', [layer]);
  return startReplica();
}

async function startReplica(): Promise<{ app: RunningApp; url: string }> {
  const app = await proxyWith(upstream, {
    environment: {
      SPANDREL_FILL_CHUNK_BYTES: '1MiB',
      SPANDREL_FILL_PARALLEL: '1',
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_CACHE_REDIS_URL: redis.url,
      SPANDREL_CACHE_REDIS_KEY: SHARED_KEY,
      SPANDREL_UPSTREAM_RETRIES: '0',
    },
  });
  await (await fetch(`${app.url}/v2/up/app/manifests/latest`)).arrayBuffer();
  return { app, url: `${app.url}/v2/up/app` };
}

/** Until it is repaired, the upstream sends a wrong byte and withholds the last chunk. */
function corrupt(atByte: number): { release: () => void; mend: () => void } {
  const released = Promise.withResolvers<void>();
  cleanup.defer(released.resolve);
  const ofBlob = ({ path }: { path: string }): boolean => path.endsWith(layer.digest);
  const endOf = (range = ''): number => Number(/-(\d+)$/.exec(range)?.[1] ?? 0) + 1;
  upstream.faults.set([
    {
      match: (request) => ofBlob(request) && endOf(request.range) === layer.packed.length,
      action: { kind: 'hold', until: released.promise },
    },
    { match: ofBlob, action: { kind: 'corrupt', atByte } },
  ]);
  return { release: released.resolve, mend: () => upstream.faults.set([]) };
}

async function readTar(url: string, start: number, end: number): Promise<Buffer> {
  const answer = await fetch(`${url}/_soci/layers/${layer.digest}/tar`, {
    headers: { range: `bytes=${start}-${end - 1}` },
  });
  expect(answer.status).toBe(206);
  return Buffer.from(await answer.arrayBuffer());
}

/** Resolves when the fill is known to be another blob. */
async function fillFailed(app: RunningApp): Promise<void> {
  const failed = (): Promise<number> => app.metric('spandrel_fills_total{outcome="corrupt"}');
  await expect.poll(failed, PATIENCE).toBe(1);
}

async function redisSpans(): Promise<number> {
  return Number(/^\*(\d+)/.exec(await redis.command('KEYS spandrel:1:*:span:*'))?.[1]);
}

describe('what comes from a fill that turns out to be another blob', () => {
  it.each(['gzip', 'zstd', 'none'] as const)(
    'spans of a fill that is another blob are dropped: the %s layer is read right from then on, also on another replica',
    async (how) => {
      const { app, url } = await startApp(STORED[how]);
      const { release, mend } = corrupt(400_000);
      const early = await readTar(url, 350_000, 450_000);
      expect(early.equals(layer.tar.subarray(350_000, 450_000))).toBe(false);
      expect(await redisSpans()).toBe(0);
      release();
      await fillFailed(app);
      expect(await redisSpans()).toBe(0);

      mend();
      const again = await readTar(url, 350_000, 450_000);
      expect(again.equals(layer.tar.subarray(350_000, 450_000))).toBe(true);
      const blob = await fetch(`${url}/blobs/${layer.digest}`);
      expect(digestOf(Buffer.from(await blob.arrayBuffer()))).toBe(layer.digest);
      await (await fetch(`${url}/_soci/layers/${layer.digest}/spans`)).arrayBuffer();
      const other = await startReplica();
      for (const from of [url, other.url]) {
        for (let start = 0; start < MIB; start += 50_000) {
          const end = start + 50_000;
          expect((await readTar(from, start, end)).equals(layer.tar.subarray(start, end))).toBe(true);
        }
      }
      expect(await other.app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
      expect(await other.app.metric('spandrel_index_builds_total{outcome="readable"}')).toBe(0);
    },
  );

  it.each(['tar', 'file', 'blob'] as const)(
    'a reader of a %s from a fill that is another blob never sees a clean end',
    async (kind) => {
      const { app, url } = await startApp(STORED.gzip);
      const { release } = corrupt(400_000);
      // More than the connection buffers, and not the end of the blob, which is withheld anyway.
      const path = { tar: '/tar', file: '/files/noise-1', blob: '' }[kind];
      const soci = kind === 'blob' ? `blobs/${layer.digest}` : `_soci/layers/${layer.digest}${path}`;
      const bytes = 11 * MIB;
      const answer = await fetch(`${url}/${soci}`, { headers: { range: `bytes=1024-${1024 + bytes - 1}` } });
      expect(answer.status).toBe(206);
      const body = answer.body?.getReader();
      await body?.read();
      release();
      await fillFailed(app);
      const readAll = async (): Promise<void> => {
        while (!(await body?.read())?.done);
      };
      await expect(readAll()).rejects.toThrow(/terminated/);
    },
  );

  it('spans of a verified blob are kept, not decompressed again, and shared with replicas', async () => {
    const { app, url } = await startApp(gzipSync);
    const answer = await fetch(`${url}/_soci/layers/${layer.digest}/tar`);
    expect(Buffer.from(await answer.arrayBuffer()).equals(layer.tar)).toBe(true);
    await (await fetch(`${url}/_soci/layers/${layer.digest}/spans`)).arrayBuffer();
    const before = await app.metric(INFLATED);
    const range = [5 * MIB, 6 * MIB] as const;
    expect((await readTar(url, ...range)).equals(layer.tar.subarray(...range))).toBe(true);
    expect(await app.metric(INFLATED)).toBe(before);
    await expect.poll(redisSpans, PATIENCE).toBeGreaterThan(40);
    const other = await startReplica();
    expect((await readTar(other.url, ...range)).equals(layer.tar.subarray(...range))).toBe(true);
    expect(await other.app.metric(INFLATED)).toBe(0);
  });
});

describe('SpanCache', () => {
  async function open(): Promise<{
    memory: MemoryCache;
    cache: SpanCache;
    wanted: Parameters<SpanCache['find']>[0];
    bytes: Buffer;
  }> {
    layer = seededGzipLayer(5, MIB);
    const built = cleanup.use(await buildFromBytes(layer.packed, { compression: 'gzip', spanBytes: 65_536 }));
    const [span] = await built.index.readSpans({ start: 0, end: 1 });
    if (span === undefined) throw new Error('the layer has spans');
    const memory = new MemoryCache({ maxBytes: 16 * MIB, events: new Events(collectingLogger()) });
    const cache = new SpanCache({ memory, shared: undefined });
    const bytes = Buffer.from(layer.tar.subarray(span.uncompressed.start, span.uncompressed.end));
    return { memory, cache, wanted: { layer: layer.digest, index: built.index, span }, bytes };
  }

  it("SpanCache checks hits in memory against the reader's index, and drops wrong ones", async () => {
    const { memory, cache, wanted, bytes } = await open();
    await cache.keep(wanted, bytes);
    expect((await cache.find(wanted))?.bytes).toEqual(bytes);
    const otherIndex = { ...wanted, span: { ...wanted.span, crc32: wanted.span.crc32 ^ 1 } };
    expect(await cache.find(otherIndex)).toBeUndefined();
    expect(await cache.find(wanted)).toBeUndefined();
    const wrong = Buffer.from(bytes);
    wrong[100] = (wrong[100] ?? 0) ^ 1;
    await cache.keep(wanted, wrong);
    expect(await cache.find(wanted)).toBeUndefined();
    expect(memory.sizeBytes).toBe(0);
  });

  it.each([true, false])(
    'SpanCache keeps spans of an unverified build for that build only, until its end (verified: %s)',
    async (isRight) => {
      const { memory, cache, wanted, bytes } = await open();
      const end = Promise.withResolvers<typeof wanted.index>();
      let unverifiedBuild: string | undefined = 'one';
      const building = new Proxy(wanted.index, {
        get: (index, name) => {
          if (name === 'unverifiedBuild') return unverifiedBuild;
          return name === 'finished' ? () => end.promise : Reflect.get(index, name);
        },
      });
      await cache.keep({ ...wanted, index: building }, bytes);
      expect((await cache.find({ ...wanted, index: building }))?.bytes).toEqual(bytes);
      expect(await cache.find(wanted)).toBeUndefined();
      if (isRight) {
        unverifiedBuild = undefined;
        end.resolve(wanted.index);
        await expect.poll(async () => (await cache.find(wanted))?.bytes, PATIENCE).toEqual(bytes);
      } else {
        end.reject(new Error('another blob'));
        await expect.poll(() => memory.sizeBytes, PATIENCE).toBe(0);
        expect(await cache.find(wanted)).toBeUndefined();
      }
    },
  );
});

describe('LayerReader', () => {
  it.each([1, 3])(
    'gives nothing more, and no end, once the build that it reads by is refuted (after %i of 3 spans)',
    async (taken) => {
      layer = seededGzipLayer(6, MIB);
      const built = cleanup.use(
        await buildFromBytes(layer.packed, { compression: 'gzip', spanBytes: 65_536 }),
      );
      const spans = (await built.index.readSpans({ start: 0, end: MIB })).slice(0, 3);
      const range = { start: 0, end: spans.at(-1)?.uncompressed.end ?? 0 };
      const refuted = new AbortController();
      const index = new Proxy(built.index, {
        get: (target, name) => {
          if (name === 'readSpans') return () => Promise.resolve(spans);
          return name === 'assertSound' ? () => refuted.signal.throwIfAborted() : Reflect.get(target, name);
        },
      });
      const bytesOf = ({ uncompressed: { start, end } }: ReadSpan): Buffer => layer.tar.subarray(start, end);
      const reader = new LayerReader({
        blobs: { readBlob: () => Promise.reject(new Error('spans are all that is read')) },
        fetcher: {
          fetch: () => spans.map((span) => Promise.resolve({ span, bytes: bytesOf(span), source: 'fill' })),
        },
        readAhead: { note: () => undefined },
        maxSkippedBytes: 0,
        events: new Events(collectingLogger()),
      });
      const source = { origin: 'test', fetch: () => Promise.reject(new Error('not asked')) };
      const { signal } = new AbortController();
      const reading = reader.read(markAuthorized({ digest: layer.digest, source }), index, {
        range,
        reading: reader.beginRequest('a', signal),
      });
      for (const span of spans.slice(0, taken)) expect((await reading.next()).value).toEqual(bytesOf(span));
      const refutation = new SpandrelError('BLOB_CORRUPT', 'another blob');
      refuted.abort(refutation);
      await expect(reading.next()).rejects.toBe(refutation);
    },
  );
});
