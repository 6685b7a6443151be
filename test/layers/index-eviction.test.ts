import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { Digest } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const STORE_BYTES = 3 * 2 ** 20;
const IMAGES = 8;
const FOLDER = 'long-folder/'.repeat(7);

let upstream: ImageUpstream;
let app: RunningApp;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  app = await proxyWith(upstream, {
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_HOLD_MS: '0',
      SPANDREL_STORAGE_MAX_BYTES: String(STORE_BYTES),
    },
  });
});

/** An image of many small files, whose index is large for its layer. */
async function addImage(place: number): Promise<{ repository: string; layer: Digest }> {
  const repository = `image-${place}/app`;
  const files = Array.from({ length: 2000 }, (_, number) => [
    `${FOLDER}${place}-${number}`,
    Buffer.from(`${place} ${number}`),
  ]);
  const tar = tarArchive({ ...Object.fromEntries(files), salt: randomBlob(100_000, place) });
  const layer = gzipLayer(tar);
  const [digest = layer.diffId] = await upstream.addImage(repository, [layer]);
  return { repository, layer: digest };
}

async function get(path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`${app.url}/v2/${path}`);
  return { status: response.status, body: await response.text() };
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(join(app.root, folder), { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function storedBytes(): Promise<number> {
  const files = (await Promise.all(['blobs', 'partial', 'indexes', 'manifests', 'tags'].map(filesIn))).flat();
  const sizes = await Promise.all(files.map(async (path) => (await stat(path)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** The zTOC that the SOCI index of an image names. */
async function namedZtoc(repository: string): Promise<string | undefined> {
  const head = await fetch(`${app.url}/v2/${repository}/manifests/latest`, {
    method: 'HEAD',
    headers: { 'user-agent': 'skopeo' },
  });
  const { body } = await get(`${repository}/referrers/${head.headers.get('docker-content-digest')}`);
  const { manifests } = JSON.parse(body) as { manifests: { digest: string }[] };
  const index = JSON.parse((await get(`${repository}/manifests/${manifests[0]?.digest}`)).body) as {
    layers: { digest: string }[];
  };
  return index.layers[0]?.digest;
}

describe('a store that is too small for all indexes', () => {
  it('stays within its bound, keeps no index without its zTOC, and makes named zTOCs again', async () => {
    const images = [];
    for (let place = 0; place < IMAGES; place++) images.push(await addImage(place));
    const named: string[] = [];
    for (const [place, { repository, layer }] of images.entries()) {
      await get(`${repository}/manifests/latest`);
      const path = `${repository}/_soci/layers/${layer}`;
      expect(await get(`${path}/files/${FOLDER}${place}-9`)).toEqual({
        status: 200,
        body: `${place} 9`,
      });
      await expect
        .poll(async () => JSON.parse((await get(path)).body) as object)
        .toMatchObject({
          state: 'indexed',
        });
      named.push(`${repository}/blobs/${await namedZtoc(repository)}`);
    }
    await expect.poll(storedBytes).toBeLessThanOrEqual(STORE_BYTES);
    const indexes = await filesIn('indexes/layers');
    expect(indexes.length).toBeGreaterThan(0);
    expect(indexes.length).toBeLessThan(IMAGES);
    expect((await filesIn('indexes/ztocs')).length).toBe(indexes.length);
    expect(await app.metric('spandrel_cache_evictions_total{tier="disk"}')).toBeGreaterThan(0);
    expect(await app.metric('spandrel_store_bytes{state="index"}')).toBeLessThanOrEqual(STORE_BYTES / 4);
    for (const [place, { repository, layer }] of images.entries())
      expect(await get(`${repository}/_soci/layers/${layer}/files/${FOLDER}${place}-99`)).toEqual({
        status: 200,
        body: `${place} 99`,
      });
    for (const path of named) expect(await get(path), path).toMatchObject({ status: 200 });
  });
});
