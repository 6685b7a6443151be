import { expect, it } from 'vitest';

import type { BlobResponse, BlobSource } from '../../src/core/sources/blob-source.ts';
import type { BlobTier, TierBlob } from '../../src/core/sources/blob-tier.ts';
import { digestOf } from '../../src/core/digest.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob, readWhole } from '../helpers/layers/random-blob.ts';

const BYTES = randomBlob(1_000_000, 1);
const DIGEST = digestOf(BYTES);

/** A tier that answers with `respond`, and remembers what it was told. */
class FakeTier implements BlobTier {
  readonly calls: string[] = [];
  readonly blobs = new Set<TierBlob>();
  readonly name: BlobTier['name'];
  readonly #respond: BlobTier['fetch'];

  constructor(name: BlobTier['name'], respond: BlobTier['fetch']) {
    this.name = name;
    this.#respond = respond;
  }

  fetch(...asked: Parameters<BlobTier['fetch']>): Promise<BlobResponse | undefined> {
    this.blobs.add(asked[0]);
    if (this.calls.at(-1) !== 'fetch') this.calls.push('fetch');
    return this.#respond(...asked);
  }

  ended(_blob: TierBlob, outcome: Parameters<BlobTier['ended']>[1]): void {
    this.calls.push(outcome);
  }
}

function holding(name: BlobTier['name'], source: MemorySource): FakeTier {
  return new FakeTier(name, (_blob, range, signal) => source.fetch(range, signal));
}

const EMPTY = (name: BlobTier['name']): FakeTier => new FakeTier(name, () => Promise.resolve(undefined));

function upstreamWith(source: MemorySource, isForReplica = false): BlobSource {
  return {
    upstream: 'hub',
    repositoryKey: 'hub/team/app',
    isForReplica,
    fetch: (range, signal) => source.fetch(range, signal),
  };
}

it('a fill asks its tiers in order, and the upstream for nothing that one of them has', async () => {
  const [upstream, held] = [new MemorySource(BYTES), new MemorySource(BYTES)];
  const [peer, s3] = [EMPTY('peer'), holding('s3', held)];
  const delivered: string[] = [];
  await using store = await blobStore({ tiers: [peer, s3] });
  store.onDelivered((_, name) => delivered.push(name));
  await using handle = await store.openBlob(DIGEST, upstreamWith(upstream), { complete: true });
  expect((await readWhole(handle)).equals(BYTES)).toBe(true);
  expect(handle.source).toBe('s3');
  await handle.completed();
  expect(upstream.requests).toEqual([]);
  expect(held.bytesSent).toBe(BYTES.byteLength);
  expect([...s3.blobs]).toEqual([{ digest: DIGEST, upstream: 'hub', repository: 'team/app' }]);
  expect([peer.calls, s3.calls]).toEqual([
    ['fetch', 'complete'],
    ['fetch', 'complete'],
  ]);
  // The bytes prove nothing about what the upstream sends.
  expect(delivered).toEqual([]);
});

it('the upstream sends what no tier has, and has then delivered the blob', async () => {
  const upstream = new MemorySource(BYTES);
  const delivered: string[] = [];
  await using store = await blobStore({ tiers: [EMPTY('peer'), EMPTY('s3')] });
  store.onDelivered((_, name) => delivered.push(name));
  await using handle = await store.openBlob(DIGEST, upstreamWith(upstream), { complete: true });
  expect((await readWhole(handle)).equals(BYTES)).toBe(true);
  await handle.completed();
  expect(upstream.bytesSent).toBe(BYTES.byteLength);
  expect(delivered).toEqual(['hub']);
});

it.each([
  ['ends', undefined],
  ['breaks off', new SpandrelError('UPSTREAM_PROTOCOL', 'cut short')],
])('a tier learns when the upstream is read, and when that %s', async (_how, error) => {
  const upstream = new MemorySource(BYTES, {
    beforePiece: () => {
      if (error !== undefined) throw error;
    },
  });
  const [tier, reads] = [EMPTY('peer'), { begun: 0, running: 0 }];
  const upstreamRead = (): (() => void) => {
    reads.begun++;
    reads.running++;
    return () => reads.running--;
  };
  await using store = await blobStore({ tiers: [Object.assign(tier, { upstreamRead })] });
  const opening = store.openBlob(DIGEST, upstreamWith(upstream), { complete: true });
  await opening.then(
    async (handle) => {
      await handle.completed().catch(() => undefined);
      await handle[Symbol.asyncDispose]();
    },
    () => undefined,
  );
  expect(reads.begun).toBe(upstream.requests.length);
  expect(reads.running).toBe(0);
});

it('a tier that breaks off is asked for the rest only, and the upstream for what it lacks then', async () => {
  const upstream = new MemorySource(BYTES);
  let left = 5;
  const breaking = new MemorySource(BYTES, {
    beforePiece: () => {
      if (left-- <= 0) throw new SpandrelError('UPSTREAM_UNREACHABLE', 'the peer is gone');
    },
  });
  const peer = new FakeTier('peer', (_blob, range, signal) =>
    left > 0 ? breaking.fetch(range, signal) : Promise.resolve(undefined),
  );
  await using store = await blobStore({ tiers: [peer] });
  await using handle = await store.openBlob(DIGEST, upstreamWith(upstream), { complete: true });
  expect((await readWhole(handle)).equals(BYTES)).toBe(true);
  expect(breaking.bytesSent).toBeGreaterThan(0);
  expect(breaking.bytesSent + upstream.bytesSent).toBe(BYTES.byteLength);
});

it('a tier that sent wrong bytes is told so, and only that tier', async () => {
  const wrong = Buffer.from(BYTES);
  wrong.writeUInt8(wrong.readUInt8(500_000) ^ 1, 500_000);
  const [upstream, damaged] = [new MemorySource(BYTES), new MemorySource(wrong)];
  let isTrusted = true;
  const s3 = new FakeTier('s3', (_blob, range, signal) =>
    isTrusted ? damaged.fetch(range, signal) : Promise.resolve(undefined),
  );
  const peer = EMPTY('peer');
  await using store = await blobStore({ tiers: [peer, s3] });
  {
    await using handle = await store.openBlob(DIGEST, upstreamWith(upstream), { complete: true });
    const failure: unknown = await readWhole(handle).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'BLOB_CORRUPT' });
    expect((failure as { isOf: (key: string) => boolean }).isOf('hub/team/app')).toBe(false);
  }
  expect([peer.calls, s3.calls]).toEqual([
    ['fetch', 'failed'],
    ['fetch', 'wrong'],
  ]);
  isTrusted = false;
  await using again = await store.openBlob(DIGEST, upstreamWith(upstream), { complete: true });
  expect((await readWhole(again)).equals(BYTES)).toBe(true);
});

it('what another replica asks for is not asked of a third one', async () => {
  const [upstream, held] = [new MemorySource(BYTES), new MemorySource(BYTES)];
  const [peer, s3] = [holding('peer', held), EMPTY('s3')];
  await using store = await blobStore({ tiers: [peer, s3] });
  await using handle = await store.openBlob(DIGEST, upstreamWith(upstream, true), { complete: true });
  expect((await readWhole(handle)).equals(BYTES)).toBe(true);
  expect(peer.calls).toEqual([]);
  expect(s3.calls).toContain('fetch');
});

it('tiers hear the end of a fill that could not start', async () => {
  const peer = EMPTY('peer');
  await using store = await blobStore({ tiers: [peer] });
  const source: BlobSource = {
    upstream: 'hub',
    repositoryKey: 'hub/app',
    fetch: () => Promise.reject(new SpandrelError('BLOB_UNKNOWN', 'there is no such blob')),
  };
  await expect(store.openBlob(DIGEST, source)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  expect(peer.calls).toEqual(['fetch', 'failed']);
});
