import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { errorCode, KnownRepository } from '../helpers/images/known-repository.ts';

let known: KnownRepository;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
});

describe('distribution spec, "Push" and "Content Management", of a registry that is read-only', () => {
  it.each([
    ['POST', 'blobs/uploads/'],
    ['POST', `blobs/uploads/?digest=${digestOf('x')}`],
    ['POST', `blobs/uploads/?mount=${digestOf('x')}&from=team/other`],
    ['PATCH', 'blobs/uploads/1'],
    ['PUT', `blobs/uploads/1?digest=${digestOf('x')}`],
    ['PUT', 'manifests/2.0'],
    ['DELETE', 'manifests/1.0'],
    ['DELETE', `blobs/${digestOf('x')}`],
  ])('%s %s is answered with 405 UNSUPPORTED and reaches no upstream', async (method, path) => {
    const before = known.upstream.requests.requestCount;
    const answer = await known.ask(path, {}, method);
    expect([answer.status, errorCode(answer), answer.headers.get('allow')]).toEqual([
      405,
      'UNSUPPORTED',
      'GET, HEAD, OPTIONS',
    ]);
    expect(known.upstream.requests.requestCount).toBe(before);
  });
});

describe('distribution spec, "Error Codes"', () => {
  it.each([
    '/v1',
    '/v1/search',
    '/v2/_catalog/x',
    '/v2/team/app',
    '/v2/team/app/',
    '/v2/team/app/manifests/',
    '/v2/team/app/tags/other',
    '/v2/team/app/blobs/uploads/1',
    '/favicon.ico',
  ])('the unknown route %s is answered with 4xx and an OCI body; HEAD without one', async (path) => {
    const answer = await known.ask(path);
    expect([answer.status >= 400 && answer.status < 500, typeof errorCode(answer)]).toEqual([true, 'string']);
    const head = await known.ask(path, {}, 'HEAD');
    expect([head.status, head.body.length]).toEqual([answer.status, 0]);
  });

  it('429 of an upstream is answered with 503 and Retry-After of at least a second', async () => {
    known.upstream.faults.add({ match: { path: /throttled/ }, action: { kind: 'status', status: 429 } });
    const answer = await known.ask('manifests/throttled');
    expect([answer.status, errorCode(answer)]).toEqual([503, 'UPSTREAM_THROTTLED']);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  });
});

describe('distribution spec (draft), "Registry Proxying"', () => {
  const paths = (): string[] => [
    'manifests/1.0',
    `manifests/${known.manifestDigest}`,
    `blobs/${known.blobDigest}`,
    'tags/list',
    `referrers/${known.manifestDigest}`,
  ];

  it('a request with ns of an upstream goes there, and the response names it in OCI-Namespace', async () => {
    for (const path of paths()) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await known.ask(`${path}?ns=registry.example.com`, {}, method);
        expect([answer.status, answer.headers.get('oci-namespace')], path).toEqual([
          200,
          'registry.example.com',
        ]);
      }
      expect((await known.ask(path)).headers.get('oci-namespace'), path).toBeNull();
    }
  });

  it('/v2/ names the registry that its request selects: by ns, by an upstream, or the default', async () => {
    for (const query of ['?ns=registry.example.com', '?ns=known', '']) {
      const answer = await fetch(`${known.app.url}/v2/${query}`);
      expect([answer.status, answer.headers.get('oci-namespace')], query).toEqual([
        200,
        'registry.example.com',
      ]);
    }
  });

  it('a request with ns of any other registry is refused', async () => {
    for (const ns of ['evil.example.com', '127.0.0.1', 'registry.example.com:443', '']) {
      const answer = await known.ask(`manifests/1.0?ns=${ns}`);
      expect([answer.status, errorCode(answer)], ns).toEqual([403, 'DENIED']);
    }
  });

  it('credentials that a client sends are not passed on to the upstream', async () => {
    await known.ask('manifests/1.0', { authorization: `Basic ${btoa('user:password')}` });
    const seen = known.upstream.requests.entries.map(({ headers }) => headers.authorization);
    expect(seen.every((authorization) => authorization === undefined)).toBe(true);
  });
});
