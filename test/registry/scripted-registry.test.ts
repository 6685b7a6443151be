import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';

import { afterEach, describe, expect, it } from 'vitest';

import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { generateDemoImage } from '../../src/demo/demo-image.ts';
import { ScriptedRegistry, type ScriptedRegistryOptions } from './scripted-registry.ts';
import { Random } from '../../src/demo/random.ts';
import { ManualClock } from '../helpers/manual-clock.ts';

const random = new Random('demo registry');
const BLOB = Uint8Array.from({ length: 300_000 }, () => random.uint32() & 255);
const BLOB_DIGEST = `sha256:${createHash('sha256').update(BLOB).digest('hex')}`;
const BLOB_PATH = `/v2/team/app/blobs/${BLOB_DIGEST}`;
const MANIFEST = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, layers: [] }),
);

const stack: ScriptedRegistry[] = [];

async function start(options: ScriptedRegistryOptions = {}): Promise<ScriptedRegistry> {
  const registry = await ScriptedRegistry.start(options);
  stack.push(registry);
  await registry.addBlob('team/app', BLOB);
  for (const tag of ['1.0', '1.1', 'latest'])
    registry.addManifest('team/app', tag, MANIFEST, MEDIA_TYPES.ociManifest);
  return registry;
}

afterEach(async () => {
  for (const registry of stack.splice(0)) await registry[Symbol.asyncDispose]();
});

/** At most one connection, kept. */
function disposableAgent(): Agent & Disposable {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return Object.assign(agent, { [Symbol.dispose]: () => agent.destroy() });
}

async function getWith(agent: Agent | undefined, url: string): Promise<void> {
  const sending = get(url, { agent: agent ?? false });
  const [response] = (await once(sending, 'response')) as [IncomingMessage];
  response.resume();
  await once(response, 'end');
}

async function errorCode(response: Response): Promise<string | undefined> {
  const { errors } = (await response.json()) as { errors: { code: string; message: string }[] };
  return errors[0]?.code;
}

describe('blobs', () => {
  it('are sent whole, with their digest', async () => {
    const { url } = await start();
    const response = await fetch(url + BLOB_PATH);
    expect(response.status).toBe(200);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-length': '300000',
      'docker-content-digest': BLOB_DIGEST,
      'accept-ranges': 'bytes',
      'content-type': 'application/octet-stream',
    });
    expect(Buffer.from(await response.arrayBuffer()).equals(BLOB)).toBe(true);
  });

  it('answer HEAD without a body', async () => {
    const registry = await start();
    const response = await fetch(registry.url + BLOB_PATH, { method: 'HEAD' });
    expect([response.status, response.headers.get('content-length'), await response.text()]).toEqual([
      200,
      '300000',
      '',
    ]);
    expect(registry.requests.bytesSent).toBe(0);
  });

  it.each([
    ['bytes=0-0', 0, 1],
    ['bytes=5-100', 5, 101],
    ['bytes=299999-', 299_999, 300_000],
    ['bytes=100-', 100, 300_000],
    ['bytes=-500', 299_500, 300_000],
    ['bytes=-999999', 0, 300_000],
    ['bytes=299990-999999', 299_990, 300_000],
  ])('are sent in part for %s', async (range, start_, end) => {
    const { url } = await start();
    const response = await fetch(url + BLOB_PATH, { headers: { range } });
    expect(response.status).toBe(206);
    expect(response.headers.get('content-range')).toBe(`bytes ${start_}-${end - 1}/300000`);
    expect(Buffer.from(await response.arrayBuffer()).equals(BLOB.subarray(start_, end))).toBe(true);
  });

  it.each(['bytes=300000-', 'bytes=500-0', 'bytes=-0', 'bytes=999999-9999999'])(
    'answer 416 for %s',
    async (range) => {
      const { url } = await start();
      const response = await fetch(url + BLOB_PATH, { headers: { range } });
      expect([response.status, response.headers.get('content-range')]).toEqual([416, 'bytes */300000']);
      expect(await errorCode(response)).toBe('RANGE_INVALID');
    },
  );

  it.each(['bytes=0-1,5-6', 'bytes=-', 'bytes=x-y', 'lines=0-1'])('ignore a range like %s', async (range) => {
    const { url } = await start();
    const response = await fetch(url + BLOB_PATH, { headers: { range } });
    expect(response.status).toBe(200);
    expect(Buffer.from(await response.arrayBuffer()).equals(BLOB)).toBe(true);
  });

  it('ignore every range when they are switched off', async () => {
    const { url } = await start({ ranges: false });
    const response = await fetch(url + BLOB_PATH, { headers: { range: 'bytes=0-0' } });
    expect([response.status, response.headers.get('accept-ranges')]).toEqual([200, null]);
    expect(Buffer.from(await response.arrayBuffer()).equals(BLOB)).toBe(true);
  });
});

describe('manifests, tags and referrers', () => {
  it('answers a manifest by tag and by digest', async () => {
    const registry = await start();
    const byTag = await fetch(`${registry.url}/v2/team/app/manifests/latest`);
    const digest = byTag.headers.get('docker-content-digest') ?? '';
    expect(byTag.headers.get('content-type')).toBe(MEDIA_TYPES.ociManifest);
    expect(await byTag.text()).toBe(MANIFEST.toString());
    const byDigest = await fetch(`${registry.url}/v2/team/app/manifests/${digest}`, { method: 'HEAD' });
    expect([byDigest.status, byDigest.headers.get('content-length')]).toEqual([200, String(MANIFEST.length)]);
  });

  it('moves and removes tags', async () => {
    const registry = await start();
    const moved = registry.addManifest('team/app', 'latest', Buffer.from('{}'), MEDIA_TYPES.ociIndex);
    expect(
      (await fetch(`${registry.url}/v2/team/app/manifests/latest`)).headers.get('docker-content-digest'),
    ).toBe(moved);
    registry.content.removeTag('team/app', 'latest');
    expect((await fetch(`${registry.url}/v2/team/app/manifests/latest`)).status).toBe(404);
    expect((await fetch(`${registry.url}/v2/team/app/manifests/${moved}`)).status).toBe(200);
  });

  it.each([
    ['', ['1.0', '1.1', 'latest'], null],
    ['?n=2', ['1.0', '1.1'], '</v2/team/app/tags/list?n=2&last=1.1>; rel="next"'],
    ['?n=2&last=1.1', ['latest'], null],
    ['?n=3', ['1.0', '1.1', 'latest'], null],
    ['?n=0', [], null],
    ['?last=1.05', ['1.1', 'latest'], null],
  ])('lists tags for %j', async (query, tags, link) => {
    const { url } = await start();
    const response = await fetch(`${url}/v2/team/app/tags/list${query}`);
    expect(await response.json()).toEqual({ name: 'team/app', tags });
    expect(response.headers.get('link')).toBe(link);
  });

  it('lists referrers, filtered if that is wanted', async () => {
    const registry = await start();
    const subject = registry.addManifest('team/app', 'latest', MANIFEST, MEDIA_TYPES.ociManifest);
    const add = (fields: object): string => {
      const bytes = Buffer.from(JSON.stringify({ ...fields, subject: { digest: subject } }));
      return registry.addManifest(
        'team/app',
        `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
        bytes,
        MEDIA_TYPES.ociManifest,
      );
    };
    const signature = add({ artifactType: 'application/signature', annotations: { by: 'me' } });
    const index = add({ config: { mediaType: MEDIA_TYPES.sociIndexV1 } });
    const url = `${registry.url}/v2/team/app/referrers/${subject}`;
    const all = (await (await fetch(url)).json()) as {
      manifests: { digest: string; artifactType: string }[];
    };
    expect(all.manifests.map(({ digest, artifactType }) => [digest, artifactType])).toEqual([
      [signature, 'application/signature'],
      [index, MEDIA_TYPES.sociIndexV1],
    ]);
    const filtered = await fetch(`${url}?artifactType=application/signature`);
    expect(filtered.headers.get('oci-filters-applied')).toBe('artifactType');
    expect(await filtered.json()).toMatchObject({
      manifests: [{ digest: signature, annotations: { by: 'me' } }],
    });
    const unknown = await fetch(`${registry.url}/v2/team/app/referrers/sha256:${'0'.repeat(64)}`);
    expect(await unknown.json()).toMatchObject({ mediaType: MEDIA_TYPES.ociIndex, manifests: [] });
  });

  it('has no Referrers API when that is switched off', async () => {
    const { url } = await start({ referrers: false });
    expect((await fetch(`${url}/v2/team/app/referrers/${BLOB_DIGEST}`)).status).toBe(404);
  });

  it('serves a generated image under its tags', async () => {
    const registry = await start();
    const image = await generateDemoImage({ seed: 'served', scale: 0.02 });
    await registry.addImage('app', image);
    for (const tag of image.tags) {
      const response = await fetch(`${registry.url}/v2/app/manifests/${tag}`);
      expect(response.headers.get('docker-content-digest')).toBe(image.digest);
    }
    for (const { digest, bytes } of image.blobs) {
      const response = await fetch(`${registry.url}/v2/app/blobs/${digest}`);
      expect(Buffer.from(await response.arrayBuffer()).equals(bytes)).toBe(true);
    }
  });
});

describe('errors', () => {
  it.each([
    ['GET', '/v2/team/app/blobs/sha256:nonsense', 400, 'DIGEST_INVALID'],
    ['GET', '/v2/team/app/blobs/latest', 400, 'DIGEST_INVALID'],
    ['GET', `/v2/team/app/blobs/sha256:${'0'.repeat(64)}`, 404, 'BLOB_UNKNOWN'],
    ['GET', `/v2/other/blobs/${BLOB_DIGEST}`, 404, 'BLOB_UNKNOWN'],
    ['GET', '/v2/team/app/manifests/none', 404, 'MANIFEST_UNKNOWN'],
    ['GET', '/v2/other/manifests/latest', 404, 'NAME_UNKNOWN'],
    ['GET', '/v2/Team/manifests/latest', 400, 'NAME_INVALID'],
    ['GET', '/v2/other/tags/list', 404, 'NAME_UNKNOWN'],
    ['GET', '/v2/team/app/tags/list?n=many', 400, 'QUERY_INVALID'],
    ['GET', '/v2/_catalog', 404, 'ROUTE_UNKNOWN'],
    ['PUT', '/v2/team/app/manifests/latest', 405, 'UNSUPPORTED'],
  ])('answers %s %s with %d %s', async (method, path, status, code) => {
    const { url } = await start();
    const response = await fetch(url + path, { method });
    expect([response.status, await errorCode(response)]).toEqual([status, code]);
  });
});

describe('latency and rates', () => {
  it('waits before every answer', async () => {
    const clock = new ManualClock();
    const registry = await start({ latencyMs: 50, clock });
    const answered = fetch(`${registry.url}/v2/`);
    await clock.asleep(1);
    expect(registry.requests.inFlight).toBe(1);
    clock.advance(50);
    expect((await answered).status).toBe(200);
  });

  it.each([
    ['each connection', { bytesPerSecond: 1_000_000 }, 300],
    ['all connections together', { totalBytesPerSecond: 1_500_000 }, 400],
  ])('sends no more than the rate of %s allows', async (_what, rates, expectedMs) => {
    const clock = new ManualClock({ runs: true });
    const registry = await start({ ...rates, clock });
    const begin = clock.now();
    const bodies = [0, 1].map(async () => (await fetch(registry.url + BLOB_PATH)).arrayBuffer());
    for (const body of await Promise.all(bodies)) expect(Buffer.from(body).equals(BLOB)).toBe(true);
    // Time stands still while there is work, and the first 20 ms are credit.
    expect(clock.now() - begin).toBeGreaterThan(expectedMs - 21);
    expect(clock.now() - begin).toBeLessThanOrEqual(2 * 300);
  });

  it('tells connections apart', async () => {
    const registry = await start();
    using agent = disposableAgent();
    for (const path of ['/v2/', '/v2/', BLOB_PATH]) await getWith(agent, registry.url + path);
    await getWith(undefined, `${registry.url}/v2/`);
    expect(registry.requests.entries.map(({ connectionId }) => connectionId)).toEqual([1, 1, 1, 2]);
    expect(registry.connectionCount).toBe(2);
  });
});

describe('the listeners', () => {
  it('fail to start on a port that is taken', async () => {
    const { host } = await start();
    await expect(ScriptedRegistry.start({ port: Number(host.split(':')[1]) })).rejects.toThrow('EADDRINUSE');
  });

  it('are gone after disposal, which may be done twice', async () => {
    const registry = await start({ redirectBlobs: true });
    await registry[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    await expect(fetch(`${registry.url}/v2/`)).rejects.toThrow('fetch failed');
  });
});
