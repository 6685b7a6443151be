import { randomBytes } from 'node:crypto';

import { describe, expect, it } from 'vitest';

import { parseConfig } from '../../../src/config/parse-config.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import type { RegistryClient } from '../../../src/upstream/registry-client.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { DockerRegistry } from '../../helpers/upstreams/docker-registry.ts';
import { openClient } from '../../helpers/clients/registry-clients.ts';
import { makeSecret } from '../../helpers/secrets.ts';
import { ScriptedRegistry, type ScriptedRegistryOptions } from '../../registry/scripted-registry.ts';
import type { FaultAction } from '../../registry/faults.ts';

const MIB = 2 ** 20;
const SMALL = randomBytes(1000);
/** Two chunks, the last one short. */
const LARGE = randomBytes(8 * MIB + 5);
const LARGE_DIGEST = digestOf(LARGE);
const PASSWORD = makeSecret('password of the pusher');

async function clientOf(url: string, auth: object = { kind: 'anonymous' }): Promise<RegistryClient> {
  return cleanup.use(await openClient({ name: 'demo', url, auth })).client;
}

async function start(
  options: ScriptedRegistryOptions = {},
  auth?: object,
): Promise<{ registry: ScriptedRegistry; client: RegistryClient }> {
  const registry = cleanup.use(await ScriptedRegistry.start({ pushes: {}, ...options }));
  return { registry, client: await clientOf(registry.url, auth) };
}

/** Of all requests but the one that finds out whether the registry wants credentials. */
function methods(registry: ScriptedRegistry): string[] {
  return registry.requests.entries.filter(({ path }) => path !== '/v2/').map(({ method }) => method);
}

function blobAt(registry: ScriptedRegistry, digest: string): Buffer {
  return Buffer.from(registry.content.blob('app', digest).bytes);
}

describe('a pushed blob', () => {
  it('of one chunk takes three requests, and none but HEAD when it is there', async () => {
    const { registry, client } = await start();
    const digest = digestOf(SMALL);
    expect(await client.pushBlob('app', digest, SMALL)).toBe(true);
    expect(methods(registry)).toEqual(['HEAD', 'POST', 'PUT']);
    expect(blobAt(registry, digest).equals(SMALL)).toBe(true);
    registry.requests.clear();
    expect(await client.pushBlob('app', digest, SMALL)).toBe(false);
    expect(methods(registry)).toEqual(['HEAD']);
  });

  it('of several chunks follows the Location of each response, relative ones too', async () => {
    const { registry, client } = await start({ pushes: { relativeLocations: true } });
    const digest = LARGE_DIGEST;
    expect(await client.pushBlob('app', digest, LARGE)).toBe(true);
    expect(methods(registry)).toEqual(['HEAD', 'POST', 'PATCH', 'PATCH', 'PUT']);
    expect(blobAt(registry, digest).equals(LARGE)).toBe(true);
  });

  it('has chunks as long as the registry wants them', async () => {
    const { registry, client } = await start({ pushes: { minChunkBytes: 8 * MIB + 1 } });
    await client.pushBlob('app', LARGE_DIGEST, LARGE);
    expect(methods(registry)).toEqual(['HEAD', 'POST', 'PATCH', 'PATCH', 'PUT']);
  });

  it('goes whole to a registry that takes no chunks', async () => {
    const { registry, client } = await start({ pushes: { chunks: false } });
    const digest = LARGE_DIGEST;
    expect(await client.pushBlob('app', digest, LARGE)).toBe(true);
    expect(methods(registry)).toEqual(['HEAD', 'POST', 'PATCH', 'POST', 'PUT']);
    expect(blobAt(registry, digest).equals(LARGE)).toBe(true);
  });

  it.each([0, 1, 4 * MIB, 8 * MIB])(
    'goes on after a chunk of which the registry keeps %i bytes',
    async (kept) => {
      const { registry, client } = await start();
      registry.faults.set([
        { match: { method: 'PATCH' }, times: 1, action: { kind: 'cut', keptBytes: kept } },
      ]);
      const digest = LARGE_DIGEST;
      expect(await client.pushBlob('app', digest, LARGE)).toBe(true);
      expect(blobAt(registry, digest).equals(LARGE)).toBe(true);
      // What the registry has kept is not sent again.
      const begun = methods(registry).filter((method) => method === 'POST');
      expect(begun).toHaveLength(kept > 1 ? 1 : 2);
    },
  );

  it.each([
    ['POST', { kind: 'status', status: 503 }],
    ['POST', { kind: 'reset' }],
    ['PATCH', { kind: 'reset' }],
    ['PATCH', { kind: 'status', status: 500 }],
    ['PATCH', { kind: 'status', status: 429 }],
    ['PATCH', { kind: 'status', status: 404 }],
    ['PUT', { kind: 'reset' }],
    ['PUT', { kind: 'cut', keptBytes: 0 }],
    ['PUT', { kind: 'status', status: 502 }],
  ] as const)('arrives although a %s once ends in %o', async (method, action: FaultAction) => {
    for (const bytes of [SMALL, LARGE]) {
      const { registry, client } = await start();
      registry.faults.set([{ match: { method }, times: 1, action }]);
      expect(await client.pushBlob('app', digestOf(bytes), bytes)).toBe(true);
      expect(blobAt(registry, digestOf(bytes)).equals(bytes)).toBe(true);
    }
  });

  it('is given up after as many failures in a row as requests are retried', async () => {
    const { registry, client } = await start();
    registry.faults.set([{ match: { method: 'PATCH' }, action: { kind: 'cut', keptBytes: 0 } }]);
    await expect(client.pushBlob('app', LARGE_DIGEST, LARGE)).rejects.toMatchObject({
      code: 'UPSTREAM_UNREACHABLE',
    });
    const retries = parseConfig({ yaml: '', environment: {} }).upstream.retries;
    expect(methods(registry).filter((method) => method === 'PATCH')).toHaveLength(retries + 1);
    expect(() => blobAt(registry, LARGE_DIGEST)).toThrow(/no blob/);
  });

  it('that the registry refuses is not tried again, and the error says what to do', async () => {
    const { registry, client } = await start();
    const body = JSON.stringify({ errors: [{ code: 'DENIED', message: 'not authorized: ecr:PutImage' }] });
    registry.faults.set([{ match: { method: 'POST' }, action: { kind: 'status', status: 403, body } }]);
    await expect(client.pushBlob('app', digestOf(SMALL), SMALL)).rejects.toMatchObject({
      code: 'DENIED',
      message: expect.stringMatching(/ecr:PutImage.*right to push/) as string,
    });
    expect(methods(registry)).toEqual(['HEAD', 'POST']);
  });

  it.each([
    ['Basic', { kind: 'basic', username: 'me', password: PASSWORD }],
    ['a token with the right to push', { kind: 'bearer', username: 'me', password: PASSWORD }],
  ] as const)('is authenticated with %s', async (_name, auth) => {
    const credentials = { kind: 'basic', username: 'me', password: PASSWORD };
    const { registry, client } = await start({ auth }, credentials);
    expect(await client.pushBlob('app', digestOf(SMALL), SMALL)).toBe(true);
    expect(blobAt(registry, digestOf(SMALL)).equals(SMALL)).toBe(true);
    const refused = registry.requests.entries.filter(({ status }) => status === 401);
    expect(refused).toHaveLength(1);
  });

  it('arrives at the registry of the distribution project, in chunks and whole', async () => {
    const user = { name: 'me', password: PASSWORD };
    const registry = cleanup.use(await DockerRegistry.start(user));
    const client = await clientOf(registry.url, { kind: 'basic', username: user.name, password: PASSWORD });
    const authorization = `Basic ${Buffer.from(`me:${PASSWORD}`).toString('base64')}`;
    for (const bytes of [SMALL, LARGE]) {
      expect(await client.pushBlob('team/app', digestOf(bytes), bytes)).toBe(true);
      expect(await client.pushBlob('team/app', digestOf(bytes), bytes)).toBe(false);
      const url = `${registry.url}/v2/team/app/blobs/${digestOf(bytes)}`;
      const stored = await fetch(url, { headers: { authorization } });
      expect(Buffer.from(await stored.arrayBuffer()).equals(bytes)).toBe(true);
    }
  });
});

describe('a pushed manifest', () => {
  const config = Buffer.from('{}');
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf(config), size: 2 },
      layers: [],
    }),
  );
  const document = { bytes, digest: digestOf(bytes), mediaType: MEDIA_TYPES.ociManifest };

  it('is put by digest and by tag', async () => {
    const { registry, client } = await start();
    await client.pushBlob('app', digestOf(config), config);
    await client.pushManifest('app', { digest: document.digest }, document);
    expect(registry.content.tags('app')).toEqual([]);
    await client.pushManifest('app', { tag: '1.0' }, document);
    expect(registry.content.manifest('app', '1.0')).toMatchObject({
      digest: document.digest,
      mediaType: MEDIA_TYPES.ociManifest,
    });
  });

  it('is refused with the words of the registry while a blob is missing', async () => {
    const { client } = await start();
    await expect(client.pushManifest('app', { tag: '1.0' }, document)).rejects.toMatchObject({
      message: expect.stringContaining(`no blob ${digestOf(config)}`) as string,
    });
  });

  it('cannot take an immutable tag, and the error says what to do', async () => {
    const { client } = await start({ pushes: { immutableTags: true } });
    await client.pushBlob('app', digestOf(config), config);
    await client.pushManifest('app', { tag: '1.0' }, document);
    await expect(client.pushManifest('app', { tag: '1.0' }, document)).rejects.toMatchObject({
      code: 'TAG_IMMUTABLE',
      message: expect.stringMatching(/is immutable.*under a new tag/) as string,
    });
  });

  it('is added to the fallback tag of its subject once, beside other entries', async () => {
    const { registry, client } = await start({ referrers: false });
    const subject = digestOf('an image');
    const other = { mediaType: 'application/x', digest: digestOf('other'), size: 1, 'x-field': true };
    const referrer = { mediaType: MEDIA_TYPES.ociManifest, digest: document.digest, size: bytes.length };
    registry.addManifest('app', other.digest, Buffer.from('{}'), 'application/x');
    await client.pushBlob('app', digestOf(config), config);
    await client.pushManifest('app', { digest: document.digest }, document);
    const tag = subject.replace(':', '-');
    const listed = (): unknown =>
      JSON.parse(Buffer.from(registry.content.manifest('app', tag).bytes).toString()) as unknown;
    const before = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [other] };
    registry.addManifest('app', tag, Buffer.from(JSON.stringify(before)), MEDIA_TYPES.ociIndex);
    await client.listInFallbackTag('app', subject, referrer);
    expect(listed()).toEqual({ ...before, manifests: [other, referrer] });
    registry.requests.clear();
    await client.listInFallbackTag('app', subject, referrer);
    expect(methods(registry)).not.toContain('PUT');
  });

  it('needs no fallback tag where the registry has the Referrers API', async () => {
    const { registry, client } = await start();
    const referrer = { mediaType: MEDIA_TYPES.ociManifest, digest: document.digest, size: bytes.length };
    await client.listInFallbackTag('app', digestOf('an image'), referrer);
    expect(methods(registry)).toEqual(['GET']);
  });
});
