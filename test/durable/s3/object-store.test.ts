import { createHash } from 'node:crypto';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { isSpandrelError } from '../../../src/core/errors.ts';
import type { BlobResponse } from '../../../src/core/sources/blob-source.ts';
import type { LargeContent, ObjectStore } from '../../../src/durable/objects/object-store.ts';
import { S3Objects, type S3ObjectsOptions } from '../../../src/durable/s3/s3-objects.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { type Fault, FaultProxy, PASS } from '../../helpers/faults/fault-proxy.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../../helpers/upstreams/aws-environment.ts';
import { MemoryObjects } from '../../helpers/upstreams/memory-objects.ts';
import { MotoBucket } from '../../helpers/upstreams/moto-bucket.ts';

const PART_BYTES = 128 * 1024;
const bucket = cleanup.use(await MotoBucket.start());
const faults = cleanup.use(await FaultProxy.start(bucket.url));
const never = new AbortController().signal;

beforeEach(() => setAwsEnvironment(STATIC_KEYS));
afterEach(() => {
  faults.fault = () => PASS;
  faults.seen.length = 0;
  vi.unstubAllEnvs();
});

async function openS3(options: Partial<S3ObjectsOptions> = {}, url = faults.url): Promise<S3Objects> {
  const place = { bucket: bucket.name, region: undefined, endpoint: url, forcePathStyle: undefined };
  const events = new Events(collectingLogger());
  return cleanup.use(
    await S3Objects.open({
      place,
      events,
      partBytes: PART_BYTES,
      reads: { connectMs: 5_000, headMs: 5_000, stallMs: 1_000 },
      ...options,
    }),
  );
}

function contentOf(bytes: Buffer): LargeContent {
  return {
    sizeBytes: bytes.byteLength,
    read: async ({ start, end }) => Promise.resolve(new Uint8Array(bytes.subarray(start, end))),
  };
}

async function bodyOf(response: BlobResponse | undefined): Promise<Buffer | undefined> {
  if (response === undefined) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of response.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The first try of each request for an object fails, in one way after the other. */
function everyFirstFails(): FaultProxy['fault'] {
  const tried = new Set<string>();
  const ways: Fault[] = [
    { kind: 'status', status: 503, code: 'SlowDown' },
    { kind: 'reset' },
    { kind: 'status', status: 500, code: 'InternalError' },
  ];
  return ({ method, url = '' }) => {
    const name = `${method} ${url}`;
    if (method === 'GET' || tried.has(name)) return PASS;
    tried.add(name);
    return ways[tried.size % ways.length] ?? PASS;
  };
}

const STORES: Readonly<Record<string, () => Promise<ObjectStore>>> = {
  'in memory': () => Promise.resolve(new MemoryObjects()),
  'in a bucket': () => openS3(),
  'in a bucket whose every first request fails': async () => {
    faults.fault = everyFirstFails();
    return openS3({ circuit: { failures: 1000, openMs: 1 } });
  },
};

describe.each(Object.entries(STORES))('a store of objects %s', (where, open) => {
  const name = (key: string): string => `${where.replaceAll(' ', '-')}/${key}`;

  it('returns what was written, whole and in ranges', async () => {
    const store = await open();
    const bytes = randomBlob(100_000, 1);
    expect(await store.write(name('whole'), new Uint8Array(bytes), { ifAbsent: true }, never)).toBe(
      'written',
    );
    expect((await store.stat(name('whole'), never))?.sizeBytes).toBe(100_000);
    expect((await store.read(name('whole'), 100_000, never))?.bytes.equals(bytes)).toBe(true);
    for (const [start, end] of [
      [0, 1],
      [99_999, 100_000],
      [5, 70_000],
      [0, 100_000],
      [50_000, 200_000],
    ] as const) {
      const response = await store.fetch(name('whole'), { start, end }, never, 100_000);
      expect(response).toMatchObject({ range: { start, end: Math.min(end, 100_000) }, totalBytes: 100_000 });
      expect((await bodyOf(response))?.equals(bytes.subarray(start, end))).toBe(true);
    }
    expect((await bodyOf(await store.fetch(name('whole'), undefined, never)))?.equals(bytes)).toBe(true);
  });

  it('has nothing of a name that was not written, or was deleted', async () => {
    const store = await open();
    await store.write(name('gone'), new Uint8Array(3), { ifAbsent: false }, never);
    await store.delete(name('gone'), never);
    await store.delete(name('gone'), never);
    for (const key of ['gone', 'never']) {
      expect(await store.stat(name(key), never)).toBeUndefined();
      expect(await store.read(name(key), 10, never)).toBeUndefined();
      expect(await store.fetch(name(key), { start: 0, end: 1 }, never)).toBeUndefined();
    }
  });

  it('keeps the first object of a name if asked to, and replaces it else', async () => {
    const store = await open();
    const [first, second] = [new Uint8Array([1]), new Uint8Array([2, 2])];
    await store.write(name('twice'), first, { ifAbsent: true }, never);
    expect(await store.write(name('twice'), second, { ifAbsent: true }, never)).toBe('exists');
    expect((await store.read(name('twice'), 9, never))?.bytes).toEqual(Buffer.from(first));
    expect(await store.write(name('twice'), second, { ifAbsent: false }, never)).toBe('written');
    expect((await store.read(name('twice'), 9, never))?.bytes).toEqual(Buffer.from(second));
  });

  it('keeps an empty object', async () => {
    const store = await open();
    await store.write(name('empty'), new Uint8Array(0), { ifAbsent: true }, never);
    expect((await store.stat(name('empty'), never))?.sizeBytes).toBe(0);
    expect(await bodyOf(await store.fetch(name('empty'), undefined, never, 0))).toEqual(Buffer.alloc(0));
  });

  it('refuses to read past the end, another size, and a record that is too large', async () => {
    const store = await open();
    await store.write(name('small'), new Uint8Array(10), { ifAbsent: true }, never);
    const isRefused = (error: unknown): boolean => isSpandrelError(error, 'UPSTREAM_PROTOCOL');
    await expect(store.fetch(name('small'), { start: 10, end: 20 }, never)).rejects.toSatisfy(isRefused);
    await expect(store.fetch(name('small'), { start: 0, end: 5 }, never, 11)).rejects.toSatisfy(isRefused);
    await expect(store.read(name('small'), 9, never)).rejects.toSatisfy(isRefused);
  });

  it('writes a large object in parts', async () => {
    const store = await open();
    const bytes = randomBlob(2 * PART_BYTES + 1, 2);
    expect(await store.writeLarge(name('large'), contentOf(bytes), never)).toBe('written');
    expect((await store.read(name('large'), bytes.byteLength, never))?.bytes.equals(bytes)).toBe(true);
    expect(await store.writeLarge(name('large'), contentOf(randomBlob(PART_BYTES + 1, 3)), never)).toBe(
      'exists',
    );
    expect((await store.stat(name('large'), never))?.sizeBytes).toBe(bytes.byteLength);
    expect(await bucket.uploads()).toEqual([]);
  });

  it('takes one of two writers of the same object, and both are content', async () => {
    const store = await open();
    const bytes = randomBlob(PART_BYTES + 1, 4);
    const outcomes = await Promise.all([
      store.writeLarge(name('race'), contentOf(bytes), never),
      store.writeLarge(name('race'), contentOf(bytes), never),
    ]);
    expect(outcomes).toContain('written');
    expect((await store.read(name('race'), bytes.byteLength, never))?.bytes.equals(bytes)).toBe(true);
    expect(await bucket.uploads()).toEqual([]);
  });

  it('throws the reason of a signal', async () => {
    const store = await open();
    const ended = AbortSignal.abort(new Error('enough'));
    await expect(store.stat(name('any'), ended)).rejects.toThrow('enough');
    await expect(store.fetch(name('any'), undefined, ended)).rejects.toThrow('enough');
    await expect(store.writeLarge(name('any'), contentOf(Buffer.alloc(9)), ended)).rejects.toThrow('enough');
  });

  it('gives a URL that anybody can read', async () => {
    const store = await open();
    await store.write(name('open'), new Uint8Array([7]), { ifAbsent: true }, never);
    const url = await store.locate(name('open'));
    expect(await store.locate(name('open'))).toEqual(url);
    if (url.protocol === 'http:')
      expect(Buffer.from(await (await fetch(url)).arrayBuffer())).toEqual(Buffer.from([7]));
  });
});

describe('a read from a bucket that', () => {
  const bytes = randomBlob(300_000, 5);
  const range = { start: 1000, end: 250_000 };

  async function readWith(fault: Fault, options: Partial<S3ObjectsOptions> = {}): Promise<unknown> {
    const store = await openS3({ circuit: { failures: 1000, openMs: 1 }, ...options });
    await bucket.put('read', bytes);
    faults.fault = ({ method }) => (method === 'GET' ? fault : PASS);
    try {
      return await bodyOf(await store.fetch('read', range, never, bytes.byteLength));
    } catch (error) {
      return isSpandrelError(error) ? error.code : error;
    }
  }

  it.each([
    ['sends nothing', { kind: 'stall' }, 'UPSTREAM_TIMEOUT'],
    ['breaks the connection', { kind: 'reset' }, 'UPSTREAM_UNREACHABLE'],
    ['speaks no HTTP', { kind: 'garbage' }, 'UPSTREAM_UNREACHABLE'],
    ['stops in the middle', { kind: 'hang', afterBytes: 100 }, 'UPSTREAM_TIMEOUT'],
    ['is cut', { kind: 'cut', afterBytes: 100_000 }, 'UPSTREAM_UNREACHABLE'],
    ['ends early', { kind: 'short', afterBytes: 100_000 }, 'UPSTREAM_PROTOCOL'],
    ['asks to slow down', { kind: 'status', status: 503, code: 'SlowDown' }, 'UPSTREAM_THROTTLED'],
    ['fails', { kind: 'status', status: 500 }, 'UPSTREAM_UNREACHABLE'],
    ['denies', { kind: 'status', status: 403, code: 'AccessDenied' }, 'UPSTREAM_CREDENTIALS_REFUSED'],
    [
      'knows the key no more',
      { kind: 'status', status: 403, code: 'ExpiredToken' },
      'UPSTREAM_CREDENTIALS_REFUSED',
    ],
    [
      'sees another clock',
      { kind: 'status', status: 403, code: 'RequestTimeTooSkewed' },
      'UPSTREAM_CREDENTIALS_REFUSED',
    ],
    ['has no such bucket', { kind: 'status', status: 404, code: 'NoSuchBucket' }, 'UPSTREAM_UNREACHABLE'],
    [
      'is in another region',
      { kind: 'status', status: 301, code: 'PermanentRedirect' },
      'UPSTREAM_UNREACHABLE',
    ],
  ] as const)('%s throws an error of the table', async (_, fault, code) => {
    const reads = { connectMs: 1_000, headMs: 300, stallMs: 300 };
    expect(await readWith(fault, fault.kind === 'status' ? {} : { reads })).toBe(code);
  });

  it('ignores ranges returns the whole object, and says so', async () => {
    await bucket.put('read', bytes);
    const store = await openS3();
    faults.fault = ({ headers }) => {
      delete headers.range;
      return PASS;
    };
    const response = await store.fetch('read', range, never, bytes.byteLength);
    expect(response?.range).toEqual({ start: 0, end: bytes.byteLength });
    expect((await bodyOf(response))?.equals(bytes)).toBe(true);
  });
});

it('Amazon S3 gets the SHA-256 of each object and part, and keeps it', async () => {
  setAwsEnvironment({ ...STATIC_KEYS, AWS_ENDPOINT_URL_S3: faults.url });
  const place = { bucket: bucket.name, region: 'eu-west-1', endpoint: undefined, forcePathStyle: true };
  const store = await openS3({ place });
  const sent: unknown[] = [];
  faults.fault = ({ method, headers }) => {
    if (method === 'PUT') sent.push(headers['x-amz-checksum-sha256']);
    return PASS;
  };
  const bytes = randomBlob(PART_BYTES + 1, 8);
  const hash = (part: Buffer): string => createHash('sha256').update(part).digest('base64');
  await store.write('amazon-whole', new Uint8Array(bytes), { ifAbsent: true }, never);
  expect(await store.writeLarge('amazon-parts', contentOf(bytes), never)).toBe('written');
  const parts = [bytes.subarray(0, PART_BYTES), bytes.subarray(PART_BYTES)].map(hash);
  expect(new Set(sent)).toEqual(new Set([hash(bytes), ...parts]));
  expect((await bucket.get('amazon-parts'))?.equals(bytes)).toBe(true);
});

it('a HEAD that is refused without a reason means that the session has expired', async () => {
  const store = await openS3();
  faults.fault = ({ method }) => (method === 'HEAD' ? { kind: 'status', status: 400 } : PASS);
  await expect(store.stat('any', never)).rejects.toSatisfy((error) =>
    isSpandrelError(error, 'UPSTREAM_CREDENTIALS_REFUSED'),
  );
});

it('a URL that the store refuses is signed again, once', async () => {
  const store = await openS3();
  await bucket.put('signed', Buffer.from('content'));
  expect((await store.read('signed', 100, never))?.bytes.toString()).toBe('content');
  let refusals = 1;
  faults.fault = () => (refusals-- > 0 ? { kind: 'status', status: 403, code: 'ExpiredToken' } : PASS);
  expect((await store.read('signed', 100, never))?.bytes.toString()).toBe('content');
  expect(refusals).toBe(-1);
});

it('one signed URL serves all ranges', async () => {
  const store = await openS3();
  await bucket.put('ranges', randomBlob(1000, 6));
  for (let start = 0; start < 5; start++)
    await bodyOf(await store.fetch('ranges', { start, end: start + 10 }, never));
  expect(new Set(faults.seen).size).toBe(1);
});

it('a store that fails is left alone, and probed after a while', async () => {
  let now = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => now);
  const store = await openS3({ circuit: { failures: 2, openMs: 1000 } });
  faults.fault = () => ({ kind: 'status', status: 403, code: 'AccessDenied' });
  const isThere = async (): Promise<boolean> =>
    store.stat('any', never).then(
      () => true,
      () => false,
    );
  for (let count = 0; count < 5; count++) expect(await isThere()).toBe(false);
  expect(faults.seen).toHaveLength(2);
  expect(store.gate.isOpen).toBe(true);
  faults.fault = () => PASS;
  now = 1001;
  expect(await isThere()).toBe(true);
  expect(store.gate.isOpen).toBe(false);
  vi.restoreAllMocks();
});

it('a store that throttles writes is read all the same', async () => {
  const writes = { connectMs: 5_000, requestMs: 10_000, retries: 0 };
  const store = await openS3({ circuit: { failures: 2, openMs: 1_000_000 }, writes });
  await bucket.put('read-while', Buffer.from('content'));
  faults.fault = ({ method }) =>
    method === 'PUT' ? { kind: 'status', status: 503, code: 'SlowDown' } : PASS;
  for (let write = 0; write < 5; write++)
    await expect(store.write('throttled', new Uint8Array(1), { ifAbsent: true }, never)).rejects.toSatisfy(
      (error) => isSpandrelError(error, 'UPSTREAM_THROTTLED'),
    );
  expect(store.gate.isOpen).toBe(false);
  expect((await store.read('read-while', 100, never))?.bytes.toString()).toBe('content');
});

it('the SDK signs the hash that it is given, and computes none', async () => {
  const store = await openS3();
  const seen: unknown[] = [];
  faults.fault = (request) => {
    if (request.method === 'PUT') seen.push(request.headers['x-amz-content-sha256']);
    return PASS;
  };
  const sha256 = 'ab'.repeat(32);
  await store.write('hash', new Uint8Array(10), { ifAbsent: true, sha256 }, never);
  expect(seen).toEqual([sha256]);
});

it('a store that knows no conditional writes is written to without', async () => {
  const store = await openS3();
  faults.fault = ({ headers }) =>
    headers['if-none-match'] === undefined ? PASS : { kind: 'status', status: 501, code: 'NotImplemented' };
  expect(await store.write('plain', new Uint8Array([1]), { ifAbsent: true }, never)).toBe('written');
  expect(await bucket.get('plain')).toEqual(Buffer.from([1]));
});
