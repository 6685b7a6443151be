import { beforeAll, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { runProgram } from '../helpers/programs.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const MIB = 2 ** 20;
const SEED = 5;
/** Two frames' worth of spans, in one frame. */
const FILE = Buffer.concat(Array.from({ length: 40 }, (_, place) => randomBlob(MIB / 2, place)));
const TAR = tarArchive({ file: FILE });
const MAX_SKIPPED = 24 * MIB;
const INFLATED = 'spandrel_inflate_bytes_total{engine="zstd"}';

let app: RunningApp;
let oneFrame: Digest;
let manyFrames: Digest;

beforeAll(async () => {
  const upstream = cleanup.use(await ImageUpstream.start());
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+zstd';
  const pack = async (parts: readonly Buffer[]): Promise<Buffer> =>
    Buffer.concat(await Promise.all(parts.map((input) => runProgram('zstd', ['-1', '-c'], { input }))));
  const frames = Array.from({ length: Math.ceil(TAR.length / MIB) }, (_, at) =>
    TAR.subarray(at * MIB, (at + 1) * MIB),
  );
  const layers = [await pack([TAR]), await pack(frames)];
  const images = layers.map((bytes) => ({ bytes, mediaType, diffId: digestOf(TAR) }));
  [oneFrame = digestOf(''), manyFrames = digestOf('')] = await upstream.addImage('app', images);
  app = await proxyWith(upstream, {
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      // Nothing is remembered of a read, so that each costs what it costs.
      SPANDREL_CACHE_MEMORY_BYTES: '1MiB',
      SPANDREL_LIMITS_MAX_SKIPPED_BYTES: String(MAX_SKIPPED),
      SPANDREL_SPANS_THREADS: '1',
    },
  });
  await fetch(`${app.url}/v2/app/manifests/latest`);
  // The indexes are there when their spans can be listed.
  for (const digest of [oneFrame, manyFrames])
    await (await fetch(`${app.url}/v2/app/_soci/layers/${digest}/spans`)).arrayBuffer();
});

function read(digest: Digest, range?: string): Promise<Response> {
  const headers = range === undefined ? {} : { range: `bytes=${range}` };
  return fetch(`${app.url}/v2/app/_soci/layers/${digest}/files/file`, { headers });
}

/** Ends anything that has been kept of the frame: what lies behind a kept place is reached from there. */
async function readStart(): Promise<void> {
  expect((await read(oneFrame, '0-0')).status).toBe(206);
}

describe('a large zstd frame', () => {
  it('is read in order without being decoded again for each part', async () => {
    await readStart();
    const before = await app.metric(INFLATED);
    const response = await read(oneFrame);
    expect(Buffer.from(await response.arrayBuffer()).equals(FILE)).toBe(true);
    expect((await app.metric(INFLATED)) - before).toBeLessThanOrEqual(FILE.length + 8 * MIB);
  });

  it('gives single ranges wherever they lie, byte for byte', async () => {
    const random = seededRandom(SEED);
    for (let round = 0; round < 12; round++) {
      const start = Math.floor(random() * (FILE.length - 1000));
      const end = start + 1 + Math.floor(random() * 999);
      const response = await read(oneFrame, `${start}-${end - 1}`);
      expect(response.status, `seed ${SEED}, ${start}`).toBe(206);
      expect(Buffer.from(await response.arrayBuffer()).equals(FILE.subarray(start, end))).toBe(true);
    }
  });

  it('is not decoded for one request beyond the limit: steps back end with an error', async () => {
    await readStart();
    const ranges = Array.from({ length: 10 }, (_, at) => FILE.length - (2 * at + 1) * MIB);
    const refused = await read(oneFrame, ranges.map((start) => `${start}-${start + 9}`).join(','));
    expect(await refused.json()).toMatchObject({ errors: [{ code: 'RANGE_TOO_COSTLY' }] });
    // Another request has its own allowance.
    const response = await read(oneFrame, `${MIB}-${MIB + 9}`);
    expect(Buffer.from(await response.arrayBuffer()).equals(FILE.subarray(MIB, MIB + 10))).toBe(true);
  });

  it('costs nothing where frames are small', async () => {
    const ranges = Array.from({ length: 10 }, (_, at) => FILE.length - (2 * at + 1) * MIB);
    const response = await read(manyFrames, ranges.map((start) => `${start}-${start + 9}`).join(','));
    const body = Buffer.from(await response.arrayBuffer());
    for (const start of ranges) expect(body.includes(FILE.subarray(start, start + 10))).toBe(true);
  });
});

describe('a range that costs more than the limit', () => {
  it('is a clear error, and changes nothing for ranges that cost less', async () => {
    await using small = await proxyWith(app, {
      environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_LIMITS_MAX_SKIPPED_BYTES: '1MiB' },
    });
    const ask = (range: string): Promise<Response> =>
      fetch(`${small.url}/v2/app/_soci/layers/${oneFrame}/files/file`, {
        headers: { range: `bytes=${range}` },
      });
    expect((await fetch(`${small.url}/v2/app/_soci/layers/${oneFrame}/spans`)).status).toBe(200);
    const refused = await ask(`${FILE.length - 10}-`);
    expect(refused.status).toBe(422);
    expect(await refused.json()).toMatchObject({ errors: [{ code: 'RANGE_TOO_COSTLY' }] });
    const near = await ask('5-9');
    expect(Buffer.from(await near.arrayBuffer())).toEqual(FILE.subarray(5, 10));
  });
});
