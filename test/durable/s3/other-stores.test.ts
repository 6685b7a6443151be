import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { isSpandrelError } from '../../../src/core/errors.ts';
import { steadyNow } from '../../../src/core/steady-now.ts';
import { recordObjectName } from '../../../src/durable/objects/record-object-name.ts';
import { ObjectReads } from '../../../src/durable/s3/object-reads.ts';
import type { S3Place } from '../../../src/durable/s3/s3-api.ts';
import { S3Objects } from '../../../src/durable/s3/s3-objects.ts';
import { StoreGate } from '../../../src/durable/s3/store-gate.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { FaultProxy, PASS } from '../../helpers/faults/fault-proxy.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../../helpers/upstreams/aws-environment.ts';
import { MotoBucket } from '../../helpers/upstreams/moto-bucket.ts';

const PART_BYTES = 128 * 1024;
const bucket = cleanup.use(await MotoBucket.start());
const faults = cleanup.use(await FaultProxy.start(bucket.url));
const never = new AbortController().signal;
const events = new Events(collectingLogger());
const large = randomBlob(PART_BYTES + 1, 9);
const content = {
  sizeBytes: large.byteLength,
  read: async ({ start, end }: { start: number; end: number }) =>
    Promise.resolve(new Uint8Array(large.subarray(start, end))),
};

beforeEach(() => setAwsEnvironment(STATIC_KEYS));
afterEach(() => {
  faults.fault = () => PASS;
  vi.unstubAllEnvs();
});

async function openS3(place: Partial<S3Place> = {}): Promise<S3Objects> {
  const given = { bucket: bucket.name, region: undefined, endpoint: faults.url, forcePathStyle: undefined };
  return cleanup.use(await S3Objects.open({ place: { ...given, ...place }, partBytes: PART_BYTES, events }));
}

it('a store that knows no checksums and no chunked bodies gets none', async () => {
  const sent: string[] = [];
  faults.fault = ({ method, headers }) => {
    if (method !== 'GET')
      sent.push(...Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}`));
    return PASS;
  };
  const store = await openS3();
  await store.write('plain', new Uint8Array([1, 2]), { ifAbsent: true }, never);
  expect(await store.writeLarge('parts', content, never)).toBe('written');
  await store.delete('plain', never);
  expect(
    sent.filter((line) => /checksum|x-amz-trailer|x-amz-decoded|aws-chunked|transfer-encoding/.test(line)),
  ).toEqual([]);
  expect(sent).toContain('content-type: application/octet-stream');
  expect((await bucket.get('parts'))?.equals(large)).toBe(true);
});

it('a store that ignores conditions has right objects', async () => {
  faults.fault = ({ headers }) => {
    delete headers['if-none-match'];
    return PASS;
  };
  const store = await openS3();
  for (let writer = 0; writer < 2; writer++) {
    expect(await store.write('same', new Uint8Array([1]), { ifAbsent: true }, never)).toBe('written');
    expect(await store.writeLarge('same-parts', content, never)).toBe('written');
  }
  expect(await bucket.get('same')).toEqual(Buffer.from([1]));
  expect((await bucket.get('same-parts'))?.equals(large)).toBe(true);
});

it.each([
  ['my.team_1/', 'tag:1:up/app:v1.0-rc_2'],
  ['a/b.c/', 'profile:1:Ünï cödé/100%/a+b&c=d?e#f'],
  ['', `origin:2:sha256:${'0'.repeat(64)}`],
  ['x/', 'proofs:1:registry.test:5000/team/app'],
])('objects of any name are written, read, found, located and deleted (%s, %s)', async (prefix, key) => {
  const name = recordObjectName(prefix, key);
  expect(name).toMatch(/^[\w./%-]+$/);
  const store = await openS3();
  const bytes = new Uint8Array(Buffer.from(key));
  expect(await store.write(name, bytes, { ifAbsent: true }, never)).toBe('written');
  expect(await store.write(name, bytes, { ifAbsent: true }, never)).toBe('exists');
  expect((await store.read(name, 1000, never))?.bytes.toString()).toBe(key);
  expect((await store.stat(name, never))?.sizeBytes).toBe(bytes.byteLength);
  expect(await (await fetch(await store.locate(name))).text()).toBe(key);
  await store.delete(name, never);
  expect(await store.stat(name, never)).toBeUndefined();
});

describe('the URL of an object', () => {
  it.each([
    [{ bucket: 'plain' }, 'https://plain.s3.eu-west-1.amazonaws.com/x/y'],
    [{ bucket: 'plain', forcePathStyle: true }, 'https://s3.eu-west-1.amazonaws.com/plain/x/y'],
    // The certificate of Amazon S3 is for names without dots.
    [{ bucket: 'with.dots.example' }, 'https://s3.eu-west-1.amazonaws.com/with.dots.example/x/y'],
    [
      { bucket: 'vpc', endpoint: 'https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com' },
      'https://vpc.bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com/x/y',
    ],
    [{ bucket: 'own', endpoint: 'https://minio.internal:9000' }, 'https://minio.internal:9000/own/x/y'],
    [
      { bucket: 'own', endpoint: 'https://minio.internal:9000', forcePathStyle: false },
      'https://own.minio.internal:9000/x/y',
    ],
  ])('of %o is %s', async (place, expected) => {
    const store = await openS3({ region: 'eu-west-1', endpoint: undefined, ...place });
    const { origin, pathname } = await store.locate('x/y');
    expect(`${origin}${pathname}`).toBe(expected);
  });

  it.each([
    ['an hour', 60, 1],
    ['five minutes', 5, 3],
  ])('is signed again before the session that signed it ends (in %s)', async (_, minutes, signatures) => {
    let signed = 0;
    const presign = async (): Promise<{ url: URL; expiresAtMs: number }> => {
      const url = new URL(`https://bucket.test/?signature=${signed++}`);
      return Promise.resolve({ url, expiresAtMs: steadyNow() + minutes * 60_000 });
    };
    const gate = new StoreGate({ circuit: { failures: 1000, openMs: 1 }, events });
    const reads = cleanup.use(new ObjectReads({ api: { presign }, gate, events }));
    for (let use = 0; use < 3; use++) await reads.locate('x');
    expect(signed).toBe(signatures);
  });

  it('that cannot be signed in time is a failure of the store, not a wait', async () => {
    const presign = (): Promise<never> => Promise.withResolvers<never>().promise;
    const gate = new StoreGate({ circuit: { failures: 1000, openMs: 1 }, events });
    const timeouts = { connectMs: 1_000, headMs: 20, stallMs: 1_000 };
    const reads = cleanup.use(new ObjectReads({ api: { presign }, gate, timeouts, events }));
    await expect(reads.read('x', 10, never)).rejects.toSatisfy((error) =>
      isSpandrelError(error, 'UPSTREAM_TIMEOUT'),
    );
  });
});
