import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { ROUTE_SAMPLES } from '../helpers/clients/route-samples.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { type Script, ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

/** What only this machine can read. */
const SECRET = 'instance-credentials';
const PAGE = JSON.stringify({ errors: [{ code: 'DENIED', message: SECRET }], token: SECRET, padding: [] });
const DIGEST = `sha256:${'0'.repeat(64)}`;

/** A service that clients of the proxy cannot reach. */
let internal: ScriptedUpstream;
let serve: Script;
/** Where the registry leads; the path and query of the request follow. */
let place: string;
let app: RunningApp;

beforeEach(async () => {
  internal = cleanup.use(await ScriptedUpstream.start((...context) => serve(...context)));
  place = internal.url;
  const registry = cleanup.use(
    await ScriptedUpstream.start(({ url }, response) => {
      if (url === '/v2/') response.end('{}');
      else response.writeHead(307, { location: place + url }).end();
    }),
  );
  app = await proxyWith(registry, {
    upstream: { name: 'hub' },
    environment: { SPANDREL_UPSTREAM_RETRIES: '0', SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '1000' },
  });
});

/** The secret in the body and in every header that the proxy reads or passes on. */
function showSecret(status: number): Script {
  return ({ method }, response) => {
    response.writeHead(status, {
      'content-type': 'application/vnd.oci.image.manifest.v1+json',
      'content-length': PAGE.length,
      'ratelimit-limit': `${SECRET};w=60`,
      'www-authenticate': `Basic realm="${SECRET}"`,
      warning: `299 - "${SECRET}"`,
      etag: `"${SECRET}"`,
      link: `</${SECRET}?last=${SECRET}>; rel="next"`,
    });
    response.end(method === 'HEAD' ? undefined : PAGE);
  };
}

/** All that a client gets; a body that breaks off is as much of it as came. */
async function readAll(path: string, init: RequestInit = {}): Promise<string> {
  const response = await fetch(app.url + path, init);
  let text = '';
  try {
    for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString('latin1');
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError);
  }
  return `${response.status} ${JSON.stringify([...response.headers])} ${text}`;
}

describe('a registry that redirects to a service of the private network', () => {
  const paths = [
    ...Object.values(ROUTE_SAMPLES),
    `manifests/${DIGEST}`,
    `_soci/images/${DIGEST}`,
    `_soci/images/${DIGEST}/files/a`,
  ];

  it.each([200, 206, 400, 401, 403, 404, 416, 429, 500, 503])(
    'shows clients nothing of what it answers with status %i, by no route',
    async (status) => {
      serve = showSecret(status);
      for (const [count, path] of paths.entries()) {
        for (const init of [{}, { method: 'HEAD' }, { headers: { range: 'bytes=0-9' } }]) {
          const url = `/v2/hub/app${count}/${path}`;
          expect(await readAll(url, init), `${path} ${JSON.stringify(init)}`).not.toContain(SECRET);
        }
      }
      expect(internal.requests.length).toBeGreaterThan(paths.length);
    },
  );

  it.each(['localhost', '127.1', '2130706433', '0', '[::ffff:127.0.0.1]'])(
    'shows nothing by another spelling of its address either (%s)',
    async (host) => {
      serve = showSecret(200);
      place = `http://${host}:${new URL(internal.url).port}`;
      for (const path of [`blobs/${DIGEST}`, 'manifests/1.0', 'tags/list', `_soci/layers/${DIGEST}/tar`])
        expect(await readAll(`/v2/hub/app/${path}`)).not.toContain(SECRET);
      expect(internal.requests.length).toBeGreaterThan(0);
    },
  );

  it('shows nothing at the end of a chain of redirects either', async () => {
    serve = (request, response) => {
      const [, hops = '0'] = /[?&]hops=(\d)/.exec(request.url) ?? [];
      if (hops === '3') showSecret(200)(request, response);
      else response.writeHead(302, { location: `/next?hops=${Number(hops) + 1}` }).end();
    };
    for (const path of [`blobs/${DIGEST}`, 'manifests/1.0', 'tags/list'])
      expect(await readAll(`/v2/hub/app/${path}`)).not.toContain(SECRET);
    expect(internal.requests.some(({ url }) => url.includes('hops=3'))).toBe(true);
  });

  it('gives its blobs, whole and in ranges, for one request of the service: they are verified', async () => {
    const blob = randomBlob(300_000, 11);
    serve = (_request, response) => response.end(blob);
    const url = `${app.url}/v2/hub/app/blobs/${digestOf(blob)}`;
    const part = await fetch(url, { headers: { range: 'bytes=1000-1999' } });
    expect(part.status).toBe(206);
    expect(Buffer.from(await part.arrayBuffer()).equals(blob.subarray(1000, 2000))).toBe(true);
    expect(Buffer.from(await (await fetch(url)).arrayBuffer()).equals(blob)).toBe(true);
    expect(internal.requests.filter(({ method }) => method === 'GET')).toHaveLength(1);
  });
});
