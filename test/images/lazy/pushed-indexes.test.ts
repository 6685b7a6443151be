import { readdir, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import type { FaultAction } from '../../registry/faults.ts';
import type { DecodedZtoc } from '../../../src/ztoc/decode-ztoc.ts';
import { gzipZinfoBytes } from '../../../src/ztoc/gzip-zinfo.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';
import type { Ztoc } from '../../../src/ztoc/ztoc.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import {
  type Bytes,
  edited,
  editedEntry,
  makeZtoc,
  PUSHED_SPAN_BYTES,
  pushIndex,
  type PushOptions,
} from '../../helpers/images/pushed-index.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { rot } from '../../helpers/faults/stored-files.ts';
import { tarArchive } from '../../helpers/layers/tar-blocks.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const LAYER = new URL('../../fixtures/golden/layers/gzip-gnu-6.tar.gz', import.meta.url);
const OWN_SPAN_BYTES = 65_536;

let registry: ScriptedRegistry;
let root: string;
let layer: Bytes;
let layerDigest: Digest;

beforeEach(async () => {
  registry = cleanup.use(await ScriptedRegistry.start({}));
  root = await temporaryFolder();
  layer = Uint8Array.from(await readFile(LAYER));
  layerDigest = digestOf(layer);
});

const ztocOf = (spanBytes: number): Promise<Bytes> => makeZtoc(layer, spanBytes);
const push = (options: PushOptions): ReturnType<typeof pushIndex> => pushIndex(registry, layer, options);

function startApp(environment: Readonly<Record<string, string>> = {}): Promise<RunningApp> {
  return proxyWith(registry, {
    upstream: { name: 'demo' },
    root,
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: String(OWN_SPAN_BYTES),
      ...environment,
    },
  });
}

async function getJson<T>(url: string): Promise<T> {
  let response = await fetch(url);
  // Nodes repeat the request while an index is being built.
  while (response.status === 503) {
    await response.arrayBuffer();
    response = await fetch(url);
  }
  expect(response.status).toBe(200);
  return (await response.json()) as T;
}

/** The SOCI v1 indexes that nodes get. */
async function referrers(app: RunningApp, manifest: Digest, repository = 'app'): Promise<string[]> {
  const type = encodeURIComponent(MEDIA_TYPES.sociIndexV1);
  const url = `${app.url}/v2/demo/${repository}/referrers/${manifest}?artifactType=${type}`;
  const { manifests } = await getJson<{ manifests: { digest: string }[] }>(url);
  return manifests.map(({ digest }) => digest);
}

/** The tag's response for a lazy client. */
async function lazyTag(app: RunningApp): Promise<string | null> {
  const accept = `${MEDIA_TYPES.ociIndex}, ${MEDIA_TYPES.ociManifest}`;
  const headers = { accept, 'user-agent': 'containerd/2.2.6' };
  const response = await fetch(`${app.url}/v2/demo/app/manifests/latest`, { headers });
  await response.arrayBuffer();
  return response.headers.get('docker-content-digest');
}

/** The zTOC that nodes get. */
async function blobOf(app: RunningApp, digest: Digest): Promise<Buffer> {
  const response = await fetch(`${app.url}/v2/demo/app/blobs/${digest}`);
  return Buffer.from(await response.arrayBuffer());
}

/** Pulls the layer, comparing every decompressed byte; returns the zTOC that the proxy then makes. */
async function pull(app: RunningApp, repository = 'app'): Promise<string | undefined> {
  await getJson(`${app.url}/v2/demo/${repository}/manifests/latest`);
  const base = `${app.url}/v2/demo/${repository}/_soci/layers/${layerDigest}`;
  const { spans } = await getJson<{ spans: { id: number }[] }>(`${base}/spans`);
  expect(spans.length).toBeGreaterThan(1);
  const tar = Buffer.from(await (await fetch(`${base}/tar`)).arrayBuffer());
  expect(tar.equals(gunzipSync(layer))).toBe(true);
  return (await getJson<{ ztoc?: { digest: string } }>(base)).ztoc?.digest;
}

/** Offset of the second checkpoint; the first one follows the head. */
const SECOND_CHECKPOINT = gzipZinfoBytes(1);

function editedCheckpoints(decoded: DecodedZtoc, edit: (bytes: Buffer) => void): Partial<Ztoc> {
  const checkpoints = Buffer.from(decoded.checkpoints);
  edit(checkpoints);
  return { checkpoints };
}

describe('an index that somebody has pushed', () => {
  it.each([1, 2] as const)(
    'a pushed index of version %i is used instead of ours, also after a restart',
    async (version) => {
      const ztoc = await ztocOf(PUSHED_SPAN_BYTES);
      const { manifest, index } = await push({ ztoc, version });
      {
        await using app = await startApp();
        for (let round = 0; round < 2; round++) {
          if (version === 1) expect(await referrers(app, manifest)).toEqual([index]);
          expect(await lazyTag(app)).toBe(manifest);
          expect((await blobOf(app, digestOf(ztoc))).equals(ztoc)).toBe(true);
          expect(await pull(app)).toBe(digestOf(await ztocOf(OWN_SPAN_BYTES)));
        }
        expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(1);
      }
      await using app = await startApp();
      if (version === 1) expect(await referrers(app, manifest)).toEqual([index]);
      expect(await lazyTag(app)).toBe(manifest);
      expect((await blobOf(app, digestOf(ztoc))).equals(ztoc)).toBe(true);
      expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
    },
  );

  it.each<[string, (ztoc: Bytes) => Bytes]>([
    ['with checkpoints of version 1', (ztoc) => edited(ztoc, withoutFirstCheckpoint)],
    ['by a tool of another version', (ztoc) => edited(ztoc, () => ({ buildTool: 'AWS SOCI CLI v0.1' }))],
    ['with times of another zone', (ztoc) => edited(ztoc, inAnotherZone)],
  ])('a pushed index may be made %s', async (_how, change) => {
    const ztoc = change(await ztocOf(PUSHED_SPAN_BYTES));
    const { manifest, index } = await push({ ztoc, version: 1 });
    await using app = await startApp();
    await pull(app);
    expect(await referrers(app, manifest)).toEqual([index]);
  });

  /** What a pushed zTOC is, and how it becomes so. */
  const uselessZtocs: readonly [string, (ztoc: Bytes) => Bytes][] = [
    ['is cut short', (ztoc) => ztoc.slice(0, ztoc.length - 100)],
    ['is no zTOC', (ztoc) => ztoc.map(() => 7)],
    ['belongs to another layer', (ztoc) => edited(ztoc, () => ({ compressedArchiveSize: 1_000_000 }))],
    [
      'cannot be mounted',
      (ztoc) =>
        edited(ztoc, (decoded) =>
          editedEntry(decoded, ({ uncompressedOffset }) => ({
            uncompressedOffset: uncompressedOffset - 1024,
          })),
        ),
    ],
  ];

  /** What a pushed index is, and how it becomes so. */
  const uselessIndexes: readonly [string, (json: string) => string][] = [
    ['is not printed as Go prints it', (json) => json.replace('{', '{ ')],
    ['names a layer of another image', (json) => json.replaceAll(layerDigest, `sha256:${'a'.repeat(64)}`)],
    [
      'lists zTOCs of layers that the image has fewer of',
      (json) => json.replace(/"layers":\[(.*?\}\})\]/s, '"layers":[$1,$1,$1]'),
    ],
    ['has another kind of config', (json) => json.replace('soci.index.v1+json', 'soci.index.v9+json')],
  ];

  it('a pushed index is replaced by ours at once if nodes could not use it or its zTOC', async () => {
    const ztoc = await ztocOf(PUSHED_SPAN_BYTES);
    const own = digestOf(await ztocOf(OWN_SPAN_BYTES));
    const pushes: readonly (readonly [string, Partial<PushOptions>])[] = [
      ...uselessZtocs.map(([what, change]) => [`its zTOC ${what}`, { ztoc: change(ztoc) }] as const),
      ...uselessIndexes.map(([what, edit]) => [`it ${what}`, { edit }] as const),
    ];
    await using app = await startApp();
    for (const [place, [what, options]] of pushes.entries()) {
      const repository = `app-${place}`;
      const { manifest, index } = await push({ ztoc, version: 1, repository, ...options });
      const offered = await referrers(app, manifest, repository);
      expect([what, offered.length, offered.includes(index)]).toEqual([what, 1, false]);
      expect([what, await pull(app, repository)]).toEqual([what, own]);
    }
  });

  it('a pushed index without its zTOC is replaced by ours at once', async () => {
    const { manifest, index } = await push({
      ztoc: await ztocOf(PUSHED_SPAN_BYTES),
      version: 1,
      isZtocLost: true,
    });
    await using app = await startApp();
    expect(await referrers(app, manifest)).not.toContain(index);
  });

  it('our index replaces a pushed one while the upstream fails to list it', async () => {
    const { manifest, index } = await push({ ztoc: await ztocOf(PUSHED_SPAN_BYTES), version: 1 });
    registry.faults.add({ match: { path: /referrers/ }, action: { kind: 'status', status: 400 } });
    await using app = await startApp();
    const offered = await referrers(app, manifest);
    expect(offered).toHaveLength(1);
    expect(offered).not.toContain(index);
    expect((await fetch(`${app.url}/v2/demo/app/referrers/${manifest}`)).status).toBe(502);
  });

  it.each<[string, FaultAction]>([
    ...[401, 403, 404, 500].map((status): [string, FaultAction] => [
      `status ${status}`,
      { kind: 'status', status },
    ]),
    ['other bytes', { kind: 'corrupt', atByte: 40 }],
  ])(
    'that is answered with %s is used as soon as it can be had, and the tag is as it is then',
    async (_what, action) => {
      const { manifest, index } = await push({ ztoc: await ztocOf(PUSHED_SPAN_BYTES), version: 1 });
      const ztoc = digestOf(await ztocOf(PUSHED_SPAN_BYTES));
      for (const path of [new RegExp(`/blobs/${ztoc}$`), new RegExp(`/manifests/${index}$`)]) {
        await using app = await startApp({
          SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '0',
          SPANDREL_UPSTREAM_RETRIES: '0',
          SPANDREL_STORAGE_ROOT: await temporaryFolder(),
        });
        registry.faults.set([{ match: { path }, action }]);
        const meanwhile = await referrers(app, manifest);
        expect([meanwhile.length, meanwhile.includes(index)]).toEqual([1, false]);
        await lazyTag(app);
        registry.faults.clear();
        expect(await referrers(app, manifest)).toEqual([index]);
        expect(await lazyTag(app)).toBe(manifest);
      }
    },
  );

  it('a pushed index leaves the tag unchanged', async () => {
    const { manifest } = await push({ ztoc: await ztocOf(PUSHED_SPAN_BYTES), version: 1 });
    await using app = await startApp();
    expect(await lazyTag(app)).toBe(manifest);
  });

  it('a zTOC that is wrong for one layer is used for another that it fits', async () => {
    const tarOf = (byte: string): Buffer => tarArchive({ file: Buffer.alloc(100_000, byte) });
    const layers = ['a', 'b'].map((byte) => Uint8Array.from(gzipSync(tarOf(byte), { level: 0 })));
    const useLayer = (place: number): void => {
      layer = layers[place] ?? layer;
      layerDigest = digestOf(layer);
    };
    useLayer(1);
    const ztoc = await ztocOf(PUSHED_SPAN_BYTES);
    await using app = await startApp();
    for (const place of [0, 1]) {
      useLayer(place);
      const { manifest, index } = await push({ ztoc, version: 1 });
      await pull(app);
      expect((await referrers(app, manifest)).includes(index)).toBe(place === 1);
    }
  });

  it.each<[string, (path: string) => Promise<void>]>([
    ['cut', (path) => truncate(path, 2)],
    ['changed', (path) => rot(path, 80)],
  ])('a zTOC is compared again if the stored verdict is %s', async (_, spoil) => {
    const right = await push({ ztoc: await ztocOf(PUSHED_SPAN_BYTES), version: 1 });
    const wrong = await push({
      ztoc: edited(await ztocOf(PUSHED_SPAN_BYTES), ({ spanDigests }) => ({
        spanDigests: spanDigests.with(0, digestOf('another span')),
      })),
      version: 1,
    });
    await using app = await startApp();
    await pull(app);
    expect(wrong.manifest).toBe(right.manifest);
    expect(await referrers(app, right.manifest)).toEqual([right.index]);
    const folder = join(root, 'indexes/refused');
    const verdicts = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    );
    expect(verdicts).toHaveLength(2);
    for (const { parentPath, name } of verdicts) await spoil(join(parentPath, name));
    expect(await referrers(app, right.manifest)).toEqual([right.index]);
    expect(await app.metric('spandrel_store_condemned_total{kind="refusal",damage="digest"}')).toBe(2);
  });

  it('a pushed index is listed with its image', async () => {
    const { manifest, index } = await push({ ztoc: await ztocOf(PUSHED_SPAN_BYTES), version: 2 });
    await using app = await startApp();
    await pull(app);
    const { platforms } = await getJson<{ platforms: object[] }>(
      `${app.url}/v2/demo/app/_soci/images/latest`,
    );
    expect(platforms).toMatchObject([{ manifest, soci: { v2: index } }]);
  });

  /** A value of a zTOC, and how it becomes wrong. */
  const wrongValues: readonly [string, (decoded: DecodedZtoc) => Partial<Ztoc>][] = [
    [
      'the place of a file',
      (ztoc) =>
        editedEntry(ztoc, ({ uncompressedOffset }) => ({ uncompressedOffset: uncompressedOffset + 512 })),
    ],
    [
      'the size of a file',
      (ztoc) => editedEntry(ztoc, ({ uncompressedSize }) => ({ uncompressedSize: uncompressedSize - 1 })),
    ],
    ['the name of a file', (ztoc) => editedEntry(ztoc, () => ({ name: parseRawText('etc/shadow') }))],
    ['the mode of a file', (ztoc) => editedEntry(ztoc, () => ({ mode: 0o4777 }))],
    ['the time of a file', (ztoc) => editedEntry(ztoc, () => ({ modTime: '2001-01-01T00:00:00Z' }))],
    [
      'an extended attribute',
      (ztoc) =>
        editedEntry(ztoc, () => ({
          paxRecords: new Map([[parseRawText('SCHILY.xattr.user.x'), parseRawText('y')]]),
        })),
    ],
    ['a file that is not there', (ztoc) => ({ entries: ztoc.entries.slice(0, -1) })],
    ['the digest of a span', (ztoc) => ({ spanDigests: ztoc.spanDigests.with(1, digestOf('no')) })],
    [
      'a byte of a window',
      (ztoc) =>
        editedCheckpoints(
          ztoc,
          (bytes) => (bytes[SECOND_CHECKPOINT + 30_000] = ~(bytes[SECOND_CHECKPOINT + 30_000] ?? 0)),
        ),
    ],
    [
      'the bits of a checkpoint',
      (ztoc) =>
        editedCheckpoints(
          ztoc,
          (bytes) => (bytes[SECOND_CHECKPOINT + 16] = ((bytes[SECOND_CHECKPOINT + 16] ?? 0) + 1) % 8),
        ),
    ],
    [
      'the place of a checkpoint',
      (ztoc) =>
        editedCheckpoints(ztoc, (bytes) =>
          bytes.writeBigInt64LE(bytes.readBigInt64LE(SECOND_CHECKPOINT) + 1n, SECOND_CHECKPOINT),
        ),
    ],
    [
      'the size of the archive',
      ({ uncompressedArchiveSize }) => ({ uncompressedArchiveSize: uncompressedArchiveSize + 512 }),
    ],
  ];

  it('a pushed index with one wrong value serves no wrong byte and is replaced by ours', async () => {
    const right = await ztocOf(PUSHED_SPAN_BYTES);
    const pushed = await Promise.all(
      wrongValues.map(async ([what, edit], place) => {
        const repository = `app-${place}`;
        return { what, repository, ...(await push({ ztoc: edited(right, edit), version: 1, repository })) };
      }),
    );
    const own = digestOf(await ztocOf(OWN_SPAN_BYTES));
    for (const start of ['first', 'second']) {
      await using app = await startApp();
      for (const { what, repository, manifest, index } of pushed) {
        expect([what, start, await pull(app, repository)]).toEqual([what, start, own]);
        const offered = await referrers(app, manifest, repository);
        expect([what, start, offered.length, offered.includes(index)]).toEqual([what, start, 1, false]);
      }
    }
  });
});

function withoutFirstCheckpoint({ checkpoints }: Ztoc): Partial<Ztoc> {
  const head = checkpoints.subarray(0, gzipZinfoBytes(0));
  return { checkpoints: Buffer.concat([head, checkpoints.subarray(SECOND_CHECKPOINT)]) };
}

function inAnotherZone(decoded: DecodedZtoc): Partial<Ztoc> {
  const shift = (time: string): string =>
    `${new Date(Date.parse(time) + 19_800_000).toISOString().slice(0, 19)}${time.slice(19, -1)}+05:30`;
  return { entries: decoded.entries.map((entry) => ({ ...entry, modTime: shift(entry.modTime) })) };
}
