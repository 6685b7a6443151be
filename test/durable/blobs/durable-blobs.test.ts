import { describe, expect, it } from 'vitest';

import { type Digest, digestHex, digestOf } from '../../../src/core/digest.ts';
import { SpandrelError } from '../../../src/core/errors.ts';
import { DurableBlobs, type DurableBlobsDeps } from '../../../src/durable/blobs/durable-blobs.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { MemoryObjects } from '../../helpers/upstreams/memory-objects.ts';

const BYTES = randomBlob(5000, 1);
const DIGEST = digestOf(BYTES);
const NAME = `up/blobs/sha256/${digestHex(DIGEST)}`;
const BLOB = { digest: DIGEST, upstream: 'hub', repository: 'team/app' };
const LOST = new SpandrelError('UPSTREAM_UNREACHABLE', 'lost');
const never = new AbortController().signal;

/** Never responds. */
class HangingObjects extends MemoryObjects {
  ended = 0;

  override async stat(_name: string, signal: AbortSignal): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>();
    signal.addEventListener('abort', () => {
      this.ended++;
      reject(signal.reason as Error);
    });
    return promise;
  }
}

function openBlobs(options: Partial<DurableBlobsDeps> = {}) {
  const objects = new MemoryObjects();
  const clock = { now: 0 };
  const stored = new Map<Digest, Buffer>([[DIGEST, BYTES]]);
  let opened = 0;
  const blobs = cleanup.use(
    new DurableBlobs({
      objects,
      prefix: 'up/',
      keeps: () => true,
      bytesPerSecond: 0,
      pauses: { firstMs: 1, longestMs: 1 },
      events: new Events(collectingLogger()),
      now: () => clock.now,
      ...options,
    }),
  );
  blobs.copyFrom(async (digest) => {
    await Promise.resolve();
    const bytes = stored.get(digest);
    if (bytes === undefined) return undefined;
    opened++;
    return {
      sizeBytes: bytes.byteLength,
      read: async ({ start, end }) => Promise.resolve(new Uint8Array(bytes.subarray(start, end))),
      [Symbol.asyncDispose]: async () => {
        opened--;
        return Promise.resolve();
      },
    };
  });
  const written = (): Promise<void> =>
    expect.poll(() => ({ queued: blobs.queued, opened })).toEqual({ queued: 0, opened: 0 });
  return { objects, blobs, clock, stored, written };
}

async function fetchAll(blobs: DurableBlobs, sizeBytes?: number): Promise<Buffer | undefined> {
  const response = await blobs.fetch(BLOB, undefined, never, sizeBytes);
  if (response === undefined) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of response.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('blobs in the durable tier', () => {
  it('are written when a fill is complete, once, and read by the next fill', async () => {
    const { objects, blobs, written } = openBlobs();
    expect(await fetchAll(blobs)).toBeUndefined();
    for (let fill = 0; fill < 3; fill++) blobs.ended(BLOB, 'complete');
    await written();
    blobs.ended(BLOB, 'complete');
    await written();
    expect(objects.objects.get(NAME)?.equals(BYTES)).toBe(true);
    expect(objects.asked.filter((request) => request.startsWith('write'))).toHaveLength(1);
    expect((await fetchAll(blobs, BYTES.byteLength))?.equals(BYTES)).toBe(true);
  });

  it('are not written after a fill that stopped, failed, or was wrong', async () => {
    const { objects, blobs, written } = openBlobs();
    for (const outcome of ['stopped', 'failed', 'wrong'] as const) blobs.ended(BLOB, outcome);
    await written();
    expect(objects.objects.size).toBe(0);
  });

  it('are not written again by another replica', async () => {
    const { objects, blobs, written } = openBlobs();
    objects.objects.set(NAME, BYTES);
    blobs.ended(BLOB, 'complete');
    await written();
    expect(objects.asked).toEqual([`stat ${NAME}`]);
  });

  it('of the wrong size are misses, and are replaced', async () => {
    const { objects, blobs, written } = openBlobs();
    objects.objects.set(NAME, BYTES.subarray(1));
    expect(await fetchAll(blobs, BYTES.byteLength)).toBeUndefined();
    blobs.ended(BLOB, 'complete');
    await written();
    expect(objects.objects.get(NAME)?.equals(BYTES)).toBe(true);
  });

  it('that do not match their digest are deleted, not asked for again, and written anew', async () => {
    const { objects, blobs, written } = openBlobs();
    const wrong = Buffer.from(BYTES).fill(0);
    objects.objects.set(NAME, wrong);
    expect(await fetchAll(blobs, BYTES.byteLength)).toEqual(wrong);
    blobs.ended(BLOB, 'wrong');
    expect(await fetchAll(blobs)).toBeUndefined();
    await written();
    expect(objects.objects.size).toBe(0);
    objects.objects.set(NAME, wrong);
    blobs.ended(BLOB, 'wrong');
    // The next fill is complete before the object is deleted.
    blobs.ended(BLOB, 'complete');
    await written();
    expect(objects.objects.get(NAME)?.equals(BYTES)).toBe(true);
  });

  it('that the store has evicted before their turn are skipped', async () => {
    const { objects, blobs, stored, written } = openBlobs();
    stored.clear();
    blobs.ended(BLOB, 'complete');
    await written();
    expect(objects.asked).toEqual([]);
  });

  it('that are absent are not looked for again for a while', async () => {
    const { objects, blobs, clock } = openBlobs();
    for (let range = 0; range < 5; range++) expect(await fetchAll(blobs)).toBeUndefined();
    expect(objects.asked).toHaveLength(1);
    objects.objects.set(NAME, BYTES);
    clock.now = 31_000;
    expect((await fetchAll(blobs))?.equals(BYTES)).toBe(true);
  });

  it('of upstreams that are not kept are neither read nor written', async () => {
    const { objects, blobs, written } = openBlobs({ keeps: (upstream) => upstream !== 'hub' });
    objects.objects.set(NAME, BYTES);
    expect(await fetchAll(blobs)).toBeUndefined();
    blobs.ended(BLOB, 'complete');
    blobs.ended(BLOB, 'wrong');
    await written();
    blobs.used(DIGEST, 'hub');
    await written();
    expect(await blobs.locate('hub', DIGEST, never)).toBeUndefined();
    expect(objects.asked).toEqual([]);
  });

  it('that are in use and not in the bucket are copied: one question a day for each', async () => {
    const { objects, blobs, clock, written } = openBlobs();
    for (let read = 0; read < 5; read++) blobs.used(DIGEST, 'hub');
    await written();
    expect(objects.objects.get(NAME)?.equals(BYTES)).toBe(true);
    expect(objects.asked).toEqual([`stat ${NAME}`, `write ${NAME}`]);
    clock.now = 23 * 3_600_000;
    blobs.used(DIGEST, 'hub');
    await written();
    expect(objects.asked).toHaveLength(2);
    // A rule of the bucket has deleted it.
    objects.objects.clear();
    clock.now = 25 * 3_600_000;
    blobs.used(DIGEST, 'hub');
    await written();
    expect(objects.objects.get(NAME)?.equals(BYTES)).toBe(true);
  });

  it('are misses while the store fails, and are written when it is back', async () => {
    const { objects, blobs, written } = openBlobs();
    objects.fault = LOST;
    expect(await fetchAll(blobs)).toBeUndefined();
    expect(await blobs.locate('hub', DIGEST, never)).toBeUndefined();
    blobs.ended(BLOB, 'complete');
    await expect.poll(() => objects.asked.length).toBeGreaterThan(5);
    expect(blobs.queued).toBe(1);
    objects.fault = undefined;
    await written();
    expect(objects.objects.get(NAME)?.equals(BYTES)).toBe(true);
  });

  it('have a URL if they are there', async () => {
    const { objects, blobs, clock } = openBlobs();
    expect(await blobs.locate('hub', DIGEST, never)).toBeUndefined();
    objects.objects.set(NAME, BYTES);
    expect(await blobs.locate('hub', DIGEST, never)).toBeUndefined();
    clock.now = 31_000;
    expect((await blobs.locate('hub', DIGEST, never))?.pathname).toBe(`/${NAME}`);
    expect(objects.asked.filter((request) => request.startsWith('stat'))).toHaveLength(2);
  });

  it('have no URL while the store does not respond: the client gets them from the proxy', async () => {
    const objects = new HangingObjects();
    const { blobs } = openBlobs({ objects });
    expect(await blobs.locate('hub', DIGEST, never)).toBeUndefined();
    expect(objects.ended).toBe(1);
  });

  it('have a size if they are there, and none that anybody waits for long', async () => {
    const { objects, blobs, clock } = openBlobs();
    expect(await blobs.size(DIGEST, 'hub', never)).toBeUndefined();
    objects.objects.set(NAME, BYTES);
    clock.now = 31_000;
    expect(await blobs.size(DIGEST, 'hub', never)).toBe(BYTES.byteLength);
    objects.fault = LOST;
    expect(await blobs.size(DIGEST, 'hub', never)).toBeUndefined();
    const hanging = openBlobs({ objects: new HangingObjects() });
    expect(await hanging.blobs.size(DIGEST, 'hub', never)).toBeUndefined();
    const over = AbortSignal.abort(new Error('over'));
    await expect(openBlobs().blobs.size(DIGEST, 'hub', over)).rejects.toThrow('over');
  });

  it('of any digest have the name that an OCI layout gives them', async () => {
    const { objects, blobs, stored, written } = openBlobs();
    const digest = digestOf(BYTES, 'sha512');
    stored.set(digest, BYTES);
    blobs.ended({ ...BLOB, digest }, 'complete');
    await written();
    expect([...objects.objects.keys()]).toEqual([`up/blobs/sha512/${digestHex(digest)}`]);
  });

  it('have no URL a minute after a rule of the bucket has deleted them', async () => {
    const { objects, blobs, clock } = openBlobs();
    objects.objects.set(NAME, BYTES);
    expect(await blobs.locate('hub', DIGEST, never)).toBeDefined();
    objects.objects.clear();
    clock.now = 60_001;
    expect(await blobs.locate('hub', DIGEST, never)).toBeUndefined();
  });

  it('end with the signal of the fill', async () => {
    const { blobs } = openBlobs();
    await expect(blobs.fetch(BLOB, undefined, AbortSignal.abort(new Error('over')))).rejects.toThrow('over');
  });
});
