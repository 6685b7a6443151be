import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { DigestFiles } from '../../src/blobs/shelves/digest-files.ts';
import type { Digest } from '../../src/core/digest.ts';
import type { DemoImage } from '../../src/demo/demo-image.ts';
import type { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { LayerIndex } from '../../src/index/layer-index.ts';
import type { ReadSpan } from '../../src/ztoc/span.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { startDemoRegistry } from '../helpers/upstreams/demo-upstream.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const SEED = 61;
const KIB = 1024;
const SMALL_BYTES = 4 * KIB;
/** A read span, up to the end of its last block. */
const MAX_INFLATED_BYTES = 512 * KIB;
/** Unit in which blobs are stored and fetched. */
const PIECE_BYTES = 64 * KIB;
const INFLATED = 'spandrel_inflate_bytes_total{engine="wasm"}';

let upstream: ScriptedRegistry & { image: DemoImage };
let root: string;
let app: RunningApp;
let digest: Digest;
let tar: Buffer;
let spans: readonly ReadSpan[];

beforeAll(async () => {
  upstream = cleanup.use(await startDemoRegistry());
  root = await temporaryFolder();
  digest = (upstream.image.layers[0]?.digest ?? '') as Digest;
  tar = gunzipSync(upstream.image.blobs.find((blob) => blob.digest === digest)?.bytes ?? new Uint8Array(0));
  await using first = await start();
  await fetch(`${first.url}/v2/demo/app/_soci/layers/${digest}/spans`);
  const index = await LayerIndex.open(new DigestFiles(join(root, 'indexes', 'layers')).path(digest));
  spans = await index.readSpans({ start: 0, end: tar.length });
});

beforeEach(async () => {
  app = cleanup.use(await start());
});

/** With the stored index, except the first time, and an empty memory cache. */
function start(): Promise<RunningApp> {
  const upstreams = [{ name: 'demo', url: upstream.url }];
  const environment = { SPANDREL_FILL_BACKGROUND: 'false' };
  return RunningApp.start({ upstreams, environment, root });
}

/** Only the index stays. */
async function forgetBlob(): Promise<void> {
  const { status } = await fetch(`${app.adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' });
  if (status !== 204) throw new Error(`the blob stays: ${status}`);
  upstream.requests.clear();
}

async function read(start: number, end: number): Promise<void> {
  const response = await fetch(`${app.url}/v2/demo/app/_soci/layers/${digest}/tar`, {
    headers: { range: `bytes=${start}-${end - 1}` },
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  expect(bytes.equals(tar.subarray(start, end)), `bytes ${start} to ${end}, seed ${SEED}`).toBe(true);
}

function blobRequests(): (string | undefined)[] {
  return [...upstream.requests]
    .filter(({ method, path }) => method === 'GET' && path.includes('/blobs/'))
    .map(({ range }) => range);
}

describe('a small read of a gzip layer', () => {
  it('a small read of a gzip layer costs one upstream range and read span cold, nothing warm', async () => {
    await forgetBlob();
    const span = spans[Math.floor(spans.length / 2)];
    if (span === undefined) throw new Error('the layer has no spans');
    const start = span.uncompressed.start + 1000;
    const before = await app.metric(INFLATED);
    await read(start, start + SMALL_BYTES);
    const { start: first, end } = span.compressed;
    const pieces = { start: first - (first % PIECE_BYTES), end: Math.ceil(end / PIECE_BYTES) * PIECE_BYTES };
    expect(blobRequests()).toEqual([`bytes=${pieces.start}-${pieces.end - 1}`]);
    const inflated = (await app.metric(INFLATED)) - before;
    expect(inflated).toBe(span.uncompressed.end - span.uncompressed.start);
    expect(inflated).toBeLessThan(MAX_INFLATED_BYTES);

    upstream.requests.clear();
    await read(start + 5000, start + 5000 + SMALL_BYTES);
    expect(blobRequests()).toEqual([]);
    expect((await app.metric(INFLATED)) - before).toBe(inflated);
    expect(await app.metric('spandrel_span_reads_total{source="memory"}')).toBe(1);
  });

  it('small reads of a gzip layer return the right bytes at all edges of read spans', async () => {
    expect(spans.length).toBeGreaterThan(40);
    for (const { uncompressed } of spans) {
      const { start, end } = uncompressed;
      await read(Math.max(0, start - 1), start + 1);
      await read(end - 1, Math.min(tar.length, end + 1));
    }
    const random = seededRandom(SEED);
    for (let round = 0; round < 100; round++) {
      const start = Math.floor(random() * (tar.length - 1));
      const length = 1 + Math.floor(random() ** 3 * Math.min(9e6, tar.length - start - 1));
      await read(start, start + length);
    }
  });
});

describe('a read that finds the store damaged', () => {
  it('a read that finds a damaged window has the index rebuilt, and returns the right bytes', async () => {
    const path = new DigestFiles(join(root, 'indexes', 'layers')).path(digest);
    const whole = await readFile(path);
    const span = spans.at(-1);
    const index = LayerIndex.fromBytes(whole);
    if (span === undefined) throw new Error('the layer has no spans');
    const { fileOffset, bytes } = index.window(span).record;
    expect(bytes).toBeGreaterThan(0);
    await writeFile(path, Buffer.from(whole).fill(0xff, fileOffset, fileOffset + bytes));
    const { start } = span.uncompressed;
    // Two concurrent spans, one rebuild; other readers notice nothing.
    await Promise.all([read(0, 10), read(start, start + 10), read(start + 20, start + 30)]);
    expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(1);
    expect((await readFile(path)).equals(whole)).toBe(true);
    await read(start - 10, start + 10);
    expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(1);
  });

  it('a read that finds a truncated blob fetches it again', async () => {
    await (await fetch(`${app.url}/v2/demo/app/blobs/${digest}`)).arrayBuffer();
    const hex = digest.slice('sha256:'.length);
    await truncate(join(root, 'blobs', 'sha256', hex.slice(0, 2), hex), 100_000);
    upstream.requests.clear();
    await read(tar.length - 100_000, tar.length);
    expect(blobRequests().length).toBeGreaterThan(0);
  });
});

describe('reads that go on', () => {
  it('a long read gets its spans in a few pieces, and decodes each once', async () => {
    await forgetBlob();
    const before = await app.metric(INFLATED);
    const last = spans.findIndex(({ uncompressed }) => uncompressed.end > 9e6);
    await Promise.all([read(0, 9e6), read(0, 9e6), read(0, 9e6)]);
    expect(last).toBeGreaterThan(20);
    expect(blobRequests().length).toBeLessThan(8);
    expect((await app.metric(INFLATED)) - before).toBe(spans[last]?.uncompressed.end);
  });

  it('sequential reads are fetched ahead, others are not', async () => {
    await forgetBlob();
    const before = await app.metric(INFLATED);
    const random = seededRandom(SEED);
    for (let round = 0; round < 8; round++) {
      const start = Math.floor(random() * (tar.length - SMALL_BYTES));
      await read(start, start + SMALL_BYTES);
    }
    // At most two spans each: nothing was fetched ahead.
    expect((await app.metric(INFLATED)) - before).toBeLessThan(16 * MAX_INFLATED_BYTES);
    const ranges = blobRequests().length;
    expect(ranges).toBeLessThanOrEqual(8);

    await forgetBlob();
    const step = 64 * KIB;
    for (let start = 0; start < 8e6; start += step) await read(start, start + step);
    const covered = spans.filter(({ uncompressed }) => uncompressed.start < 8e6).length;
    expect(blobRequests().length).toBeLessThan(covered / 2);
  });
});
