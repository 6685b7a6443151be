import { mkdir, open as openFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { addPackedImage, type PackedLayer, seededGzipLayer } from '../helpers/images/packed-image.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { SmallDisk } from '../helpers/faults/small-disk.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const MIB = 2 ** 20;
/** The store pauses this long after a disk failure. */
const PAUSE_MS = 10_000;

let upstream: ScriptedRegistry;
let layer: PackedLayer;
let manifest: Digest;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  layer = seededGzipLayer(1, MIB);
  manifest = await addPackedImage(upstream, 'app', 'latest', [layer]);
});

afterEach(async () => {
  vi.restoreAllMocks();
});

async function start(root: string): Promise<RunningApp> {
  return await proxyWith(upstream, {
    root,
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_INDEX_SPAN_BYTES: '65536' },
  });
}

async function newRoot(): Promise<string> {
  const root = await temporaryFolder();
  return root;
}

function get(app: RunningApp, path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${app.url}/v2/up/app/${path}`, { headers });
}

/** The requests of a pull, by a lazy client and by another one. */
async function pull(app: RunningApp): Promise<void> {
  for (const agent of [CONTAINERD, 'docker/29.0']) {
    const tag = await get(app, 'manifests/latest', { accept: OCI, 'user-agent': agent });
    expect([tag.status, tag.headers.get('docker-content-digest')]).toEqual([200, manifest]);
    await tag.arrayBuffer();
  }
  const byDigest = await get(app, `manifests/${manifest}`);
  expect(byDigest.status).toBe(200);
  const { config } = (await byDigest.json()) as { config: { digest: string } };
  expect((await get(app, `blobs/${config.digest}`)).status).toBe(200);
  expect((await get(app, `referrers/${manifest}`)).status).toBe(200);
  const blob = await get(app, `blobs/${layer.digest}`);
  expect(blob.status).toBe(200);
  expect(Buffer.from(await blob.arrayBuffer()).equals(layer.packed)).toBe(true);
}

/** Once there is room and the pause is over, the tag of an indexed image differs from the original. */
async function expectHealed(app: RunningApp): Promise<void> {
  const now = performance.now.bind(performance);
  vi.spyOn(performance, 'now').mockImplementation(() => now() + PAUSE_MS);
  expect((await fetch(`${app.adminUrl}/readyz`)).status).toBe(200);
  expect(await app.metric('spandrel_store_writable')).toBe(1);
  const spans = await get(app, `_soci/layers/${layer.digest}/spans`);
  expect(spans.status).toBe(200);
  await spans.arrayBuffer();
  const tag = await get(app, 'manifests/latest', { accept: OCI, 'user-agent': CONTAINERD });
  expect(tag.status).toBe(200);
  expect(tag.headers.get('docker-content-digest')).not.toBe(manifest);
  const state = (await (await get(app, `_soci/layers/${layer.digest}`)).json()) as { state: string };
  expect(state.state).toBe('indexed');
}

async function expectUnready(app: RunningApp): Promise<void> {
  const ready = await fetch(`${app.adminUrl}/readyz`);
  expect(ready.status).toBe(503);
  expect(await ready.json()).toMatchObject({ missing: ['store'] });
  expect(await app.metric('spandrel_store_writable')).toBe(0);
}

/**
 * Fills a disk up to a few bytes.
 * @returns a function that frees them
 */
async function fillDisk(disk: SmallDisk, leftBytes: number): Promise<() => Promise<void>> {
  const path = join(disk.path, 'ballast');
  await using file = await openFile(path, 'w');
  let bytes = 0;
  try {
    for (;;) bytes += (await file.write(Buffer.alloc(4096))).bytesWritten;
  } catch {
    await file.truncate(Math.max(0, bytes - leftBytes));
  }
  return () => rm(path);
}

describe('a pull while the store cannot be written', () => {
  it.each([0, 4, 8])(
    'a disk with %i KiB left stops no pull, and the image is lazy once there is room',
    async (leftKib) => {
      const disk = cleanup.use(await SmallDisk.create(16 * MIB));
      const app = await start(join(disk.path, 'store'));
      const free = await fillDisk(disk, leftKib * 1024);
      await pull(app);
      await expectUnready(app);
      await free();
      await expectHealed(app);
    },
  );

  it.each([520, 544, 568, 592, 616])(
    'a disk with %i KiB left that fills up during a pull does not stop it',
    async (leftKib) => {
      const disk = cleanup.use(await SmallDisk.create(16 * MIB));
      const app = await start(join(disk.path, 'store'));
      const free = await fillDisk(disk, leftKib * 1024);
      for (let round = 0; round < 2; round++) {
        for (const agent of [CONTAINERD, 'docker/29.0']) {
          const tag = await get(app, 'manifests/latest', { accept: OCI, 'user-agent': agent });
          expect(tag.status).toBe(200);
          const bytes = Buffer.from(await tag.arrayBuffer());
          // A client that got a digest may fetch it.
          const digest = tag.headers.get('docker-content-digest') ?? '';
          expect(digestOf(bytes)).toBe(digest);
          const again = await get(app, `manifests/${digest}`);
          expect(digestOf(Buffer.from(await again.arrayBuffer()))).toBe(digest);
        }
        const blob = await get(app, `blobs/${layer.digest}`);
        expect(Buffer.from(await blob.arrayBuffer()).equals(layer.packed)).toBe(true);
      }
      await free();
      await expectHealed(app);
    },
  );

  it('a disk that is full at the start of the proxy stops no pull', async () => {
    const disk = cleanup.use(await SmallDisk.create(16 * MIB));
    const root = join(disk.path, 'store');
    await (await start(root))[Symbol.asyncDispose]();
    const free = await fillDisk(disk, 0);
    const app = await start(root);
    await pull(app);
    await free();
    await expectHealed(app);
  });

  it.each([
    ['manifests', 'manifest'],
    ['tags', 'tag'],
    ['indexes/ztocs', 'ztoc'],
    ['indexes/layers', 'index'],
    ['partial', 'blob'],
  ])('a failure of the store folder %s stops no pull', async (folder, kind) => {
    const root = await newRoot();
    const app = await start(root);
    await rm(join(root, folder), { recursive: true, force: true });
    await mkdir(dirname(join(root, folder)), { recursive: true });
    await writeFile(join(root, folder), 'in the way');
    for (const agent of [CONTAINERD, 'docker/29.0']) {
      const tag = await get(app, 'manifests/latest', { accept: OCI, 'user-agent': agent });
      expect(tag.status).toBe(200);
      await tag.arrayBuffer();
    }
    const blob = await get(app, `blobs/${layer.digest}`);
    expect(Buffer.from(await blob.arrayBuffer()).equals(layer.packed)).toBe(true);
    expect(await app.metric(`spandrel_store_write_failures_total{kind="${kind}"}`)).toBeGreaterThan(0);
    await expectUnready(app);
  });
});
