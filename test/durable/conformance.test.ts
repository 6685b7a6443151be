import { readdir, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { BlobStore } from '../../src/blobs/blob-store.ts';
import { DigestFiles } from '../../src/blobs/shelves/digest-files.ts';
import { readBlobRange } from '../../src/blobs/reads/read-blob-range.ts';
import { type Digest, digestHex, digestOf } from '../../src/core/digest.ts';
import type { ManifestDocument } from '../../src/core/manifest-document.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { DurableBlobs } from '../../src/durable/blobs/durable-blobs.ts';
import { DurableRecords } from '../../src/durable/records/durable-records.ts';
import { S3Objects } from '../../src/durable/s3/s3-objects.ts';
import { ManifestStore } from '../../src/images/documents/manifest-store.ts';
import { Origins } from '../../src/images/proofs/origins.ts';
import { Events } from '../../src/telemetry/events.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { type Fault, FaultProxy, PASS } from '../helpers/faults/fault-proxy.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';

const bucket = cleanup.use(await MotoBucket.start());
const network = cleanup.use(await FaultProxy.start(bucket.url));
const never = new AbortController().signal;
/** Also one that is written in parts. */
const BLOBS = [0, 1, 8 * 2 ** 20 + 1].map((bytes, seed) => randomBlob(bytes, 50 + seed));
const BLOB = randomBlob(300_000, 60);
const MANIFEST = manifestOf('{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}');
const LAYER = digestOf('layer');
const ZTOC = digestOf('ztoc');

beforeEach(() => setAwsEnvironment(STATIC_KEYS));
afterEach(() => {
  network.fault = () => PASS;
  vi.unstubAllEnvs();
});

function manifestOf(text: string): ManifestDocument {
  const bytes = Buffer.from(text);
  return { bytes, digest: digestOf(bytes), mediaType: MEDIA_TYPES.ociManifest };
}

/** What serves content: the parts of a replica that keep it. */
interface Keeper extends AsyncDisposable {
  readonly blobs: BlobStore;
  readonly manifests: ManifestStore;
  readonly origins: Origins;
  /** Resolves when nothing waits to be written. */
  written(): Promise<void>;
}

async function openKeeper(root: string, prefix: string | undefined, stallMs = 10_000): Promise<Keeper> {
  await using opening = new AsyncDisposableStack();
  const events = new Events(collectingLogger());
  const tier = prefix === undefined ? undefined : await openTier(prefix, stallMs, events);
  if (tier !== undefined) opening.use(tier.objects);
  const blobs = opening.use(
    await blobStore({
      root,
      fill: { parallel: 3, chunkBytes: 128 * 1024 },
      tiers: tier === undefined ? [] : [tier.blobs],
    }),
  );
  if (tier !== undefined) {
    opening.use(tier.records);
    opening.use(tier.blobs);
    tier.blobs.copyFrom(async (digest) => {
      const handle = await blobs.openStored(digest);
      return (
        handle && {
          sizeBytes: handle.sizeBytes,
          read: async (range, signal) => Uint8Array.from(await readBlobRange(handle, range, signal)),
          [Symbol.asyncDispose]: () => handle[Symbol.asyncDispose](),
        }
      );
    });
  }
  const owned = opening.move();
  return {
    blobs,
    manifests: new ManifestStore(new DigestFiles(join(root, 'manifests')), tier?.records),
    origins: new Origins({ files: new DigestFiles(join(root, 'origins')), shared: tier?.records }),
    written: () =>
      expect.poll(() => (tier?.blobs.queued ?? 0) + (tier?.records.queued ?? 0), { timeout: 20_000 }).toBe(0),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function openTier(prefix: string, stallMs: number, events: Events) {
  const objects = await S3Objects.open({
    place: { bucket: bucket.name, region: undefined, endpoint: network.url, forcePathStyle: undefined },
    events,
    partBytes: 4 * 2 ** 20,
    // The queue tries again.
    writes: { connectMs: 10_000, requestMs: 10_000, retries: 0 },
    // A machine under load is slow.
    reads: { connectMs: 10_000, headMs: 10_000, stallMs },
    circuit: { failures: 10_000, openMs: 1 },
  });
  const shared = { objects, prefix, events, pauses: { firstMs: 1, longestMs: 10 } };
  const blobs = new DurableBlobs({ ...shared, keeps: () => true, bytesPerSecond: 0 });
  return { objects, blobs, records: new DurableRecords(shared) };
}

/** As an upstream that sends what it has, and counts it. */
class Upstream extends MemorySource {
  readonly upstream = 'up';
  readonly repositoryKey = 'up/app';
}

/** All bytes that the keeper serves of a blob, in ranges and whole. @returns bytes from the upstream */
async function expectServed(keeper: Keeper, bytes: Buffer): Promise<number> {
  const source = new Upstream(bytes);
  const end = bytes.byteLength;
  await using blob = await keeper.blobs.openBlob(digestOf(bytes), source, { signal: never });
  expect(blob.sizeBytes).toBe(end);
  for (const [first, last] of [
    [0, Math.min(end, 1)],
    [Math.max(0, end - 1), end],
    [Math.floor(end / 3), Math.floor(end / 3) + Math.min(70_000, Math.floor(end / 2))],
    [0, end],
  ] as const) {
    const part = await readBlobRange(blob, { start: first, end: last }, never);
    expect(part.equals(bytes.subarray(first, last))).toBe(true);
  }
  await blob.completed(never);
  return source.bytesSent;
}

async function take(keeper: Keeper, blobs: readonly Buffer[]): Promise<void> {
  for (const bytes of blobs) await expectServed(keeper, bytes);
  await keeper.manifests.put(MANIFEST);
  await keeper.origins.publish(ZTOC, () => ({ kind: 'layer', layer: LAYER, spanBytes: 4096 }));
  await keeper.written();
}

/** Where the first life of a keeper leaves things, and the second one finds them. */
const PLACES = {
  'the disk alone': { keepsDisk: true, hasBucket: false },
  'the bucket alone': { keepsDisk: false, hasBucket: true },
  both: { keepsDisk: true, hasBucket: true },
};

const FAULTS: Readonly<Record<string, readonly Fault[]>> = {
  'asks to slow down, and fails': [
    { kind: 'status', status: 503, code: 'SlowDown' },
    { kind: 'status', status: 500, code: 'InternalError' },
  ],
  'refuses the session': [{ kind: 'status', status: 403, code: 'ExpiredToken' }],
  'resets connections, and loses responses': [{ kind: 'reset' }, { kind: 'lose' }],
  'cuts bodies, ends them early, and stops in the middle': [
    { kind: 'cut', afterBytes: 10_000 },
    { kind: 'short', afterBytes: 10_000 },
    { kind: 'hang', afterBytes: 10_000 },
  ],
  'sends another range, and compresses': [
    { kind: 'headers', headers: { 'content-range': 'bytes 7-70006/100000' } },
    { kind: 'headers', headers: { 'content-encoding': 'gzip' } },
  ],
};

/** Where the disk has everything, one after the other is enough. */
function faultsOf(keepsDisk: boolean): [string, readonly Fault[]][] {
  return keepsDisk ? [['fails in every way', Object.values(FAULTS).flat()]] : Object.entries(FAULTS);
}

/** Some faults end so. */
const STALL_MS = 300;
let places = 0;
const nextPrefix = (): string => `place-${places++}/`;

describe.each(Object.entries(PLACES))('content that is kept in %s', (_, { keepsDisk, hasBucket }) => {
  it('is served after a restart, whole and in ranges, without a byte from the upstream', async () => {
    const root = await temporaryFolder();
    const prefix = hasBucket ? nextPrefix() : undefined;
    {
      await using first = await openKeeper(root, prefix);
      await take(first, [...BLOBS, BLOB]);
    }
    await using second = await openKeeper(keepsDisk ? root : await temporaryFolder(), prefix);
    for (const bytes of [...BLOBS, BLOB]) expect(await expectServed(second, bytes)).toBe(0);
    expect(await second.manifests.get(MANIFEST.digest)).toEqual(MANIFEST);
    expect(await second.origins.find(ZTOC)).toEqual({ kind: 'layer', layer: LAYER, spanBytes: 4096 });
    const missing = digestOf('missing');
    expect(await second.manifests.get(missing)).toBeUndefined();
    expect(await second.origins.find(missing)).toBeUndefined();
  });

  it.each(hasBucket ? faultsOf(keepsDisk) : [])(
    'is right while every third request to a bucket that %s is broken',
    async (_fault, faults) => {
      const root = await temporaryFolder();
      const prefix = nextPrefix();
      let requests = 0;
      network.fault = () =>
        requests++ % 3 === 0 ? (faults[((requests / 3) % faults.length) | 0] ?? PASS) : PASS;
      {
        await using first = await openKeeper(root, prefix, STALL_MS);
        expect(await expectServed(first, BLOB)).toBe(BLOB.byteLength);
        await first.manifests.put(MANIFEST);
        await first.origins.publish(ZTOC, () => ({ kind: 'layer', layer: LAYER }));
        await first.written();
      }
      await using second = await openKeeper(keepsDisk ? root : await temporaryFolder(), prefix, STALL_MS);
      const sent = await expectServed(second, BLOB);
      if (keepsDisk) expect(sent).toBe(0);
      const manifest = await second.manifests.get(MANIFEST.digest);
      if (manifest !== undefined || keepsDisk) expect(manifest).toEqual(MANIFEST);
      const origin = await second.origins.find(ZTOC);
      if (origin !== undefined || keepsDisk) expect(origin).toEqual({ kind: 'layer', layer: LAYER });
    },
  );

  it.each(keepsDisk ? ['damaged'] : [])('is right when files of the disk are %s', async () => {
    const root = await temporaryFolder();
    const prefix = hasBucket ? nextPrefix() : undefined;
    {
      await using first = await openKeeper(root, prefix);
      await take(first, [BLOB]);
    }
    let damaged = 0;
    for (const name of await readdir(root, { recursive: true })) {
      if (!/[0-9a-f]{64}/.test(name) || !(await stat(join(root, name))).isFile()) continue;
      await truncate(join(root, name), 50);
      damaged++;
    }
    expect(damaged).toBeGreaterThanOrEqual(3);
    await using second = await openKeeper(root, prefix);
    const sent = await expectServed(second, BLOB);
    expect(sent).toBe(hasBucket ? 0 : BLOB.byteLength);
    expect(await second.manifests.get(MANIFEST.digest)).toEqual(hasBucket ? MANIFEST : undefined);
    const origin = await second.origins.find(ZTOC);
    expect(origin?.kind).toBe(hasBucket ? 'layer' : undefined);
  });

  it.each(hasBucket ? ['truncated', 'damaged', 'deleted'] : [])(
    'is right when the objects of the bucket are %s, and they are mended',
    async (damage) => {
      const root = await temporaryFolder();
      const prefix = nextPrefix();
      const names = (digest: Digest): string[] => [
        `${prefix}blobs/sha256/${digestHex(digest)}`,
        `${prefix}manifest/sha256/${digestHex(MANIFEST.digest)}`,
      ];
      {
        await using first = await openKeeper(root, prefix);
        await take(first, [BLOB]);
      }
      for (const name of names(digestOf(BLOB))) {
        const object = (await bucket.get(name)) ?? Buffer.alloc(0);
        expect(object.byteLength).toBeGreaterThan(0);
        if (damage === 'deleted') await bucket.delete(name);
        else
          await bucket.put(
            name,
            damage === 'truncated' ? object.subarray(1) : Buffer.from(object).fill(7, 20, 40),
          );
      }
      await using second = await openKeeper(keepsDisk ? root : await temporaryFolder(), prefix);
      // A reader of a fill may be cut off when its bytes prove wrong.
      await expect
        .poll(() =>
          expectServed(second, BLOB).then(
            () => true,
            () => false,
          ),
        )
        .toBe(true);
      const manifest = await second.manifests.get(MANIFEST.digest);
      if (keepsDisk) expect(manifest).toEqual(MANIFEST);
      else expect(manifest).toBeUndefined();
      await second.manifests.put(MANIFEST);
      await second.written();
      if (keepsDisk && damage !== 'deleted') return;
      const [blob = '', document = ''] = names(digestOf(BLOB));
      await expect.poll(async () => (await bucket.get(blob))?.equals(BLOB)).toBe(true);
      await expect.poll(async () => (await bucket.get(document))?.equals(MANIFEST.bytes)).toBe(true);
    },
  );
});
