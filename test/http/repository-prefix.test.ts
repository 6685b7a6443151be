import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';

const BLOB = Buffer.from('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}');
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(BLOB),
      size: BLOB.byteLength,
    },
    layers: [],
  }),
);
const ECR = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';

/** The one repository of the registry, as that calls it. */
let repository: string;
/** Before `/v2/`. */
let path: string;
let upstream: ScriptedUpstream;

beforeEach(async () => {
  repository = 'proxied/team/app';
  path = '';
  upstream = cleanup.use(
    await ScriptedUpstream.start(({ method, url, headers }, response) => {
      const { pathname, searchParams } = new URL(url, 'http://registry');
      if (pathname === '/token')
        return void response.end(JSON.stringify({ token: searchParams.get('scope') ?? 'none' }));
      const base = `${path}/v2/${repository}`;
      // Without a scope in the challenge, so that the proxy names the repository.
      if (headers.authorization !== `Bearer repository:${repository}:pull`)
        return void response
          .writeHead(401, { 'www-authenticate': `Bearer realm="http://${headers.host ?? ''}/token"` })
          .end();
      if (pathname === `${base}/manifests/1.0` || pathname === `${base}/manifests/${digestOf(MANIFEST)}`) {
        const type = { 'content-type': MEDIA_TYPES.ociManifest, 'docker-content-digest': digestOf(MANIFEST) };
        response.writeHead(200, { ...type, 'content-length': MANIFEST.byteLength });
        response.end(method === 'HEAD' ? undefined : MANIFEST);
      } else if (pathname === `${base}/blobs/${digestOf(BLOB)}`) response.end(BLOB);
      else if (pathname === `${base}/tags/list`) {
        const isFirst = !searchParams.has('last');
        if (isFirst) response.setHeader('link', `<${base}/tags/list?last=1.0&n=1>; rel="next"`);
        response.end(JSON.stringify({ name: repository, tags: isFirst ? ['1.0'] : ['2.0'] }));
      } else if (pathname === `${base}/referrers/${digestOf(MANIFEST)}`)
        response.end(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] }));
      else response.writeHead(404).end();
    }),
  );
});

async function start(config: object, environment: Record<string, string> = {}): Promise<RunningApp> {
  return cleanup.use(await RunningApp.start({ upstreams: [{ name: 'up', ...config }], environment }));
}

/** Paths that the registry was asked for, but for tokens and refusals. */
function asked(): string[] {
  const isContent = ({ url, headers }: SeenRequest): boolean =>
    !url.startsWith('/token') && headers.authorization !== undefined;
  return upstream.requests.filter(isContent).map(({ method, url }) => `${method} ${url}`);
}

async function read(url: string): Promise<{ status: number; body: Buffer; headers: Headers }> {
  const response = await fetch(url);
  return {
    status: response.status,
    body: Buffer.from(await response.arrayBuffer()),
    headers: response.headers,
  };
}

describe('with repositoryPrefix', () => {
  it('clients leave it out, and the registry gets it in paths and scopes', async () => {
    const app = await start({ url: upstream.url, repositoryPrefix: 'proxied' });
    const base = `${app.url}/v2/up/team/app`;
    expect((await read(`${base}/manifests/1.0`)).body.equals(MANIFEST)).toBe(true);
    expect((await read(`${base}/blobs/${digestOf(BLOB)}`)).body.equals(BLOB)).toBe(true);
    expect((await read(`${base}/referrers/${digestOf(MANIFEST)}`)).status).toBe(200);
    const first = await read(`${base}/tags/list?n=1`);
    expect(JSON.parse(first.body.toString())).toEqual({ name: 'up/team/app', tags: ['1.0'] });
    expect(first.headers.get('link')).toBe('</v2/up/team/app/tags/list?n=1&last=1.0>; rel="next"');
    const second = await read(`${base}/tags/list?n=1&last=1.0`);
    expect(JSON.parse(second.body.toString())).toEqual({ name: 'up/team/app', tags: ['2.0'] });
    expect(
      new Set(
        asked().map((line) => line.replace(/^\w+ \/v2\/(.*)\/(manifests|blobs|tags|referrers)\/.*/, '$1')),
      ),
    ).toEqual(new Set(['proxied/team/app']));
    const tokens = upstream.requests.filter(({ url }) => url.startsWith('/token'));
    expect(tokens.map(({ url }) => url)).toEqual(['/token?scope=repository%3Aproxied%2Fteam%2Fapp%3Apull']);
  });

  it('a cached blob is asked for where the registry has it', async () => {
    const app = await start(
      { url: upstream.url, repositoryPrefix: 'proxied' },
      { SPANDREL_ACCESS_PROOF_SECONDS: '1' },
    );
    const url = `${app.url}/v2/up/team/app/blobs/${digestOf(BLOB)}`;
    expect((await read(url)).status).toBe(200);
    const isAskedAgain = async (): Promise<boolean> => {
      expect((await read(url)).body.equals(BLOB)).toBe(true);
      return asked().includes(`HEAD /v2/proxied/team/app/blobs/${digestOf(BLOB)}`);
    };
    await expect.poll(isAskedAgain, { timeout: 10_000 }).toBe(true);
    // By its full name always.
    expect(asked().filter((line) => !line.includes('/v2/proxied/team/app/'))).toEqual([]);
  });

  it('names get it once, also where a name begins with it', async () => {
    repository = 'proxied/proxied/app';
    const app = await start({ url: upstream.url, repositoryPrefix: 'proxied' });
    expect((await read(`${app.url}/v2/up/proxied/app/manifests/1.0`)).status).toBe(200);
    expect((await read(`${app.url}/v2/up/app/manifests/1.0`)).status).not.toBe(200);
  });

  it('Docker Hub by way of another registry has its full names', async () => {
    repository = 'cache/hub/library/alpine';
    const app = await start({ host: 'docker.io', url: upstream.url, repositoryPrefix: 'cache/hub' });
    for (const name of ['alpine', 'library/alpine'])
      expect((await read(`${app.url}/v2/${name}/manifests/1.0?ns=docker.io`)).status, name).toBe(200);
    expect((await read(`${app.url}/v2/up/alpine/manifests/1.0`)).status).toBe(200);
  });

  it.each([
    ['by name', 'up/team/app:1.0'],
    ['by what the registry calls it', 'ADDRESS/proxied/team/app:1.0'],
  ])('images are warmed %s', async (_name, image) => {
    const app = await start({ url: upstream.url, host: 'registry.example', repositoryPrefix: 'proxied' });
    const response = await fetch(`${app.adminUrl}/api/v1/warm`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ image: image.replace('ADDRESS', new URL(upstream.url).host) }),
    });
    expect(response.status).toBe(202);
    const { id } = (await response.json()) as { id: string };
    await expect
      .poll(
        async () =>
          ((await (await fetch(`${app.adminUrl}/api/v1/jobs/${id}`)).json()) as { state: string }).state,
      )
      .toBe('done');
    expect(asked()[0]).toBe('GET /v2/proxied/team/app/manifests/1.0');
  });
});

describe('a url with a path', () => {
  it('has the registry below it', async () => {
    path = '/artifactory/api/docker/remote';
    repository = 'team/app';
    const app = await start({ url: `${upstream.url}${path}/` });
    expect((await read(`${app.url}/v2/up/team/app/manifests/1.0`)).body.equals(MANIFEST)).toBe(true);
    expect((await read(`${app.url}/v2/up/team/app/tags/list?n=1`)).status).toBe(200);
    expect(asked()).toEqual([
      `GET ${path}/v2/team/app/manifests/1.0`,
      `GET ${path}/v2/team/app/tags/list?n=1`,
    ]);
  });
});

it('a push event of a pull-through rule is one of the upstream that has its prefix', async () => {
  const app = cleanup.use(
    await RunningApp.start({
      upstreams: [
        {
          name: 'hub',
          host: 'docker.io',
          url: `https://${ECR}`,
          repositoryPrefix: 'docker-hub',
          proxy: 'http://127.0.0.1:1',
        },
        {
          name: 'quay',
          host: 'quay.io',
          url: `https://${ECR}`,
          repositoryPrefix: 'quay',
          proxy: 'http://127.0.0.1:1',
        },
      ],
      environment: { SPANDREL_UPSTREAM_RETRIES: '0' },
    }),
  );
  const push = async (name: string): Promise<number> =>
    (
      await fetch(`${app.adminUrl}/api/v1/events/ecr`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          'detail-type': 'ECR Image Action',
          account: '123456789012',
          region: 'eu-central-1',
          detail: { 'action-type': 'PUSH', result: 'SUCCESS', 'repository-name': name, 'image-tag': '1.0' },
        }),
      })
    ).status;
  expect(await push('docker-hub/library/alpine')).toBe(202);
  expect(await push('quay/team/app')).toBe(202);
  expect(await push('docker-hubbub/alpine')).toBe(404);
  expect(await push('own/app')).toBe(404);
});
