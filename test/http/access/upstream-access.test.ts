import { describe, expect, it } from 'vitest';

import { cleanup } from '../../helpers/cleanup.ts';
import {
  basic,
  PRIVATE_BLOB,
  PRIVATE_DIGEST,
  PrivateRegistry,
} from '../../helpers/upstreams/private-registry.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { ROUTE_SAMPLES } from '../../helpers/clients/route-samples.ts';
import type { RunningApp } from '../../helpers/running-app.ts';

async function start(
  scheme: 'basic' | 'bearer',
  environment: Record<string, string> = {},
): Promise<{ registry: PrivateRegistry; app: RunningApp }> {
  const registry = cleanup.use(await PrivateRegistry.start(scheme));
  const auth = { kind: 'basic', username: 'proxy', password: 'pw-proxy' };
  const app = await proxyWith(registry, {
    upstream: { name: 'hub', auth },
    environment: { SPANDREL_ACCESS_KIND: 'upstream', SPANDREL_UPSTREAM_RETRIES: '0', ...environment },
  });
  return { registry, app };
}

async function ask(url: string, user?: string, password = `pw-${user ?? ''}`): Promise<Response> {
  return fetch(url, user === undefined ? {} : { headers: { authorization: basic(user, password) } });
}

describe.each(['basic', 'bearer'] as const)('access as the upstream has it (%s)', (scheme) => {
  it('gives a client what the upstream would, and cached bytes to nobody else', async () => {
    const { registry, app } = await start(scheme);
    const blob = `blobs/${PRIVATE_DIGEST}`;
    for (const what of ['manifests/1.0', blob, 'tags/list']) {
      const response = await ask(`${app.url}/v2/alice/${what}`, 'alice');
      expect([what, response.status]).toEqual([what, 200]);
      if (what === blob) expect(Buffer.from(await response.arrayBuffer())).toEqual(PRIVATE_BLOB);
    }
    for (const what of ['manifests/1.0', blob, 'tags/list']) {
      expect((await ask(`${app.url}/v2/alice/${what}`)).status).toBe(401);
      expect((await ask(`${app.url}/v2/alice/${what}`, 'alice', 'wrong')).status).toBe(401);
      const denied = await ask(`${app.url}/v2/alice/${what}`, 'bob');
      expect([denied.status, await denied.json()]).toMatchObject([403, { errors: [{ code: 'DENIED' }] }]);
      expect((await ask(`${app.url}/v2/bob/${what}`, 'bob')).status).toBe(200);
    }
    expect(registry.requestsOf('alice').every(({ url }) => !url.includes('bob'))).toBe(true);
  });

  it('guards every route by every way in', async () => {
    const { registry, app } = await start(scheme);
    const host = new URL(registry.url).host;
    for (const [before, after] of [
      ['/v2/alice/', ''],
      ['/v2/hub/alice/', ''],
      ['/hub/alice/', ''],
      ['/v2/alice/', `?ns=${host}`],
    ]) {
      for (const [route, sample] of Object.entries(ROUTE_SAMPLES)) {
        const url = `${app.url}${before ?? ''}${sample}${after ?? ''}`;
        expect((await ask(url)).status, route).toBe(401);
        expect((await ask(url, 'bob')).status, route).toBe(403);
        expect([401, 403], route).not.toContain((await ask(url, 'alice')).status);
      }
    }
  });

  it('says hello only to credentials that are good, so that Docker sends some', async () => {
    const { app } = await start(scheme);
    const hello = await ask(`${app.url}/v2/`);
    expect([hello.status, hello.headers.get('www-authenticate')]).toEqual([
      401,
      expect.stringMatching(/^Basic realm="/),
    ]);
    expect((await ask(`${app.url}/v2/`, 'alice')).status).toBe(200);
    expect((await ask(`${app.url}/v2/`, 'alice', 'wrong')).status).toBe(401);
  });

  it('gives anybody what the upstream gives anybody', async () => {
    const { app } = await start(scheme);
    expect((await ask(`${app.url}/v2/open/manifests/1.0`)).status).toBe(200);
    // What some clients send for nobody.
    const empty = await fetch(`${app.url}/v2/open/manifests/1.0`, {
      headers: { authorization: basic('', '') },
    });
    expect(empty.status).toBe(200);
  });

  it('asks once for many requests, and keeps the verdict', async () => {
    const { registry, app } = await start(scheme);
    const url = `${app.url}/v2/alice/manifests/1.0`;
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(url, 'alice')));
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
    expect((await ask(`${app.url}/v2/alice/blobs/${PRIVATE_DIGEST}`, 'alice')).status).toBe(200);
    expect(registry.requestsOf('alice').filter(({ url: asked }) => asked.includes('/v2/'))).toHaveLength(1);
  });

  it('takes a yes back when the upstream does, and keeps it while the upstream cannot say', async () => {
    const { registry, app } = await start(scheme, { SPANDREL_ACCESS_VERDICT_SECONDS: '1' });
    const blob = `${app.url}/v2/alice/blobs/${PRIVATE_DIGEST}`;
    expect((await ask(blob, 'alice')).status).toBe(200);
    registry.isDown = true;
    await expect
      .poll(
        async () => {
          const { status } = await ask(blob, 'alice');
          expect(status).toBe(200);
          return registry.upstream.requests.length;
        },
        { timeout: 10_000 },
      )
      .toBeGreaterThan(scheme === 'basic' ? 6 : 8);
    expect((await ask(blob, 'bob')).status).toBe(502);
    registry.isDown = false;
    registry.revoked.add('alice');
    await expect.poll(async () => (await ask(blob, 'alice')).status, { timeout: 10_000 }).toBe(401);
  });
});

describe("the upstream's own challenge", () => {
  it('is passed on, and its tokens are taken', async () => {
    const { registry, app } = await start('bearer', { SPANDREL_ACCESS_CHALLENGE: 'upstream' });
    const url = `${app.url}/v2/alice/manifests/1.0`;
    for (const [asked, scope] of [
      [`${app.url}/v2/`, ''],
      [url, ',scope="repository:alice:pull"'],
    ])
      expect((await ask(asked ?? '')).headers.get('www-authenticate')).toBe(
        `Bearer realm="${registry.url}/token",service="private"${scope ?? ''}`,
      );
    const { token } = (await (
      await ask(`${registry.url}/token?service=private&scope=repository:alice:pull`, 'alice')
    ).json()) as { token: string };
    const read = (shown: string): Promise<Response> =>
      fetch(url, { headers: { authorization: `Bearer ${shown}` } });
    expect((await read(token)).status).toBe(200);
    expect((await read('token-bob.alice')).status).toBe(403);
    expect((await read('forged')).status).toBe(401);
  });

  it('is for the client alone: the proxy takes no password to the token service', async () => {
    const { registry, app } = await start('bearer', { SPANDREL_ACCESS_CHALLENGE: 'upstream' });
    expect((await ask(`${app.url}/v2/alice/manifests/1.0`, 'alice')).status).toBe(200);
    expect(registry.requestsOf('alice').filter(({ url }) => url.startsWith('/token'))).toEqual([]);
  });
});
