import { beforeEach, describe, expect, it, vi } from 'vitest';

import type { Digest } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { gzipLayer, ImageUpstream, type UpstreamLayer } from '../helpers/upstreams/image-upstream.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const SECRET = randomBlob(400_000, 1);
const OWN = randomBlob(200_000, 2);
const FOREIGN: UpstreamLayer = gzipLayer(tarArchive({ secret: SECRET }));
const STRANGERS: UpstreamLayer = gzipLayer(tarArchive({ own: OWN }));
const WAIT = { timeout: 20_000 };

let upstream: ImageUpstream;
let app: RunningApp;
let foreign: Digest;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  [foreign = FOREIGN.diffId] = await upstream.addImage('owner/app', [FOREIGN]);
  app = await proxyWith(upstream, {
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_INDEX_SPAN_BYTES: '65536' },
  });
});

interface Answer {
  readonly status: number;
  readonly digest: string;
  readonly body: Buffer;
}

async function get(path: string): Promise<Answer> {
  const headers = { accept: OCI, 'user-agent': CONTAINERD, 'accept-encoding': 'identity' };
  const response = await fetch(`${app.url}/v2/${path}`, { headers });
  const digest = response.headers.get('docker-content-digest') ?? '';
  return { status: response.status, digest, body: Buffer.from(await response.arrayBuffer()) };
}

async function getJson<T>(path: string): Promise<T> {
  const { status, body } = await get(path);
  expect(status, path).toBe(200);
  return JSON.parse(body.toString()) as T;
}

async function manifestOf(repository: string): Promise<string> {
  const response = await fetch(`${app.url}/v2/${repository}/manifests/latest`);
  await response.arrayBuffer();
  return response.headers.get('docker-content-digest') ?? '';
}

/** Layers, with their zTOCs, in the SOCI index of a repository's image; empty without an index. */
async function indexedLayers(
  repository: string,
): Promise<{ index: string; layers: ReadonlyMap<string, string> }> {
  const type = encodeURIComponent(MEDIA_TYPES.sociIndexV1);
  const path = `${repository}/referrers/${await manifestOf(repository)}?artifactType=${type}`;
  const [listed] = (await getJson<{ manifests: { digest: string }[] }>(path)).manifests;
  if (listed === undefined) return { index: '', layers: new Map() };
  const { layers } = await getJson<{ layers: { digest: string; annotations: Record<string, string> }[] }>(
    `${repository}/manifests/${listed.digest}`,
  );
  const ztocs = layers.map(({ digest, annotations }): [string, string] => [
    annotations['com.amazon.soci.image-layer-digest'] ?? '',
    digest,
  ]);
  return { index: listed.digest, layers: new Map(ztocs) };
}

/** Has everything derived from the owner's image. */
async function deriveAll(): Promise<{ index: string; ztoc: string; converted: string }> {
  const original = await manifestOf('owner/app');
  let converted = '';
  await vi.waitFor(async () => {
    converted = (await get('owner/app/manifests/latest')).digest;
    expect(converted).not.toBe(original);
  }, WAIT);
  const { index, layers } = await indexedLayers('owner/app');
  return { index, ztoc: layers.get(foreign) ?? '', converted };
}

const LAYER_ROUTES = ['', '/spans', '/spans/0', '/tar', '/files', '/files/secret'];

describe.each([
  ['names a layer that its repository has not got', 'stranger/app', []],
  ['names it beside a layer that it has', 'stranger/app', [STRANGERS]],
])('a manifest that %s', (_, repository, own) => {
  const layers = [...own, { ...FOREIGN, isMissing: true }];

  it('a repository without a layer gets nothing derived from it, stored or not', async () => {
    await upstream.addImage(repository, layers);
    const check = async (): Promise<void> => {
      const answered = await get(`${repository}/manifests/latest`);
      expect(answered.status).toBe(200);
      expect(answered.body.includes('com.amazon.soci.index-digest')).toBe(own.length > 0);
      const given = await indexedLayers(repository);
      expect([...given.layers.keys()]).toHaveLength(own.length);
      expect(given.layers.has(foreign)).toBe(false);
      for (const route of LAYER_ROUTES)
        expect((await get(`${repository}/_soci/layers/${foreign}${route}`)).status).toBe(404);
      expect((await get(`${repository}/blobs/${foreign}`)).status).toBe(404);
      const file = await get(`${repository}/_soci/images/latest/files/secret`);
      expect([file.status, file.body.includes(SECRET.subarray(0, 100))]).toEqual([404, false]);
      const described = await getJson<{ platforms: { layers: { digest: string; state: string }[] }[] }>(
        `${repository}/_soci/images/latest`,
      );
      const shown = described.platforms[0]?.layers.find(({ digest }) => digest === foreign);
      expect(shown).toMatchObject({ state: 'failed', reason: 'BLOB_UNKNOWN' });
      expect(shown).not.toHaveProperty('ztoc');
    };
    await check();
    const { index, ztoc, converted } = await deriveAll();
    await check();
    for (const path of [`manifests/${index}`, `manifests/${converted}`, `blobs/${ztoc}`]) {
      expect((await get(`${repository}/${path}`)).status, path).toBe(404);
      expect((await get(`owner/app/${path}`)).status, path).toBe(200);
    }
  });

  it('a repository without a layer does not keep the owner from the layer or its index', async () => {
    await upstream.addImage(repository, layers);
    await indexedLayers(repository);
    await get(`${repository}/_soci/layers/${foreign}/files/secret`);
    expect((await get(`owner/app/_soci/layers/${foreign}/files/secret`)).body.equals(SECRET)).toBe(true);
    expect((await deriveAll()).ztoc).toMatch(/^sha256:/);
  });
});

it("a repository with the owner's manifest but not its layers gets nothing derived from them", async () => {
  const { index, ztoc, converted } = await deriveAll();
  await upstream.addImage('copy/app', [{ ...FOREIGN, isMissing: true }]);
  expect(await manifestOf('copy/app')).toBe(await manifestOf('owner/app'));
  for (const path of [`manifests/${index}`, `manifests/${converted}`, `blobs/${ztoc}`])
    expect((await get(`copy/app/${path}`)).status, path).toBe(404);
  // Once it has the layers, it gets everything.
  await upstream.addImage('copy/app', [FOREIGN]);
  for (const path of [`manifests/${index}`, `blobs/${ztoc}`])
    await vi.waitFor(async () => expect((await get(`copy/app/${path}`)).status, path).toBe(200), WAIT);
});

it('a build started for a repository that lacks the layer does not fail one that has it', async () => {
  await upstream.addImage('stranger/app', [{ ...FOREIGN, isMissing: true }]);
  const held = Promise.withResolvers<void>();
  upstream.registry.faults.add({
    match: ({ path, method }) => method === 'GET' && path.includes('/stranger/app/blobs/'),
    action: { kind: 'hold', until: held.promise },
  });
  await manifestOf('stranger/app');
  const stranger = indexedLayers('stranger/app');
  await vi.waitFor(() => {
    const asked = upstream.registry.requests.entries.map(({ path }) => path);
    expect(asked.some((path) => path.includes('/stranger/app/blobs/'))).toBe(true);
  }, WAIT);
  const owner = get(`owner/app/_soci/layers/${foreign}/files/secret`);
  held.resolve();
  expect((await owner).body.equals(SECRET)).toBe(true);
  expect((await stranger).layers.size).toBe(0);
});
