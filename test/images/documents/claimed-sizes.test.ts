import { beforeEach, describe, expect, it } from 'vitest';

import type { Digest } from '../../../src/core/digest.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { gzipLayer, ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { tarArchive } from '../../helpers/layers/tar-blocks.ts';

const STORE_BYTES = 64 * 2 ** 20;
const FILE = randomBlob(300_000, 11);
const LAYER = gzipLayer(tarArchive({ file: FILE }));
const LENGTH = LAYER.bytes.length;

const CLAIMS: readonly [string, number][] = [
  ['nothing', 0],
  ['one byte less', LENGTH - 1],
  ['one byte more', LENGTH + 1],
  ['nearly all of the store', STORE_BYTES - 1024],
  ['more than any store has', 2 ** 52],
];

let upstream: ImageUpstream;
let app: RunningApp;
let digest: Digest;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  [digest = LAYER.diffId] = await upstream.addImage('honest/app', [LAYER]);
  app = await startApp();
});

function startApp(): Promise<RunningApp> {
  return proxyWith(upstream, {
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_STORAGE_MAX_BYTES: String(STORE_BYTES) },
  });
}

async function get(path: string, headers: Record<string, string> = {}): Promise<[number, Buffer]> {
  const response = await fetch(`${app.url}/v2/${path}`, { headers });
  return [response.status, Buffer.from(await response.arrayBuffer())];
}

/** Every way to read the layer returns its bytes. */
async function expectRight(repository: string): Promise<void> {
  const blob = `${repository}/blobs/${digest}`;
  expect(await get(blob)).toEqual([200, LAYER.bytes]);
  expect(await get(blob, { range: 'bytes=7-99' })).toEqual([206, LAYER.bytes.subarray(7, 100)]);
  expect(await get(`${repository}/_soci/layers/${digest}/files/file`)).toEqual([200, FILE]);
  const head = await fetch(`${app.url}/v2/${blob}`, { method: 'HEAD' });
  expect(Number(head.headers.get('content-length'))).toBe(LENGTH);
}

describe.each(CLAIMS)('a manifest that claims %s of a layer', (_, claimedBytes) => {
  beforeEach(async () => {
    await upstream.addImage('lying/app', [{ ...LAYER, claimedBytes }]);
  });

  it('a false size claim does not affect another repository while the layer is not stored', async () => {
    await get('honest/app/manifests/latest');
    await get('lying/app/manifests/latest');
    await expectRight('honest/app');
  });

  it('a false size claim does not affect another repository while the layer is stored', async () => {
    await get('honest/app/manifests/latest');
    await expectRight('honest/app');
    await get('lying/app/manifests/latest');
    await expectRight('honest/app');
  });

  it('a false size claim does not keep its own repository from the layer', async () => {
    await get('lying/app/manifests/latest');
    await expectRight('lying/app');
    await expectRight('honest/app');
  });

  it('a false size claim removes nothing from the store', async () => {
    const others = await upstream.addImage(
      'other/app',
      [1, 2, 3].map((seed) => gzipLayer(tarArchive({ file: randomBlob(2_000_000, seed) }))),
    );
    for (const other of others) await get(`other/app/blobs/${other}`);
    await get('lying/app/manifests/latest');
    await get(`lying/app/blobs/${digest}`);
    expect(await app.metric('spandrel_cache_evictions_total{tier="disk"}')).toBe(0);
  });
});
