import { randomBytes } from 'node:crypto';

import { describe, expect, it } from 'vitest';

import { parseConfig } from '../../src/config/parse-config.ts';
import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { ScriptedRegistry, type ScriptedRegistryOptions } from '../registry/scripted-registry.ts';
import { Events } from '../../src/telemetry/events.ts';
import { createUpstreams, type Upstreams } from '../../src/upstream/upstreams.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { makeSecret } from '../helpers/secrets.ts';

const PASSWORD = makeSecret('password of the proxy');
const BLOB = randomBytes(300_000);
const MANIFEST = Buffer.from('{"schemaVersion":2,"layers":[]}');

let registry: ScriptedRegistry;
let upstreams: Upstreams;
let pauses: number[];

async function start(
  options: ScriptedRegistryOptions = {},
  auth: object = { kind: 'anonymous' },
): Promise<void> {
  registry = cleanup.use(await ScriptedRegistry.start(options));
  await registry.addBlob('app', new Uint8Array(BLOB));
  registry.addManifest('app', '1.0', MANIFEST, MEDIA_TYPES.ociManifest);
  const config = parseConfig({
    yaml: '',
    environment: {
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: registry.url, auth }]),
      SPANDREL_UPSTREAM_STALL_TIMEOUT_MS: '200',
    },
  });
  pauses = [];
  upstreams = cleanup.use(
    await createUpstreams({
      upstreams: config.upstreams ?? [],
      timing: config.upstream,
      limits: config.limits,
      events: new Events(collectingLogger()),
      logger: collectingLogger(),
      // Retries follow at once; how long they would have waited is kept.
      pause: async (delayMs) => void pauses.push(delayMs),
    }),
  );
}

const signal = new AbortController().signal;

function client(): Upstreams['clients'][number] {
  const [first] = upstreams.clients;
  if (first === undefined) throw new Error('no client');
  return first;
}

async function fetchBlob(range?: { start: number; end: number }): Promise<Buffer> {
  const { body } = await client().blobSource('app', digestOf(BLOB)).fetch(range, signal);
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('RegistryClient', () => {
  it.each([
    ['none', { kind: 'none' }, { kind: 'anonymous' }],
    [
      'Basic',
      { kind: 'basic', username: 'me', password: PASSWORD },
      { kind: 'basic', username: 'me', password: PASSWORD },
    ],
    ['an anonymous Bearer token', { kind: 'bearer' }, { kind: 'anonymous' }],
    [
      'a Bearer token for credentials',
      { kind: 'bearer', username: 'me', password: PASSWORD },
      { kind: 'basic', username: 'me', password: PASSWORD },
    ],
  ] as const)('reads manifests, blobs and tags with %s', async (_name, auth, own) => {
    await start({ auth }, own);
    const manifest = await client().fetchManifest('app', { tag: '1.0' });
    expect(Buffer.from(manifest.bytes).equals(MANIFEST)).toBe(true);
    expect(manifest).toMatchObject({ mediaType: MEDIA_TYPES.ociManifest, digest: digestOf(MANIFEST) });
    expect((await fetchBlob()).equals(BLOB)).toBe(true);
    expect((await fetchBlob({ start: 1000, end: 1001 })).equals(BLOB.subarray(1000, 1001))).toBe(true);
    expect(await client().statBlob('app', digestOf(BLOB))).toBe(BLOB.byteLength);
    expect((await client().listTags('app')).tags).toEqual(['1.0']);
  });

  it('uses a token for all requests of its scope, and requests a new one when it is refused', async () => {
    await start({ auth: { kind: 'bearer' } });
    await Promise.all(Array.from({ length: 20 }, () => client().fetchManifest('app', { tag: '1.0' })));
    const tokens = (): number => registry.requests.entries.filter(({ path }) => path === '/token').length;
    expect(tokens()).toBe(1);
    registry.revokeTokens();
    await client().fetchManifest('app', { tag: '1.0' });
    expect(tokens()).toBe(2);
  });

  it('refuses a manifest that is too large', async () => {
    await start();
    const padded = (bytes: number): Buffer =>
      Buffer.concat([MANIFEST, Buffer.alloc(bytes - MANIFEST.length, ' ')]);
    registry.addManifest('app', 'whole', padded(4 * 2 ** 20), MEDIA_TYPES.ociManifest);
    registry.addManifest('app', 'large', padded(4 * 2 ** 20 + 1), MEDIA_TYPES.ociManifest);
    expect((await client().fetchManifest('app', { tag: 'whole' })).bytes).toHaveLength(4 * 2 ** 20);
    await expect(client().fetchManifest('app', { tag: 'large' })).rejects.toMatchObject({
      code: 'UPSTREAM_PROTOCOL',
    });
  });

  it('fails with UPSTREAM_CREDENTIALS_REFUSED if its credentials are wrong', async () => {
    await start(
      { auth: { kind: 'basic', username: 'me', password: PASSWORD } },
      { kind: 'basic', username: 'me', password: 'wrong' },
    );
    await expect(client().fetchManifest('app', { tag: '1.0' })).rejects.toMatchObject({
      code: 'UPSTREAM_CREDENTIALS_REFUSED',
    });
  });

  it("follows a blob's redirect once, without credentials, and again when the URL is refused", async () => {
    await start(
      { redirectBlobs: { urlSeconds: 3600 }, auth: { kind: 'basic', username: 'me', password: PASSWORD } },
      { kind: 'basic', username: 'me', password: PASSWORD },
    );
    for (const start of [0, 1000, 2000])
      expect((await fetchBlob({ start, end: start + 10 })).equals(BLOB.subarray(start, start + 10))).toBe(
        true,
      );
    const asked = (listener: string): number =>
      registry.requests.entries.filter(
        (request) =>
          request.listener === listener && request.path.includes('blobs') && request.status !== 401,
      ).length;
    expect(asked('registry')).toBe(1);
    expect(
      registry.requests.entries
        .filter(({ listener }) => listener === 'blobs')
        .every(({ headers }) => headers['authorization'] === undefined),
    ).toBe(true);
    registry.faults.add({ match: { listener: 'blobs' }, times: 1, action: { kind: 'status', status: 403 } });
    expect((await fetchBlob({ start: 5, end: 9 })).equals(BLOB.subarray(5, 9))).toBe(true);
    expect(asked('registry')).toBe(2);
  });

  it.each([
    ['MANIFEST_UNKNOWN', () => client().fetchManifest('app', { tag: 'none' })],
    ['BLOB_UNKNOWN', () => client().statBlob('app', digestOf('none'))],
    ['BLOB_UNKNOWN', () => client().blobSource('app', digestOf('none')).fetch(undefined, signal)],
  ])('fails with %s for missing content', async (code, ask) => {
    await start();
    await expect(ask()).rejects.toMatchObject({ code });
  });

  it('retries after 503, waits for Retry-After, and gives up after some attempts', async () => {
    await start();
    registry.faults.add({
      match: { path: /manifests/ },
      times: 2,
      action: { kind: 'status', status: 503, headers: { 'retry-after': '2' } },
    });
    await client().fetchManifest('app', { tag: '1.0' });
    expect(pauses).toEqual([2000, 2000]);
    registry.faults.add({ match: { path: /manifests/ }, action: { kind: 'status', status: 429 } });
    registry.requests.clear();
    await expect(client().fetchManifest('app', { tag: '1.0' })).rejects.toMatchObject({
      code: 'UPSTREAM_THROTTLED',
    });
    expect(registry.requests.requestCount).toBe(5);
  });

  it.each([
    ['reset', { kind: 'reset', afterBytes: 1000 }, 'UPSTREAM_UNREACHABLE'],
    ['stall', { kind: 'stall', afterBytes: 1000 }, 'UPSTREAM_TIMEOUT'],
    ['truncate', { kind: 'truncate', afterBytes: 1000 }, 'UPSTREAM_UNREACHABLE'],
  ] as const)('never accepts a truncated body: %s', async (_name, action, code) => {
    await start();
    registry.faults.add({ match: { path: /blobs/ }, action });
    await expect(fetchBlob()).rejects.toMatchObject({ code: expect.stringMatching(/^UPSTREAM_/) as string });
    await expect(fetchBlob()).rejects.toMatchObject({ code });
  });

  it('refuses a manifest that does not match its digest', async () => {
    await start();
    registry.faults.add({ match: { path: /manifests/ }, action: { kind: 'corrupt', atByte: 3 } });
    await expect(client().fetchManifest('app', { digest: digestOf(MANIFEST) })).rejects.toMatchObject({
      code: 'BLOB_CORRUPT',
    });
  });

  it('fails with UPSTREAM_UNREACHABLE if nothing listens', async () => {
    await start();
    await registry[Symbol.asyncDispose]();
    await expect(client().fetchManifest('app', { tag: '1.0' })).rejects.toMatchObject({
      code: 'UPSTREAM_UNREACHABLE',
    });
  });

  it.each([true, false])('lists referrers from the API or the fallback tag (API: %s)', async (hasApi) => {
    await start({ referrers: hasApi });
    const subject = digestOf(MANIFEST);
    const artifactType = 'application/vnd.example+json';
    const referrer = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MEDIA_TYPES.ociManifest,
        artifactType,
        config: { mediaType: artifactType, digest: digestOf('{}'), size: 2 },
        layers: [],
        subject: { mediaType: MEDIA_TYPES.ociManifest, digest: subject, size: MANIFEST.byteLength },
      }),
    );
    const digest = registry.addManifest('app', digestOf(referrer), referrer, MEDIA_TYPES.ociManifest);
    const index = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociIndex,
      manifests: [{ mediaType: MEDIA_TYPES.ociManifest, digest, size: referrer.byteLength, artifactType }],
    };
    if (!hasApi)
      registry.addManifest(
        'app',
        subject.replace(':', '-'),
        Buffer.from(JSON.stringify(index)),
        MEDIA_TYPES.ociIndex,
      );
    expect(await client().listReferrers('app', subject)).toMatchObject([{ digest, artifactType }]);
    expect(await client().listReferrers('app', digestOf('none'))).toEqual([]);
  });
});
