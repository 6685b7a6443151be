import { gunzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import type { DemoImage } from '../../src/demo/demo-image.ts';
import type { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { startDemoRegistry } from '../helpers/upstreams/demo-upstream.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const MIB = 2 ** 20;
const INFLATED = 'spandrel_inflate_bytes_total{engine="wasm"}';
const FROM_REDIS = 'spandrel_span_reads_total{source="redis"}';

let upstream: ScriptedRegistry & { image: DemoImage };

beforeEach(async () => {
  upstream = cleanup.use(await startDemoRegistry());
});

async function startApp(environment: Record<string, string> = {}, root?: string): Promise<RunningApp> {
  return proxyWith(upstream, { upstream: { name: 'demo' }, environment, ...(root && { root }) });
}

function baseLayer(): { digest: string; tar: Buffer } {
  const digest = upstream.image.layers[0]?.digest ?? '';
  return {
    digest,
    tar: gunzipSync(upstream.image.blobs.find((blob) => blob.digest === digest)?.bytes ?? new Uint8Array(0)),
  };
}

async function getBytes(
  url: string,
  range?: string,
): Promise<{ status: number; contentRange: string | null; bytes: Buffer }> {
  const response = await fetch(url, range === undefined ? {} : { headers: { range } });
  return {
    status: response.status,
    contentRange: response.headers.get('content-range'),
    bytes: Buffer.from(await response.arrayBuffer()),
  };
}

describe('the first read of a layer', () => {
  it('the first read of a layer returns once its bytes are decompressed, before the whole blob', async () => {
    const { digest, tar } = baseLayer();
    const rest = Promise.withResolvers<void>();
    const isLate = (range: string | undefined): boolean =>
      Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0) >= 6 * MIB;
    upstream.faults.add({
      match: ({ path, range }) => path.includes('/blobs/') && isLate(range),
      action: { kind: 'hold', until: rest.promise },
    });
    const app = await startApp({ SPANDREL_FILL_CHUNK_BYTES: '1MiB', SPANDREL_FILL_PARALLEL: '8' });
    const layer = `${app.url}/v2/demo/app/_soci/layers/${digest}`;

    const head = await getBytes(`${layer}/tar`, 'bytes=1000-1999');
    expect(head).toMatchObject({ status: 206, contentRange: 'bytes 1000-1999/*' });
    expect(head.bytes.equals(tar.subarray(1000, 2000))).toBe(true);
    const file = await getBytes(`${layer}/files/etc/passwd`);
    expect(file.status === 200 || file.status === 404).toBe(true);
    expect(await (await fetch(layer)).json()).toMatchObject({ state: 'building' });

    rest.resolve();
    const whole = await getBytes(`${layer}/tar`);
    expect(whole.bytes.equals(tar)).toBe(true);
    expect(upstream.requests.bytesSent).toBeLessThan((upstream.image.layers[0]?.size ?? 0) + MIB);
  });
});

describe('spans', () => {
  it('spans are read at once while all build threads are busy', async () => {
    const [indexed, held, queued] = upstream.image.layers;
    if (indexed === undefined || held === undefined || queued === undefined)
      throw new Error('too few layers');
    const app = await startApp({
      SPANDREL_INDEX_THREADS: '1',
      SPANDREL_SPANS_THREADS: '1',
      SPANDREL_FILL_CHUNK_BYTES: '1MiB',
    });
    const layerUrl = (digest: string): string => `${app.url}/v2/demo/app/_soci/layers/${digest}`;
    const { tar } = baseLayer();
    const { spans } = (await (await fetch(`${layerUrl(indexed.digest)}/spans`)).json()) as {
      spans: { uncompressed: { start: number; end: number } }[];
    };
    const rest = Promise.withResolvers<void>();
    upstream.faults.add({
      match: ({ path, range }) => path.includes(held.digest) && /^bytes=[1-9]/.test(range ?? ''),
      action: { kind: 'hold', until: rest.promise },
    });
    const building = [held, queued].map(({ digest }) => fetch(`${layerUrl(digest)}/spans`));
    await expect
      .poll(async () => await (await fetch(layerUrl(held.digest))).json())
      .toMatchObject({ state: 'building' });
    for (const { uncompressed } of spans.slice(0, 4)) {
      const { start } = uncompressed;
      const read = await getBytes(`${layerUrl(indexed.digest)}/tar`, `bytes=${start}-${start + 99}`);
      expect(read.bytes.equals(tar.subarray(start, start + 100))).toBe(true);
    }
    expect(await (await fetch(layerUrl(held.digest))).json()).toMatchObject({ state: 'building' });
    rest.resolve();
    for (const response of await Promise.all(building)) expect(response.status).toBe(200);
  });

  it('concurrent readers of a span cause one decompression', async () => {
    const { digest, tar } = baseLayer();
    const app = await startApp();
    const layer = `${app.url}/v2/demo/app/_soci/layers/${digest}`;
    const { spans } = (await (await fetch(`${layer}/spans`)).json()) as {
      spans: { uncompressed: { start: number; end: number } }[];
    };
    const span = spans[3]?.uncompressed ?? { start: 0, end: 0 };
    const before = await app.metric(INFLATED);
    const reads = Array.from({ length: 60 }, async (_, reader) => {
      // All ranges overlap: a request that starts where another ended would be read ahead.
      const start = span.start + reader;
      return (await getBytes(`${layer}/tar`, `bytes=${start}-${start + 99}`)).bytes.equals(
        tar.subarray(start, start + 100),
      );
    });
    expect((await Promise.all(reads)).every(Boolean)).toBe(true);
    const inflated = (await app.metric(INFLATED)) - before;
    expect(inflated).toBeGreaterThan(256 * 1024);
    expect(inflated).toBeLessThan(512 * 1024);
    await getBytes(`${layer}/tar`, `bytes=${span.start}-${span.start}`);
    expect(await app.metric('spandrel_span_reads_total{source="memory"}')).toBeGreaterThan(0);
  });

  it('replicas with a shared key share spans through Redis, and ignore wrong ones', async () => {
    const redis = cleanup.use(await RedisServer.start());
    const { digest, tar } = baseLayer();
    const environment = {
      SPANDREL_CACHE_REDIS_URL: redis.url,
      SPANDREL_CACHE_REDIS_KEY: makeSecret('shared key'),
    };
    const path = `/v2/demo/app/_soci/layers/${digest}/tar`;
    const first = await startApp(environment);
    await readAndIndex(first, path, tar);
    await allShared(redis, '*:', tar);

    const second = await startApp(environment);
    expect((await getBytes(second.url + path)).bytes.equals(tar)).toBe(true);
    expect(await second.metric(INFLATED)).toBe(0);
    expect(await second.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
    expect(await second.metric(FROM_REDIS)).toBeGreaterThan(0);

    expect(await damageSpans(redis, '*:')).toBeGreaterThan(0);
    const third = await startApp(environment);
    expect((await getBytes(third.url + path)).bytes.equals(tar)).toBe(true);
    expect(await third.metric(INFLATED)).toBeGreaterThan(0);
    expect(await third.metric('spandrel_redis_errors_total{op="seal"}')).toBeGreaterThan(0);
  });

  it('without a key, replicas share spans once they can check them with their own index', async () => {
    const redis = cleanup.use(await RedisServer.start());
    const { digest, tar } = baseLayer();
    const environment = { SPANDREL_CACHE_REDIS_URL: redis.url };
    const path = `/v2/demo/app/_soci/layers/${digest}/tar`;
    const root = await temporaryFolder();
    const first = await startApp(environment, root);
    await readAndIndex(first, path, tar);
    await allShared(redis, '', tar);
    await first[Symbol.asyncDispose]();

    const second = await startApp(environment, root);
    expect((await getBytes(second.url + path)).bytes.equals(tar)).toBe(true);
    expect(await second.metric(INFLATED)).toBe(0);
    expect(await second.metric(FROM_REDIS)).toBeGreaterThan(0);
    await second[Symbol.asyncDispose]();

    expect(await damageSpans(redis, '')).toBeGreaterThan(0);
    const third = await startApp(environment, root);
    expect((await getBytes(third.url + path)).bytes.equals(tar)).toBe(true);
    expect(await third.metric(INFLATED)).toBeGreaterThan(0);
  });
});

async function readAndIndex({ url }: RunningApp, path: string, tar: Buffer): Promise<void> {
  expect((await getBytes(url + path)).bytes.equals(tar)).toBe(true);
  await (await fetch(url + path.replace(/tar$/, 'spans'))).arrayBuffer();
}

async function spanKeys(redis: RedisServer, prefix: string): Promise<readonly string[]> {
  const listed = await redis.command(`KEYS spandrel:1:${prefix}span:*`);
  return Array.from(listed.matchAll(/spandrel:1:\S+/g), ([key]) => key);
}

/**
 * Replicas write to Redis after their responses. Spans do not overlap, and their keys end with their ranges.
 */
async function allShared(redis: RedisServer, prefix: string, tar: Buffer): Promise<void> {
  const sharedBytes = async (): Promise<number> => {
    const ranges = (await spanKeys(redis, prefix)).map((key) => /(\d+)-(\d+)$/.exec(key) ?? []);
    return ranges.reduce((sum, [, start, end]) => sum + Number(end) - Number(start), 0);
  };
  await expect.poll(sharedBytes, { timeout: 10_000 }).toBe(tar.byteLength);
}

/** @returns how many there are */
async function damageSpans(redis: RedisServer, prefix: string): Promise<number> {
  const keys = await spanKeys(redis, prefix);
  for (const key of keys) await redis.command(`SETRANGE ${key} 100 damaged`);
  return keys.length;
}
