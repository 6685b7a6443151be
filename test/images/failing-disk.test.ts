import { rm } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { type ErrorCode, ERRORS } from '../../src/core/errors.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { FailingFiles, FILE_OPERATIONS, type FileOperation } from '../helpers/faults/failing-files.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { addPackedImage, type PackedLayer, seededGzipLayer } from '../helpers/images/packed-image.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { ReadOnlyFolder } from '../helpers/faults/read-only-folder.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const LAYER_BYTES = 300_000;
/** The store pauses this long after a disk failure, and failed builds are not remembered longer. */
const PAUSE_MS = 70_000;

interface Image {
  readonly repository: string;
  readonly manifest: Digest;
  readonly layer: PackedLayer;
}

let upstream: ScriptedRegistry;
let root: string;
let images = 0;
let laterMs = 0;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  root = await temporaryFolder();
  const now = performance.now.bind(performance);
  vi.spyOn(performance, 'now').mockImplementation(() => now() + laterMs);
});

afterEach(async () => {
  vi.restoreAllMocks();
  laterMs = 0;
});

function start(endsAtWork = false, minLayerBytes = 0): Promise<RunningApp> {
  return proxyWith(upstream, {
    root: join(root, 'store'),
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: String(minLayerBytes),
      SPANDREL_INDEX_SPAN_BYTES: '65536',
      SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '0',
    },
    endsAtWork,
  });
}

async function addImage(): Promise<Image> {
  const repository = `app-${++images}`;
  const layer = seededGzipLayer(images, LAYER_BYTES);
  return { repository, layer, manifest: await addPackedImage(upstream, repository, 'latest', [layer]) };
}

async function get(app: RunningApp, { repository }: Image, path: string): Promise<Response> {
  const headers = { accept: OCI, 'user-agent': CONTAINERD };
  return fetch(`${app.url}/v2/up/${repository}/${path}`, { headers });
}

/** Asserts that a pull gets everything, and the right bytes. */
async function pull(app: RunningApp, image: Image): Promise<void> {
  const tag = await get(app, image, 'manifests/latest');
  const bytes = Buffer.from(await tag.arrayBuffer());
  expect([tag.status, digestOf(bytes)]).toEqual([200, tag.headers.get('docker-content-digest')]);
  const { config } = JSON.parse(bytes.toString()) as { config: { digest: Digest } };
  const answer = await get(app, image, `blobs/${config.digest}`);
  expect([answer.status, digestOf(Buffer.from(await answer.arrayBuffer()))]).toEqual([200, config.digest]);
  const blob = await get(app, image, `blobs/${image.layer.digest}`);
  expect([blob.status, digestOf(Buffer.from(await blob.arrayBuffer()))]).toEqual([200, image.layer.digest]);
}

/**
 * Asserts that a read of the decompressed layer is right, or an error of the table.
 * @returns the status
 */
async function read(app: RunningApp, image: Image): Promise<number> {
  const response = await get(app, image, `_soci/layers/${image.layer.digest}/tar`);
  const body = Buffer.from(await response.arrayBuffer().catch(() => new ArrayBuffer(0)));
  if (response.ok) {
    expect(body.length === 0 || body.equals(image.layer.tar)).toBe(true);
    return response.status;
  }
  const { errors } = JSON.parse(body.toString()) as { errors: { code: ErrorCode }[] };
  const [code = 'INTERNAL'] = errors.map((error) => error.code);
  expect(code).not.toBe('INTERNAL');
  expect(ERRORS[code].status).toBe(response.status);
  return response.status;
}

async function expectHealed(app: RunningApp, image: Image): Promise<void> {
  laterMs += PAUSE_MS;
  expect((await fetch(`${app.adminUrl}/readyz`)).status).toBe(200);
  expect(await read(app, image)).toBe(200);
  const tag = await get(app, image, 'manifests/latest');
  expect(tag.headers.get('docker-content-digest')).not.toBe(image.manifest);
  await tag.arrayBuffer();
  await pull(app, image);
}

const WRITING: readonly FileOperation[] = [
  'writeFile',
  'appendFile',
  'rename',
  'link',
  'rm',
  'mkdir',
  'utimes',
  'writev',
  'truncate',
  'sync',
  'close',
];
const OPENING: readonly FileOperation[] = ['open', 'readFile', 'writeFile'];
const FAULTS: readonly (readonly [string, string, readonly FileOperation[]])[] = [
  ...FILE_OPERATIONS.map((operation) => ['EIO', operation, [operation]] as const),
  ['ENFILE', 'call that opens', OPENING],
  ['EMFILE', 'call that opens', OPENING],
  ['EROFS', 'call that writes', WRITING],
  ['EDQUOT', 'call that writes', WRITING],
];

describe('a disk that fails', () => {
  it.each(FAULTS)(
    'a disk with %s in every %s fails no pull, and everything recovers afterwards',
    async (code, _name, operations) => {
      const stored = await addImage();
      const fresh = await addImage();
      {
        await using app = await start(true);
        await pull(app, stored);
        expect(await read(app, stored)).toBe(200);
        {
          using failing = await FailingFiles.create({ folder: root, operations, code });
          for (const image of [stored, fresh]) {
            await pull(app, image);
            await read(app, image);
            const ready = await fetch(`${app.adminUrl}/readyz`);
            expect([200, 503]).toContain(ready.status);
          }
          expect((await fetch(`${app.adminUrl}/metrics`)).status).toBe(200);
          expect(failing.failures).toBeGreaterThan(0);
        }
        for (const image of [stored, fresh]) await expectHealed(app, image);
      }
      // A start removes what could not be removed before.
      await using again = await start();
      for (const image of [stored, fresh]) await expectHealed(again, image);
    },
  );
});

it('a store that becomes read-only fails no pull, reports it, and resumes when it is writable', async () => {
  const stored = await addImage();
  const fresh = await addImage();
  await using app = await start();
  await pull(app, stored);
  expect(await read(app, stored)).toBe(200);
  {
    await using _readOnly = await ReadOnlyFolder.create(join(root, 'store'));
    for (const image of [stored, fresh]) {
      await pull(app, image);
      await read(app, image);
    }
    expect((await fetch(`${app.adminUrl}/readyz`)).status).toBe(503);
    expect(await app.metric('spandrel_store_writable')).toBe(0);
  }
  for (const image of [stored, fresh]) await expectHealed(app, image);
});

/** Digests of the SOCI index of an image and of its zTOC, as clients are told. */
async function namedBy(app: RunningApp, image: Image): Promise<readonly [Digest, Digest]> {
  const listed = await get(app, image, `referrers/${image.manifest}`);
  const { manifests } = (await listed.json()) as { manifests: { digest: Digest }[] };
  const index = manifests[0]?.digest ?? image.manifest;
  const { layers } = (await (await get(app, image, `manifests/${index}`)).json()) as {
    layers: { digest: Digest }[];
  };
  return [index, layers[0]?.digest ?? index];
}

it.each(['EMFILE', 'ENFILE'])(
  'derived documents that the store cannot look up now, for %s, are not said to be unknown',
  async (code) => {
    const image = await addImage();
    let named: readonly [Digest, Digest];
    {
      await using app = await start();
      named = await namedBy(app, image);
    }
    // The origins alone still know what was named.
    for (const lost of ['proofs', 'indexes', 'manifests'])
      await rm(join(root, 'store', lost), { recursive: true, force: true });
    await using app = await start();
    const [index, ztoc] = named;
    const paths = [`manifests/${index}`, `blobs/${ztoc}`];
    {
      using _failing = await FailingFiles.create({
        folder: join(root, 'store', 'origins'),
        operations: ['readFile'],
        code,
      });
      for (const path of paths)
        expect((await get(app, image, path)).status).toBe(ERRORS.RESOURCE_EXHAUSTED.status);
    }
    for (const path of paths) {
      const found = await get(app, image, path);
      const bytes = Buffer.from(await found.arrayBuffer());
      expect([found.status, path]).toEqual([200, expect.stringContaining(digestOf(bytes))]);
    }
  },
);

it('a search for a derived document that fails for want of the disk does not end in 404', async () => {
  const image = await addImage();
  await using app = await start();
  const unknown = digestOf(Buffer.from('nobody has this'));
  expect((await get(app, image, `blobs/${unknown}`)).status).toBe(404);
  const other = await addImage();
  using failing = await FailingFiles.create({
    folder: join(root, 'store', 'indexes'),
    operations: ['mkdir', 'open'],
    code: 'EMFILE',
  });
  expect((await get(app, other, `blobs/${unknown}`)).status).toBeGreaterThanOrEqual(500);
  failing[Symbol.dispose]();
  laterMs += PAUSE_MS;
  expect((await get(app, other, `blobs/${unknown}`)).status).toBe(404);
});

it('a lost zTOC that was named before its layer was left out of new indexes is made again', async () => {
  const image = await addImage();
  let named: readonly [Digest, Digest];
  {
    await using app = await start();
    named = await namedBy(app, image);
  }
  for (const lost of ['indexes', 'origins', 'manifests'])
    await rm(join(root, 'store', lost), { recursive: true, force: true });
  await using app = await start(false, 2 * LAYER_BYTES);
  const ztoc = await get(app, image, `blobs/${named[1]}`);
  expect([ztoc.status, digestOf(Buffer.from(await ztoc.arrayBuffer()))]).toEqual([200, named[1]]);
});
