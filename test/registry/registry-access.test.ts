import { afterEach, describe, expect, it } from 'vitest';

import { ScriptedRegistry, type ScriptedRegistryOptions } from './scripted-registry.ts';
import { ManualClock } from '../helpers/manual-clock.ts';

const BLOB = Uint8Array.from({ length: 5000 }, (_, i) => i & 255);
const CREDENTIALS = { username: 'me', password: 'pass:wörd' };
const BASIC = `Basic ${Buffer.from('me:pass:wörd').toString('base64')}`;

const stack: ScriptedRegistry[] = [];

async function start(
  options: ScriptedRegistryOptions,
): Promise<{ registry: ScriptedRegistry; blobUrl: string }> {
  const registry = await ScriptedRegistry.start(options);
  stack.push(registry);
  return { registry, blobUrl: `${registry.url}/v2/app/blobs/${await registry.addBlob('app', BLOB)}` };
}

afterEach(async () => {
  for (const registry of stack.splice(0)) await registry[Symbol.asyncDispose]();
});

async function statusOf(url: string, authorization?: string, method = 'GET'): Promise<number> {
  const response = await fetch(url, {
    method,
    headers: authorization === undefined ? {} : { authorization },
  });
  await response.arrayBuffer();
  return response.status;
}

/** What the token endpoint of a challenge answers. */
async function askForToken(challenge: string | null, authorization?: string): Promise<Response> {
  const {
    realm = '',
    service = '',
    scope,
  } = Object.fromEntries(
    Array.from(challenge?.matchAll(/(\w+)="([^"]*)"/g) ?? [], ([, key, value]) => [key, value]),
  ) as Record<string, string>;
  const query = new URLSearchParams({ service, ...(scope === undefined ? {} : { scope }) });
  return fetch(`${realm}?${query.toString()}`, {
    headers: authorization === undefined ? {} : { authorization },
  });
}

async function challengeOf(url: string): Promise<string | null> {
  return (await fetch(url)).headers.get('www-authenticate');
}

async function locationOf(url: string): Promise<string> {
  const response = await fetch(url, { redirect: 'manual' });
  expect(response.status).toBe(307);
  return response.headers.get('location') ?? '';
}

describe('Basic', () => {
  it('lets the right credentials in and challenges all others', async () => {
    const { registry, blobUrl } = await start({ auth: { kind: 'basic', ...CREDENTIALS } });
    expect(await statusOf(blobUrl, BASIC)).toBe(200);
    const refused = await fetch(blobUrl);
    expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([
      401,
      `Basic realm="${registry.url}/",service="demo-registry"`,
    ]);
    expect(await refused.json()).toMatchObject({ errors: [{ code: 'UNAUTHORIZED' }] });
    for (const wrong of ['Basic', 'Basic eA==', 'Bearer x', BASIC.replace('B', 'é'), `${BASIC}=`]) {
      expect(await statusOf(`${registry.url}/v2/`, Buffer.from(wrong).toString('latin1'))).toBe(401);
    }
  });
});

describe('Bearer', () => {
  it('says where to get a token, which is good for this repository', async () => {
    const { registry, blobUrl } = await start({ auth: { kind: 'bearer' } });
    const challenge = await challengeOf(blobUrl);
    expect(challenge).toBe(
      `Bearer realm="${registry.url}/token",service="demo-registry",scope="repository:app:pull"`,
    );
    const issued = (await (await askForToken(challenge)).json()) as { token: string; expires_in: number };
    expect(issued.expires_in).toBe(300);
    expect(await statusOf(blobUrl, `Bearer ${issued.token}`)).toBe(200);
    expect(await statusOf(`${registry.url}/v2/`, `Bearer ${issued.token}`)).toBe(200);
    expect(await statusOf(`${registry.url}/v2/other/tags/list`, `Bearer ${issued.token}`)).toBe(401);
    expect(await statusOf(blobUrl, `Bearer ${issued.token}x`)).toBe(401);
    expect(await statusOf(blobUrl, 'Bearer')).toBe(401);
  });

  it('wants credentials for the token where there are any', async () => {
    const { blobUrl } = await start({ auth: { kind: 'bearer', ...CREDENTIALS } });
    const challenge = await challengeOf(blobUrl);
    expect((await askForToken(challenge)).status).toBe(401);
    expect((await askForToken(challenge, BASIC)).status).toBe(200);
  });

  it('refuses tokens that have expired or been revoked', async () => {
    const clock = new ManualClock();
    const { registry, blobUrl } = await start({ auth: { kind: 'bearer', tokenSeconds: 60 }, clock });
    const challenge = await challengeOf(blobUrl);
    const issue = async (): Promise<string> =>
      `Bearer ${((await (await askForToken(challenge)).json()) as { token: string }).token}`;
    const first = await issue();
    clock.advance(59_999);
    expect(await statusOf(blobUrl, first)).toBe(200);
    clock.advance(1);
    expect(await statusOf(blobUrl, first)).toBe(401);
    const second = await issue();
    registry.revokeTokens();
    expect(await statusOf(blobUrl, second)).toBe(401);
    expect(await statusOf(blobUrl, await issue())).toBe(200);
  });
});

describe('redirected blobs', () => {
  it('come from the second listener, whole or in ranges, by one URL', async () => {
    const { registry, blobUrl } = await start({ redirectBlobs: true });
    const location = await locationOf(blobUrl);
    expect(new URL(location).host).not.toBe(registry.host);
    expect(Buffer.from(await (await fetch(location)).arrayBuffer()).equals(BLOB)).toBe(true);
    const part = await fetch(location, { headers: { range: 'bytes=10-19' } });
    expect([part.status, Buffer.from(await part.arrayBuffer())]).toEqual([
      206,
      Buffer.from(BLOB.subarray(10, 20)),
    ]);
    expect(registry.requests.entries.map(({ listener, bytesSent }) => [listener, bytesSent])).toEqual([
      ['registry', 0],
      ['blobs', 5000],
      ['blobs', 10],
    ]);
  });

  it('are not redirected for HEAD', async () => {
    const { blobUrl } = await start({ redirectBlobs: true });
    expect(await statusOf(blobUrl, undefined, 'HEAD')).toBe(200);
  });

  it('are refused as S3 does it', async () => {
    const clock = new ManualClock();
    const { registry, blobUrl } = await start({ redirectBlobs: { urlSeconds: 60 }, clock });
    const location = await locationOf(blobUrl);
    expect(await statusOf(location, 'Bearer x')).toBe(400);
    expect(await statusOf(location, undefined, 'HEAD')).toBe(403);
    expect(await statusOf(location.replace(/expires=\d/, '$&0'))).toBe(403);
    expect(await statusOf(location.replace('sha256:', 'sha256:0'))).toBe(403);
    clock.advance(59_999);
    expect(await statusOf(location)).toBe(200);
    clock.advance(1);
    const expired = await fetch(location);
    expect([expired.status, expired.headers.get('content-type')]).toEqual([403, 'application/xml']);
    expect(await expired.text()).toContain('Request has expired');
    const renewed = await locationOf(blobUrl);
    registry.content.removeBlob('app', registry.content.blob('app', blobUrl.split('/').at(-1) ?? '').digest);
    expect(await statusOf(renewed)).toBe(404);
  });

  it('go together with Bearer tokens', async () => {
    const { registry, blobUrl } = await start({ redirectBlobs: true, auth: { kind: 'bearer' } });
    const issued = (await (await fetch(`${registry.url}/token?scope=repository:app:pull`)).json()) as {
      token: string;
    };
    expect(await statusOf(blobUrl, `Bearer ${issued.token}`)).toBe(200);
  });
});
