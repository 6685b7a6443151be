import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { KnownRepository } from '../helpers/images/known-repository.ts';
import { sendRaw } from '../helpers/clients/raw-request.ts';

let known: KnownRepository;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
});

function request(target: string, headers = '', method = 'GET'): string {
  return `${method} ${target} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;
}

const GOOD = request('/v2/team/app/manifests/1.0', 'Connection: close\r\n');

describe('a connection is kept, and answers the next request, after', () => {
  it.each([
    ['404', () => request('/v2/team/app/manifests/none')],
    ['405', () => `${request('/v2/team/app/manifests/2.0', 'Content-Length: 3\r\n', 'PUT')}abc`],
    ['405', () => `${request('/v2/', 'Transfer-Encoding: chunked\r\n', 'POST')}3\r\nabc\r\n0\r\n\r\n`],
    ['416', () => request(`/v2/team/app/blobs/${known.blobDigest}`, 'Range: bytes=9999-\r\n')],
    ['400', () => request('/v2/team/app/blobs/sha256:x')],
    ['417', () => request('/v2/', 'Expect: x\r\n')],
    ['204', () => request('*', '', 'OPTIONS')],
    ['206', () => request(`/v2/team/app/blobs/${known.blobDigest}`, 'Range: bytes=0-1,8-9\r\n')],
  ])('%s', async (status, first) => {
    const answers = await sendRaw(known.app.url, first() + GOOD);
    expect([...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1])).toEqual([status, '200']);
    expect(answers.endsWith(known.manifest.toString())).toBe(true);
  });
});

describe('HTTP/1.0', () => {
  it('needs no Host, and closes unless it is asked not to', async () => {
    const once = await sendRaw(known.app.url, 'GET /v2/team/app/manifests/1.0 HTTP/1.0\r\n\r\n');
    expect(once).toMatch(/^HTTP\/1\.1 200 [^]*connection: close\r\n/i);
    expect(once.endsWith(known.manifest.toString())).toBe(true);
    const kept = 'GET /v2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n';
    expect((await sendRaw(known.app.url, kept + GOOD)).match(/HTTP\/1\.1 200/g)).toHaveLength(2);
  });
});

describe('queries', () => {
  it.each([
    'tags/list?n=&last=',
    'tags/list?n=99999999999999999999',
    'manifests/1.0?x=%zz',
    'manifests/1.0?ns=registry.example.com&ns=registry.example.com',
  ])('%s is taken', async (path) => {
    expect((await known.ask(path)).status).toBe(200);
  });

  it.each([
    'tags/list?n=-1',
    'tags/list?n=1.5',
    'manifests/1.0?ns=registry.example.com&ns=other.example.com',
  ])('%s is refused', async (path) => {
    expect((await known.ask(path)).status).toBe(400);
  });
});
