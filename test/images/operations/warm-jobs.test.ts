import { gzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import type { ImageJobView } from '../../../src/images/operations/image-job-view.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { addImage, image } from '../../helpers/images/image.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { tarHeader } from '../../helpers/layers/tar-blocks.ts';

const FILE_BYTES = 512 * 3000;

let upstream: ScriptedRegistry;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
});

async function startApp(
  options: { readonly environment?: Readonly<Record<string, string>>; readonly endsAtWork?: boolean } = {},
): Promise<RunningApp> {
  const environment = {
    SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
    SPANDREL_UPSTREAM_RETRIES: '0',
    // Anything that hangs, hangs longer than the test.
    SPANDREL_UPSTREAM_HEADERS_TIMEOUT_MS: '600000',
    SPANDREL_UPSTREAM_STALL_TIMEOUT_MS: '600000',
    ...options.environment,
  };
  return proxyWith(upstream, { ...options, upstream: { name: 'hub', host: 'hub.test' }, environment });
}

function layerOf(seed: number): Uint8Array<ArrayBuffer> {
  const file = [tarHeader({ name: 'data', size: FILE_BYTES }), randomBlob(FILE_BYTES, seed)];
  return new Uint8Array(gzipSync(Buffer.concat([...file, Buffer.alloc(1024)])));
}

interface Pushed {
  readonly manifest: Digest;
  readonly size: number;
  readonly config: Digest;
  readonly layers: readonly Digest[];
}

async function push(
  tag: string | undefined,
  seeds: readonly number[],
  architecture = 'amd64',
): Promise<Pushed> {
  const layers = seeds.map((seed) => Buffer.from(layerOf(seed)));
  const pushed = image(
    layers.map((bytes) => ({ bytes, diffId: digestOf(bytes) })),
    { architecture, rootfs: { type: 'layers', diff_ids: [] } },
  );
  const [config = Buffer.alloc(0)] = pushed.blobs;
  return {
    manifest: await addImage(upstream, 'app', pushed, tag),
    size: pushed.manifest.byteLength,
    config: digestOf(config),
    layers: layers.map((layer) => digestOf(layer)),
  };
}

async function warm(app: RunningApp, body: object): Promise<ImageJobView> {
  const response = await fetch(`${app.adminUrl}/api/v1/warm`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(202);
  return (await response.json()) as ImageJobView;
}

async function ended(app: RunningApp, { id }: ImageJobView): Promise<ImageJobView> {
  const read = async (): Promise<ImageJobView> =>
    (await (await fetch(`${app.adminUrl}/api/v1/jobs/${id}`)).json()) as ImageJobView;
  await expect.poll(async () => (await read()).state, { timeout: 20_000 }).not.toBe('running');
  return read();
}

/** Number of requests for the bytes of a blob. */
function fetches(digest: Digest): number {
  return upstream.requests.entries.filter(({ method, path }) => method === 'GET' && path.endsWith(digest))
    .length;
}

function holdLayer(digest: Digest): PromiseWithResolvers<void> {
  const held = Promise.withResolvers<void>();
  upstream.faults.add({
    match: { method: 'GET', path: new RegExp(digest) },
    action: { kind: 'hold', until: held.promise },
  });
  return held;
}

describe('a warm job that fails', () => {
  it.each([
    ['one layer is refused', 403, 'DENIED'],
    ['one layer cannot be had now', 500, 'UPSTREAM_UNREACHABLE'],
  ])('a failing warm job releases the layers that it was opening: %s', async (_, status, code) => {
    const app = await startApp();
    const { layers } = await push('1', [1, 2, 3]);
    const [bad, ...good] = layers;
    upstream.faults.add({ match: { path: new RegExp(bad ?? 'none') }, action: { kind: 'status', status } });
    const held = good.map(holdLayer);
    const job = await warm(app, { image: 'hub/app:1' });
    expect(await ended(app, job)).toMatchObject({ state: 'failed', error: { code } });
    // The other layers arrive after the job. The app still comes to rest, and they can be removed.
    for (const { resolve } of held) resolve();
    const [first] = good;
    const has = async (): Promise<boolean> => {
      const { blobs } = (await (await fetch(`${app.adminUrl}/api/v1/blobs`)).json()) as {
        blobs: { digest: string; state: string }[];
      };
      return blobs.some(({ digest, state }) => digest === first && state === 'complete');
    };
    await expect.poll(has, { timeout: 20_000 }).toBe(true);
    const removed = await fetch(`${app.adminUrl}/api/v1/blobs/${first}`, { method: 'DELETE' });
    expect(removed.status).toBe(204);
  });

  it('a failed warm job holds no room: after an image that is too large, another is kept', async () => {
    const app = await startApp({ environment: { SPANDREL_STORAGE_MAX_BYTES: '4MiB' } });
    await push('large', [1, 2, 3, 4]);
    const { layers } = await push('small', [5, 6]);
    expect(await ended(app, await warm(app, { image: 'hub/app:large' }))).toMatchObject({
      state: 'failed',
      error: { code: 'STORE_FULL' },
    });
    const inUse = (): Promise<number> => app.metric('spandrel_held{what="blob"}');
    await expect.poll(inUse, { timeout: 20_000 }).toBe(0);
    const job = await ended(app, await warm(app, { image: 'hub/app:small' }));
    expect(job).toMatchObject({
      state: 'done',
      layers: layers.map((digest) => ({ digest, state: 'complete' })),
    });
  });
});

describe('a stop while a job waits for an upstream that hangs', () => {
  it.each([
    ['at the tag', (): RegExp => /manifests\/1$/],
    ['at the config', ({ config }: Pushed): RegExp => new RegExp(config)],
    ['at a layer', ({ layers }: Pushed): RegExp => new RegExp(layers[0] ?? 'none')],
  ])('a stop does not wait for a hanging upstream: %s', async (_, where) => {
    const app = await startApp({ endsAtWork: true, environment: { SPANDREL_SHUTDOWN_GRACE_MS: '1000' } });
    const path = where(await push('1', [1]));
    upstream.faults.add({ match: { path }, action: { kind: 'hold', until: new Promise(() => undefined) } });
    await warm(app, { image: 'hub/app:1' });
    await warm(app, { image: 'hub/app:1' });
    await upstream.requests.waitFor((request) => path.test(request.path));
    // Longer than the test, if it waited for the upstream.
    await app[Symbol.asyncDispose]();
  });
});

describe('what is asked while a job runs', () => {
  it('a tag that moves during a warm job is warmed again after it', async () => {
    const app = await startApp();
    const before = await push('1', [1]);
    const held = holdLayer(before.layers[0] ?? before.manifest);
    const first = await warm(app, { image: 'hub/app:1' });
    await upstream.requests.waitFor(({ path }) => path.endsWith(before.layers[0] ?? 'none'));
    const after = await push('1', [2]);
    const second = await warm(app, { image: 'hub/app:1' });
    // Until that job starts, it serves equal orders, however they are written.
    const third = await warm(app, { image: 'hub.test/app:1' });
    expect([second.id === first.id, third.id]).toEqual([false, second.id]);
    held.resolve();
    expect((await ended(app, first)).layers.map(({ digest }) => digest)).toEqual(before.layers);
    expect(await ended(app, second)).toMatchObject({ state: 'done', layers: [{ digest: after.layers[0] }] });
    const { jobs } = (await (await fetch(`${app.adminUrl}/api/v1/jobs`)).json()) as { jobs: ImageJobView[] };
    expect(jobs.map(({ id }) => id)).toEqual([second.id, first.id]);
    expect(jobs[0]).toEqual(await ended(app, second));
  });

  it('warm jobs for two platforms run side by side and fetch each layer once', async () => {
    const app = await startApp();
    const images = { amd64: await push(undefined, [1], 'amd64'), arm64: await push(undefined, [2], 'arm64') };
    const manifests = Object.entries(images).map(([architecture, { manifest, size }]) => ({
      mediaType: MEDIA_TYPES.ociManifest,
      digest: manifest,
      size,
      platform: { os: 'linux', architecture },
    }));
    const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests };
    upstream.addManifest('app', 'multi', Buffer.from(JSON.stringify(index)), MEDIA_TYPES.ociIndex);
    const held = holdLayer(images.amd64.layers[0] ?? images.amd64.manifest);
    const first = await warm(app, { image: 'hub/app:multi', platforms: ['linux/amd64'] });
    await upstream.requests.waitFor(({ path }) => path.endsWith(images.amd64.layers[0] ?? 'none'));
    const second = await warm(app, { image: 'hub/app:multi', platforms: ['linux/arm64'] });
    expect(await ended(app, second)).toMatchObject({
      state: 'done',
      layers: [{ digest: images.arm64.layers[0] }],
    });
    const both = await warm(app, { image: 'hub/app:multi', platforms: ['linux/amd64', 'linux/arm64'] });
    held.resolve();
    expect((await ended(app, first)).state).toBe('done');
    expect((await ended(app, both)).layers).toHaveLength(2);
    for (const { layers } of Object.values(images))
      expect(fetches(layers[0] ?? images.amd64.manifest)).toBe(2);
  });

  it('warm jobs for an image by tag and by digest fetch and index its layers once', async () => {
    const app = await startApp();
    const { manifest, layers } = await push('1', [1, 2]);
    const held = layers.map(holdLayer);
    const byTag = await warm(app, { image: 'hub/app:1' });
    await upstream.requests.waitFor(({ path }) => path.endsWith(layers[0] ?? 'none'));
    const byDigest = await warm(app, { image: `hub/app@${manifest}` });
    expect(byDigest.id).not.toBe(byTag.id);
    for (const { resolve } of held) resolve();
    const jobs = [await ended(app, byTag), await ended(app, byDigest)];
    expect(jobs.map(({ state }) => state)).toEqual(['done', 'done']);
    expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(2);
    const sizes = (jobs[0]?.layers ?? []).reduce((sum, { size }) => sum + size, 0);
    const received = await app.metric('spandrel_upstream_bytes_total{upstream="hub"}');
    expect(received).toBeLessThan(1.01 * sizes + 10_000);
  });

  it('warm jobs beyond the bound are refused, and the list of jobs is bounded', async () => {
    const app = await startApp({ endsAtWork: true });
    const hanging = { kind: 'hold', until: new Promise(() => undefined) } as const;
    upstream.faults.add({ match: { path: /manifests/ }, action: hanging });
    const statuses = await Promise.all(
      Array.from({ length: 520 }, async (_, place) => {
        const response = await fetch(`${app.adminUrl}/api/v1/warm`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ image: `hub/app:${place}` }),
        });
        await response.arrayBuffer();
        return response.status;
      }),
    );
    expect(statuses.filter((status) => status === 202)).toHaveLength(500);
    expect(statuses.filter((status) => status === 503)).toHaveLength(20);
    const { jobs } = (await (await fetch(`${app.adminUrl}/api/v1/jobs`)).json()) as { jobs: object[] };
    expect(jobs).toHaveLength(500);
  });
});
