import { beforeEach, describe, expect, it } from 'vitest';

import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { basic, PrivateRegistry } from '../helpers/upstreams/private-registry.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const MANIFEST = Buffer.from('{"schemaVersion":2}');
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

let upstream: ScriptedRegistry;
let other: ScriptedRegistry;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  other = cleanup.use(await ScriptedRegistry.start());
});

function upstreams(): object[] {
  return [
    { name: 'hub', host: 'hub.example.com', url: upstream.url, default: true },
    { name: 'mirror', host: 'mirror.example.com', url: other.url, hostnames: ['mirror.test'] },
  ];
}

/** Asks for an image of each repository, so that it has been served. */
async function serve(
  app: RunningApp,
  registry: ScriptedRegistry,
  prefix: string,
  names: readonly string[],
): Promise<void> {
  for (const name of names) {
    registry.addManifest(name, '1.0', MANIFEST, MANIFEST_TYPE);
    const response = await fetch(`${app.url}/v2/${prefix}${name}/manifests/1.0`);
    expect(response.status).toBe(200);
  }
}

interface Page {
  readonly repositories: string[];
  readonly next: string | undefined;
}

async function catalog(app: RunningApp, path = '/v2/_catalog', user?: string): Promise<Page> {
  const headers = user === undefined ? {} : { authorization: basic(user, `pw-${user}`) };
  const response = await fetch(app.url + path, { headers });
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/json']);
  const { repositories } = (await response.json()) as { repositories: string[] };
  const next = /^<(.*)>; rel="next"$/.exec(response.headers.get('link') ?? '')?.[1];
  return { repositories, next };
}

async function allPages(app: RunningApp, first: string, user?: string): Promise<string[]> {
  const found: string[] = [];
  for (let next: string | undefined = first; next !== undefined;) {
    const page: Page = await catalog(app, next, user);
    found.push(...page.repositories);
    ({ next } = page);
  }
  return found;
}

describe('the catalog', () => {
  it('lists served repositories in the order of the names that this client would request', async () => {
    const app = cleanup.use(await RunningApp.start({ upstreams: upstreams() }));
    expect(await catalog(app)).toEqual({ repositories: [], next: undefined });
    // No prefix of another may hide it.
    const names = ['team/app', 'app', 'app-1', 'app/x', 'app.1', 'zoo'];
    await serve(app, upstream, '', names);
    await serve(app, other, 'mirror/', ['b/c', 'app']);
    expect((await fetch(`${app.url}/v2/never/manifests/1.0`)).status).toBe(404);
    upstream.requests.clear();
    const everything = [...names, 'mirror/app', 'mirror/b/c'].toSorted();
    expect((await catalog(app)).repositories).toEqual(everything);
    for (const n of [1, 2, 3, 7, 8, 9])
      expect(await allPages(app, `/v2/_catalog?n=${n}`)).toEqual(everything);
    expect((await catalog(app, '/v2/_catalog?ns=mirror.example.com')).repositories).toEqual(['app', 'b/c']);
    expect((await catalog(app, '/v2/_catalog?ns=hub.example.com&last=app.1')).repositories).toEqual(
      names.filter((name) => name > 'app.1').toSorted(),
    );
    expect((await catalog(app, '/v2/_catalog?n=0')).repositories).toEqual([]);
    expect((await catalog(app, '/v2/_catalog?n=&last=')).repositories).toEqual(everything);
    expect((await catalog(app, '/v2/_catalog?n=99999999999999999999')).repositories).toEqual(everything);
    for (const query of ['n=-1', 'n=x', 'n=1.5'])
      expect((await fetch(`${app.url}/v2/_catalog?${query}`)).status, query).toBe(400);
    expect((await fetch(`${app.url}/v2/_catalog?ns=elsewhere.test`)).status).toBe(403);
    expect(upstream.requests.requestCount).toBe(0);
  });

  it('has pages of a bounded size with a link to the next one', async () => {
    const app = cleanup.use(await RunningApp.start({ upstreams: upstreams() }));
    const names = Array.from({ length: 120 }, (_, place) => `app${String(place).padStart(3, '0')}`);
    await serve(app, upstream, '', names);
    expect((await catalog(app, '/v2/_catalog?n=1000')).repositories).toEqual(names.slice(0, 100));
    expect(await allPages(app, '/v2/_catalog')).toEqual(names);
  });

  it('survives a restart', async () => {
    const root = await temporaryFolder();
    {
      await using first = await RunningApp.start({ upstreams: upstreams(), root });
      await serve(first, upstream, '', ['app']);
    }
    const again = cleanup.use(await RunningApp.start({ upstreams: upstreams(), root }));
    expect((await catalog(again)).repositories).toEqual(['app']);
  });

  it('shows a client only what it may read', async () => {
    const registry = cleanup.use(await PrivateRegistry.start('basic'));
    const auth = { kind: 'basic', username: 'proxy', password: 'pw-proxy' };
    const app = await proxyWith(registry, {
      upstream: { name: 'hub', auth },
      environment: { SPANDREL_ACCESS_KIND: 'upstream', SPANDREL_UPSTREAM_RETRIES: '0' },
    });
    for (const user of ['alice', 'bob']) {
      const headers = { authorization: basic(user, `pw-${user}`) };
      for (const name of [user, 'open'])
        expect((await fetch(`${app.url}/v2/${name}/manifests/1.0`, { headers })).status).toBe(200);
    }
    expect((await fetch(`${app.url}/v2/_catalog`)).status).toBe(401);
    expect((await catalog(app, '/v2/_catalog', 'alice')).repositories).toEqual(['alice', 'open']);
    expect((await catalog(app, '/v2/_catalog', 'bob')).repositories).toEqual(['bob', 'open']);
    expect(await allPages(app, '/v2/_catalog?n=1', 'bob')).toEqual(['bob', 'open']);
    const wrong = await fetch(`${app.url}/v2/_catalog`, {
      headers: { authorization: basic('alice', 'wrong') },
    });
    expect(wrong.status).toBe(401);
  });
});
