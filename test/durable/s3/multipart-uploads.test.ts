import { setImmediate } from 'node:timers/promises';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { isSpandrelError } from '../../../src/core/errors.ts';
import type { LargeContent } from '../../../src/durable/objects/object-store.ts';
import { ConditionalWrites } from '../../../src/durable/s3/conditional-writes.ts';
import { MultipartUploads } from '../../../src/durable/s3/multipart-uploads.ts';
import { StoreGate } from '../../../src/durable/s3/store-gate.ts';
import { S3Objects } from '../../../src/durable/s3/s3-objects.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { type Fault, FaultProxy, PASS } from '../../helpers/faults/fault-proxy.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../../helpers/upstreams/aws-environment.ts';
import { MotoBucket } from '../../helpers/upstreams/moto-bucket.ts';

const PART_BYTES = 128 * 1024;
const MB = 1_000_000;
/** For moto, all uploads began in 2010. */
const YEAR_MS = 365 * 24 * 3_600_000;
const bucket = cleanup.use(await MotoBucket.start());
const faults = cleanup.use(await FaultProxy.start(bucket.url));
const never = new AbortController().signal;
const bytes = randomBlob(2 * PART_BYTES + 5, 7);

beforeEach(() => setAwsEnvironment(STATIC_KEYS));
afterEach(async () => {
  faults.fault = () => PASS;
  faults.seen.length = 0;
  for (const name of await bucket.uploads()) await (await openS3()).abortOldUploads(name, 0, never);
  vi.unstubAllEnvs();
});

async function openS3(): Promise<S3Objects> {
  return cleanup.use(
    await S3Objects.open({
      place: { bucket: bucket.name, region: undefined, endpoint: faults.url, forcePathStyle: undefined },
      events: new Events(collectingLogger()),
      partBytes: PART_BYTES,
      // Tests of single requests.
      writes: { connectMs: 5_000, requestMs: 10_000, retries: 0 },
      circuit: { failures: 1000, openMs: 1 },
    }),
  );
}

const content: LargeContent = {
  sizeBytes: bytes.byteLength,
  read: async ({ start, end }) => Promise.resolve(new Uint8Array(bytes.subarray(start, end))),
};

/** The part of an upload that a request is about. */
function stepOf(method = '', url = ''): 'begin' | 'part' | 'complete' | 'abort' | 'other' {
  if (method === 'POST') return /[?&]uploads(=|&|$)/.test(url) ? 'begin' : 'complete';
  if (!url.includes('uploadId=')) return 'other';
  return method === 'PUT' ? 'part' : 'abort';
}

async function outcomeOf(name: string, step: string, fault: Fault, times = Infinity): Promise<unknown> {
  const store = await openS3();
  let left = times;
  faults.fault = ({ method, url }) => (stepOf(method, url) === step && left-- > 0 ? fault : PASS);
  try {
    return await store.writeLarge(name, content, never);
  } catch (error) {
    return isSpandrelError(error) ? error.code : error;
  }
}

describe('an upload in parts', () => {
  it.each([
    // Whether it came about is not known: the blob is looked for before it is written again.
    ['whose end is lost', 'complete', { kind: 'lose' }, 1, 'UPSTREAM_UNREACHABLE', true],
    ['whose end fails', 'complete', { kind: 'status', status: 500 }, 1, 'UPSTREAM_UNREACHABLE', false],
    [
      'whose end fails after its status of 200',
      'complete',
      { kind: 'status', status: 200, code: 'InternalError' },
      1,
      'UPSTREAM_UNREACHABLE',
      false,
    ],
    [
      'whose end meets an object of the name',
      'complete',
      { kind: 'status', status: 412, code: 'PreconditionFailed' },
      1,
      'exists',
      false,
    ],
    [
      'whose every end meets another writer',
      'complete',
      { kind: 'status', status: 409, code: 'ConditionalRequestConflict' },
      3,
      'UPSTREAM_PROTOCOL',
      false,
    ],
    [
      'of which a part is damaged',
      'part',
      { kind: 'status', status: 400, code: 'BadDigest' },
      1,
      'UPSTREAM_PROTOCOL',
      false,
    ],
    ['of which a part breaks off', 'part', { kind: 'reset' }, 1, 'UPSTREAM_UNREACHABLE', false],
    [
      'that the store throttles',
      'part',
      { kind: 'status', status: 503, code: 'SlowDown' },
      1,
      'UPSTREAM_THROTTLED',
      false,
    ],
    [
      'that the store does not know',
      'begin',
      { kind: 'status', status: 501, code: 'NotImplemented' },
      1,
      'UPSTREAM_PROTOCOL',
      false,
    ],
  ] as const)('%s leaves nothing behind', async (what, step, fault, times, outcome, isThere) => {
    const name = what.replaceAll(' ', '-');
    expect(await outcomeOf(name, step, fault, times)).toBe(outcome);
    expect(await bucket.uploads()).toEqual([]);
    expect((await bucket.get(name))?.equals(bytes)).toBe(isThere ? true : undefined);
  });

  it('whose end meets another writer is done again from the beginning', async () => {
    const fault = { kind: 'status', status: 409, code: 'ConditionalRequestConflict' } as const;
    expect(await outcomeOf('conflict', 'complete', fault, 1)).toBe('written');
    expect(faults.seen.filter((request) => /^POST .*\?uploads/.test(request))).toHaveLength(2);
    expect(faults.seen.filter((request) => request.includes('partNumber=1'))).toHaveLength(2);
    expect((await bucket.get('conflict'))?.equals(bytes)).toBe(true);
  });

  it('to a store that knows no conditional writes is completed without', async () => {
    const store = await openS3();
    faults.fault = ({ headers }) =>
      headers['if-none-match'] === undefined ? PASS : { kind: 'status', status: 501, code: 'NotImplemented' };
    expect(await store.writeLarge('plain', content, never)).toBe('written');
    expect((await bucket.get('plain'))?.equals(bytes)).toBe(true);
    expect(store.gate.lastFailure).toBe('');
  });

  it.each([
    ['100 MB', 100 * MB, 4],
    ['80 GB', 80_000 * MB, 4],
    ['200 GB', 200_000 * MB, 1],
    ['4 TB', 4_000_000 * MB, 1],
  ])(
    'of %s keeps as few parts in memory as make 32 MiB, and has 10,000 at most',
    async (_, sizeBytes, most) => {
      let held = 0;
      let peak = 0;
      let parts = 0;
      const events = new Events(collectingLogger());
      const uploads = new MultipartUploads({
        api: {
          beginUpload: async () => Promise.resolve('id'),
          async putPart(_name, { PartNumber }) {
            parts++;
            await setImmediate();
            held--;
            return { PartNumber, ETag: 'x', ChecksumSHA256: undefined };
          },
          completeUpload: async () => Promise.resolve(),
          abortUpload: async () => Promise.resolve(),
          listUploads: async () => Promise.resolve([]),
        },
        gate: new StoreGate({ circuit: { failures: 1, openMs: 1 }, events }),
        conditional: new ConditionalWrites(),
        events,
      });
      let end = 0;
      const read: LargeContent['read'] = async (range) => {
        peak = Math.max(peak, ++held);
        end = Math.max(end, range.end);
        if (parts >= 20) throw new Error('enough');
        return Promise.resolve(new Uint8Array(1));
      };
      const writing = uploads.write('x', { sizeBytes, read }, never);
      if (sizeBytes > 20 * 8 * 2 ** 20) {
        await expect(writing).rejects.toThrow('enough');
        expect(end / parts).toBeGreaterThanOrEqual(sizeBytes / 10_000);
      } else expect(await writing).toBe('written');
      expect(peak).toBe(most);
    },
  );

  it('that cannot be aborted is found and aborted later', async () => {
    const store = await openS3();
    faults.fault = ({ method, url }) =>
      ['part', 'abort'].includes(stepOf(method, url)) ? { kind: 'reset' } : PASS;
    await expect(store.writeLarge('left/one', content, never)).rejects.toSatisfy((error) =>
      isSpandrelError(error, 'UPSTREAM_UNREACHABLE'),
    );
    expect(await bucket.uploads()).toEqual(['left/one']);
    faults.fault = () => PASS;
    await store.abortOldUploads('left/', 0, never);
    expect(await bucket.uploads()).toEqual([]);
  });

  it('of a process that has died is found and aborted later', async () => {
    const store = await openS3();
    await bucket.beginUpload('dead/blobs/one');
    await bucket.beginUpload('other/blobs/one');
    await store.abortOldUploads('dead/', 100 * YEAR_MS, never);
    expect(await bucket.uploads()).toHaveLength(2);
    await store.abortOldUploads('dead/', 0, never);
    expect(await bucket.uploads()).toEqual(['other/blobs/one']);
  });

  it('that another replica has aborted is no failure: the others are aborted too', async () => {
    const store = await openS3();
    for (const name of ['dead/1', 'dead/2', 'dead/3']) await bucket.beginUpload(name);
    faults.fault = ({ method, url = '' }) =>
      stepOf(method, url) === 'abort' && url.includes('dead/1')
        ? { kind: 'status', status: 404, code: 'NoSuchUpload' }
        : PASS;
    await store.abortOldUploads('dead/', 0, never);
    expect(await bucket.uploads()).toEqual(['dead/1']);
  });
});
