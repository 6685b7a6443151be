import { beforeAll, beforeEach, describe, expect, it } from 'vitest';

import type { Digest } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { FaultProxy, PASS } from '../helpers/faults/fault-proxy.ts';
import { requestBlob, sha256 } from '../helpers/images/inflated-image.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import {
  basic,
  PRIVATE_BLOB,
  PRIVATE_DIGEST,
  PrivateRegistry,
} from '../helpers/upstreams/private-registry.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const ECR = '123456789012.dkr.ecr.eu-west-1.amazonaws.com';

let bucket: MotoBucket;
let faults: FaultProxy;
let registry: ScriptedRegistry;
let seed = 100;

beforeAll(async () => {
  bucket = cleanup.use(await MotoBucket.start());
  faults = cleanup.use(await FaultProxy.start(bucket.url));
  registry = cleanup.use(await ScriptedRegistry.start());
});

beforeEach(() => {
  faults.fault = () => PASS;
  setAwsEnvironment({ ...STATIC_KEYS, AWS_ENDPOINT_URL_S3: faults.url });
});

/** As Amazon S3, or as another store. */
function start(
  environment: Readonly<Record<string, string>> = {},
  upstream: object = {},
  from: { readonly url: string } = registry,
): Promise<RunningApp> {
  return proxyWith(from, {
    upstream,
    environment: {
      SPANDREL_STORAGE_S3_BUCKET: bucket.name,
      SPANDREL_STORAGE_S3_REGION: 'eu-west-1',
      SPANDREL_STORAGE_S3_FORCE_PATH_STYLE: 'true',
      SPANDREL_FILL_CHUNK_BYTES: '65536',
      ...environment,
    },
  });
}

async function addBlob(bytes = 300_000): Promise<{ digest: Digest; content: Buffer; name: string }> {
  const content = randomBlob(bytes, seed++);
  const digest = await registry.addBlob('team/app', new Uint8Array(content));
  return { digest, content, name: `blobs/sha256/${digest.slice('sha256:'.length)}` };
}

async function pull(app: RunningApp, digest: Digest): Promise<void> {
  const { status, body } = await requestBlob(app, digest);
  expect([status, sha256(body)]).toEqual([200, digest]);
}

/** GETs of a blob that the registry has answered. */
function fetched(digest: Digest): number {
  return registry.requests.entries.filter(
    ({ method, path }) => method === 'GET' && path.endsWith(`/blobs/${digest}`),
  ).length;
}

const copied = (name: string): Promise<void> => expect.poll(() => bucket.names('blobs/')).toContain(name);

describe('a proxy with a bucket', () => {
  it('serves a blob from the bucket, and says so', async () => {
    const { digest, name } = await addBlob();
    await pull(await start(), digest);
    await copied(name);
    const before = fetched(digest);
    const second = await start();
    await pull(second, digest);
    expect(fetched(digest)).toBe(before);
    expect(await second.metric('spandrel_durable_bytes_total{direction="read"}')).toBeGreaterThanOrEqual(
      300_000,
    );
    expect(await second.metric('spandrel_served_bytes_total{source="s3"}')).toBe(300_000);
  });

  it('gives a blob of the bucket to no repository that does not have it', async () => {
    const { digest, name } = await addBlob();
    await pull(await start(), digest);
    await copied(name);
    const { status } = await requestBlob(await start(), digest, {}, { repository: 'team/other' });
    expect(status).toBe(404);
  });

  it('lets nobody in whom the upstream does not let in, whatever the bucket has proven', async () => {
    const own = cleanup.use(await PrivateRegistry.start('basic'));
    const auth = { kind: 'basic', username: 'proxy', password: 'pw-proxy' };
    const open = (): Promise<RunningApp> =>
      start({ SPANDREL_ACCESS_KIND: 'upstream', SPANDREL_STORAGE_S3_PREFIX: 'private/' }, { auth }, own);
    const ask = async (app: RunningApp, user?: string, password = `pw-${user ?? ''}`): Promise<number> => {
      const headers: Record<string, string> =
        user === undefined ? {} : { authorization: basic(user, password) };
      const response = await fetch(`${app.url}/v2/alice/blobs/${PRIVATE_DIGEST}`, { headers });
      await response.arrayBuffer();
      return response.status;
    };
    const first = await open();
    expect(await ask(first, 'alice')).toBe(200);
    await expect.poll(() => bucket.names('private/blobs/')).toHaveLength(1);
    await first[Symbol.asyncDispose]();
    expect(await bucket.names('private/records/proofs/')).toEqual(['private/records/proofs/1/up/alice']);
    const second = await open();
    expect(await ask(second)).toBe(401);
    expect(await ask(second, 'alice', 'wrong')).toBe(401);
    expect(await ask(second, 'bob')).toBe(403);
    expect(await ask(second, 'alice')).toBe(200);
    expect(await second.metric('spandrel_served_bytes_total{source="s3"}')).toBe(PRIVATE_BLOB.byteLength);
  });

  it('counts an old proof of the bucket while the upstream is away, and only then', async () => {
    const { digest, name } = await addBlob();
    const network = cleanup.use(await FaultProxy.start(registry.url));
    const open = (): Promise<RunningApp> =>
      start({ SPANDREL_STORAGE_S3_PREFIX: 'old/', SPANDREL_UPSTREAM_RETRIES: '0' }, {}, network);
    const first = await open();
    await pull(first, digest);
    await expect.poll(() => bucket.names('old/blobs/')).toContain(`old/${name}`);
    await first[Symbol.asyncDispose]();
    const record = 'old/records/proofs/1/up/team/app';
    const proofs = JSON.parse(String(await bucket.get(record))) as Record<string, number>;
    const dayMs = 24 * 3_600_000;
    expect(Object.keys(proofs)).toEqual([digest]);
    await bucket.put(record, Buffer.from(JSON.stringify({ [digest]: Number(proofs[digest]) - dayMs })));

    network.fault = () => ({ kind: 'reset' });
    await pull(await open(), digest);
    // The upstream has lost it meanwhile.
    network.fault = ({ url = '' }) => (url.includes('/blobs/') ? { kind: 'status', status: 404 } : PASS);
    const refused = await open();
    expect((await requestBlob(refused, digest)).status).toBe(404);
    await refused[Symbol.asyncDispose]();
    await expect.poll(async () => String(await bucket.get(record))).toBe('{}');
    network.fault = () => ({ kind: 'reset' });
    expect((await requestBlob(await open(), digest)).status).toBe(502);
  });

  it('never serves wrong bytes of the bucket: they are replaced by the right ones', async () => {
    const { digest, content, name } = await addBlob();
    await bucket.put(name, Buffer.from(content).fill(7, 1000, 2000));
    const app = await start();
    // The first reader may be cut off, but gets no clean end.
    const first = await requestBlob(app, digest).catch(() => undefined);
    if (first?.status === 200) expect(sha256(first.body)).toBe(digest);
    await expect
      .poll(async () => {
        const response = await requestBlob(app, digest).catch(() => undefined);
        return response?.status === 200 && sha256(response.body);
      })
      .toBe(digest);
    await expect.poll(async () => (await bucket.get(name))?.equals(content)).toBe(true);
    expect(await app.metric('spandrel_durable_wrong_total{kind="blob"}')).toBeGreaterThan(0);
  });

  it.each([
    ['asks to slow down', { kind: 'status', status: 503, code: 'SlowDown' }],
    ['cuts bodies', { kind: 'cut', afterBytes: 10_000 }],
  ] as const)('serves blobs of the bucket also while the bucket %s', async (_, fault) => {
    const { digest, content, name } = await addBlob();
    await bucket.put(name, content);
    faults.fault = ({ method, url = '' }) => (method === 'GET' && url.includes(name) ? fault : PASS);
    await pull(await start(), digest);
  });

  it('writes what waited when the bucket is back', async () => {
    const { digest, name } = await addBlob();
    faults.fault = ({ method }) =>
      method === 'PUT' ? { kind: 'status', status: 503, code: 'SlowDown' } : PASS;
    const app = await start();
    await pull(app, digest);
    await expect
      .poll(() => faults.seen.some((seen) => seen.startsWith(`PUT /${bucket.name}/${name}`)))
      .toBe(true);
    expect(await app.metric('spandrel_durable_queue_length{kind="blob"}')).toBe(1);
    faults.fault = () => PASS;
    await copied(name);
    await expect.poll(() => app.metric('spandrel_durable_queue_length{kind="blob"}')).toBe(0);
  });

  it('with blobs: auto leaves out those of ECR in the region of the bucket', async () => {
    const [beside, far] = [await addBlob(), await addBlob()];
    const auth = { kind: 'anonymous' };
    const near = await start({}, { host: ECR, auth });
    await pull(near, beside.digest);
    await near[Symbol.asyncDispose]();
    await pull(await start({ SPANDREL_STORAGE_S3_REGION: 'us-east-1' }, { host: ECR, auth }), far.digest);
    await copied(far.name);
    expect(await bucket.names('blobs/')).not.toContain(beside.name);
  });

  it('with blobs: never keeps records only, and with always all blobs', async () => {
    const [none, all] = [await addBlob(), await addBlob()];
    const without = await start({ SPANDREL_STORAGE_S3_BLOBS: 'never' });
    await pull(without, none.digest);
    await without[Symbol.asyncDispose]();
    const auth = { kind: 'anonymous' };
    await pull(await start({ SPANDREL_STORAGE_S3_BLOBS: 'always' }, { host: ECR, auth }), all.digest);
    await copied(all.name);
    expect(await bucket.names('blobs/')).not.toContain(none.name);
  });
});
