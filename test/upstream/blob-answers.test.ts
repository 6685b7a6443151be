import type { ServerResponse } from 'node:http';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import type { ByteRange } from '../../src/core/byte-range.ts';
import { digestOf } from '../../src/core/digest.ts';
import type { RegistryClient } from '../../src/upstream/registry-client.ts';
import { CODINGS } from '../helpers/clients/content-codings.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';

const SMALL = Buffer.from('{"architecture":"amd64","os":"linux"}');
/** More than is taken into memory; can be packed well, so that its parts differ in size. */
const LARGE = Buffer.concat([randomBlob(150_000, 3), Buffer.alloc(150_000, 'a')]);

type Way = (response: ServerResponse, blob: Buffer, seen: SeenRequest) => void;

interface Pulled {
  /** Of the first response. */
  readonly range: ByteRange;
  readonly totalBytes: number;
  readonly content: string;
  /** Of all requests, in order. */
  readonly asked: readonly string[];
}

async function serve(
  blob: Buffer,
  way: Way,
): Promise<[ScriptedUpstream, AsyncDisposable & { client: RegistryClient }]> {
  const upstream = await ScriptedUpstream.start((seen, response) => way(response, blob, seen));
  return [upstream, await openClient({ name: 'test', url: upstream.url })];
}

/** Ask for a range as a fill does, and say what comes of it. */
async function pull(blob: Buffer, way: Way, range?: ByteRange, sizeBytes?: number): Promise<Pulled> {
  const [upstream, open] = await serve(blob, way);
  await using _upstream = upstream;
  await using _open = open;
  const source = open.client.blobSource('app', digestOf(blob));
  const answer = await source.fetch(range, new AbortController().signal, sizeBytes);
  const chunks: Buffer[] = [];
  for await (const chunk of answer.body) chunks.push(chunk);
  const asked = upstream.requests.map(({ method, headers }) => `${method} ${headers.range ?? 'all'}`);
  return {
    range: answer.range,
    totalBytes: answer.totalBytes,
    content: digestOf(Buffer.concat(chunks)),
    asked,
  };
}

/** Two writes: chunked, without a length. */
const chunked: Way = (response, blob) => {
  response.write(blob.subarray(0, 10));
  response.end(blob.subarray(10));
};
/** As HTTP/1.0 does: the end of the connection is the end of the body. */
const closed: Way = (response, blob) => {
  response.removeHeader('transfer-encoding');
  response.shouldKeepAlive = false;
  response.useChunkedEncodingByDefault = false;
  response.writeHead(200, { connection: 'close' });
  chunked(response, blob, undefined as never);
};

describe.each<[string, Buffer]>([
  ['small', SMALL],
  ['large', LARGE],
])('a %s blob', (_size, blob) => {
  const whole = { range: { start: 0, end: blob.length }, totalBytes: blob.length, content: digestOf(blob) };

  it.each<[string, Way]>([
    ['chunked', chunked],
    ['until the connection ends', closed],
  ])('that comes %s has its known length', async (_how, way) => {
    expect(await pull(blob, way, undefined, blob.length)).toEqual({ ...whole, asked: ['GET all'] });
    expect(await pull(blob, way, { start: 5, end: 9 }, blob.length)).toEqual({
      ...whole,
      asked: ['GET bytes=5-8'],
    });
  });

  it.each<[string, Way]>([
    ['chunked', chunked],
    ['until the connection ends', closed],
  ])('that comes %s is measured if nothing tells its length', async (_how, way) => {
    const { asked, ...found } = await pull(blob, way, { start: 0, end: 1000 });
    expect(found).toEqual(whole);
    expect(asked).toEqual(blob === SMALL ? ['GET bytes=0-999'] : ['GET bytes=0-999', 'HEAD all', 'GET all']);
  });

  it.each([-1, 1])('that comes chunked and %i bytes longer than known is refused', async (less) => {
    await expect(pull(blob, chunked, undefined, blob.length - less)).rejects.toMatchObject({
      code: 'UPSTREAM_PROTOCOL',
    });
  });

  describe.each(CODINGS.map(([header, encode], place) => ({ header, encode, place })))(
    'that comes as $header ($place)',
    ({ header, encode }) => {
      const packed = encode(blob);
      const isPacked = !packed.equals(blob);
      const withLength: Way = (response) =>
        response.writeHead(200, { 'content-encoding': header, 'content-length': packed.length }).end(packed);
      const withoutLength: Way = (response) =>
        chunked(response.writeHead(200, { 'content-encoding': header }), packed, undefined as never);

      it('is decoded if it is encoded: whole, for a range, with and without a length', async () => {
        for (const way of [withLength, withoutLength]) {
          for (const range of [undefined, { start: 5, end: 9 }])
            expect(await pull(blob, way, range, blob.length)).toMatchObject({
              ...whole,
              asked: { length: 1 },
            });
        }
      });

      it('of unknown size is decoded or not as its digest decides', async () => {
        if (blob === SMALL)
          for (const way of [withLength, withoutLength])
            expect(await pull(blob, way)).toEqual({ ...whole, asked: ['GET all'] });
        // A large one that has a length is taken for a file that is stored so: below.
        else if (isPacked)
          expect(await pull(blob, withoutLength)).toEqual({
            ...whole,
            asked: ['GET all', 'HEAD all', 'GET all'],
          });
      });
    },
  );

  it('that is stored as gzip and labelled so is not decoded', async () => {
    const layer = gzipSync(blob);
    const labelled: Way = (response, stored) =>
      response.writeHead(200, { 'content-encoding': 'gzip', 'content-length': stored.length }).end(stored);
    for (const sizeBytes of [layer.length, undefined])
      expect(await pull(layer, labelled, undefined, sizeBytes)).toMatchObject({
        totalBytes: layer.length,
        content: digestOf(layer),
        asked: ['GET all'],
      });
  });

  it('that is stored as gzip and encoded again is decoded once', async () => {
    const layer = gzipSync(blob);
    const packing: Way = (response, stored) =>
      chunked(response.writeHead(200, { 'content-encoding': 'gzip' }), gzipSync(stored), undefined as never);
    expect(await pull(layer, packing, undefined, layer.length)).toMatchObject({
      content: digestOf(layer),
      asked: ['GET all'],
    });
  });

  it('that is not encoded as labelled, or is truncated, is refused', async () => {
    for (const encode of [gzipSync, deflateSync, brotliCompressSync, zstdCompressSync]) {
      const packed = encode(blob);
      const name =
        { gzipSync: 'gzip', deflateSync: 'deflate', brotliCompressSync: 'br' }[encode.name] ?? 'zstd';
      const cut: Way = (response) =>
        chunked(
          response.writeHead(200, { 'content-encoding': name }),
          packed.subarray(0, -9),
          undefined as never,
        );
      if (blob === LARGE)
        await expect(pull(blob, cut, undefined, blob.length)).rejects.toMatchObject({
          code: 'UPSTREAM_PROTOCOL',
        });
      else expect((await pull(blob, cut)).content).not.toBe(digestOf(blob));
    }
  });
});

describe('a range', () => {
  const blob = LARGE;
  const asked = { start: 100_000, end: 180_000 };
  const part = (header: string, { start, end }: ByteRange, more: Record<string, string> = {}): Way => {
    return (response, stored, seen) => {
      if (seen.headers.range === undefined) response.end(stored);
      else response.writeHead(206, { 'content-range': header, ...more }).end(stored.subarray(start, end));
    };
  };
  const whole = { range: { start: 0, end: blob.length }, totalBytes: blob.length, content: digestOf(blob) };
  const exact = {
    range: asked,
    totalBytes: blob.length,
    content: digestOf(blob.subarray(asked.start, asked.end)),
  };

  it.each<[string, Way, ByteRange]>([
    ['of no total', part(`bytes 100000-179999/*`, asked), asked],
    ['in words of another case', part(`Bytes 100000-179999/300000`, asked), asked],
    ['that is a little longer', part(`bytes 99990-180009/300000`, { start: 99_990, end: 180_010 }), asked],
    ['that is much longer', part(`bytes 100000-299999/300000`, { start: 100_000, end: 300_000 }), asked],
    [
      'that is shorter',
      part(`bytes 100000-169999/300000`, { start: 100_000, end: 170_000 }),
      { ...asked, end: 170_000 },
    ],
    [
      'with less than it says',
      part(`bytes 100000-179999/300000`, { ...asked, end: 170_000 }, { 'content-length': '70000' }),
      { ...asked, end: 170_000 },
    ],
    ['labelled as gzip', part(`bytes 100000-179999/300000`, asked, { 'content-encoding': 'gzip' }), asked],
  ])('%s is used', async (_what, way, range) => {
    const found = await pull(blob, way, asked, blob.length);
    expect(found).toEqual({
      ...exact,
      range,
      content: digestOf(blob.subarray(range.start, range.end)),
      asked: ['GET bytes=100000-179999'],
    });
  });

  it.each<[string, Way]>([
    ['of another total', part(`bytes 100000-179999/300001`, asked)],
    ['of a total of 0', part(`bytes 100000-179999/0`, asked)],
    ['that says nothing', part('', asked)],
    ['of other units', part('items 100000-179999/300000', asked)],
    ['that is shifted', part(`bytes 100001-180000/300000`, { start: 100_001, end: 180_001 })],
    ['that is somewhere else', part(`bytes 0-79999/300000`, { start: 0, end: 80_000 })],
    ['that is a few bytes', part(`bytes 100000-100009/300000`, { start: 100_000, end: 100_010 })],
    ['of what is packed', part(`bytes 100000-179999/151000`, asked, { 'content-encoding': 'gzip' })],
    ['in several parts', part('', asked, { 'content-type': 'multipart/byteranges; boundary=x' })],
    ...[400, 405, 406, 416, 501].map((status): [string, Way] => [
      `that is refused with ${status}`,
      (response, stored, seen) =>
        seen.headers.range === undefined ? response.end(stored) : response.writeHead(status).end('no'),
    ]),
    [
      'that is refused with 416 and a size',
      (response, stored, seen) =>
        seen.headers.range === undefined
          ? response.end(stored)
          : response.writeHead(416, { 'content-range': 'bytes */300000' }).end(),
    ],
  ])('%s makes the proxy request the whole blob', async (_what, way) => {
    expect(await pull(blob, way, asked, blob.length)).toEqual({
      ...whole,
      asked: ['GET bytes=100000-179999', 'GET all'],
    });
  });

  it.each<[string, Way]>([
    ['of a total that is too large', part(`bytes 0-299999/300001`, { start: 0, end: 300_000 })],
    ['of no total', part(`bytes 0-299999/*`, { start: 0, end: 300_000 })],
  ])('%s, of a blob of unknown size, makes the proxy request the whole blob', async (_what, way) => {
    expect(await pull(blob, way, { start: 0, end: 2 ** 20 })).toEqual({
      ...whole,
      asked: ['GET bytes=0-1048575', 'GET all'],
    });
  });

  it('of the whole blob is the blob, though no range was requested', async () => {
    const way: Way = (response, stored) =>
      response.writeHead(206, { 'content-range': `bytes 0-299999/300000` }).end(stored);
    expect(await pull(blob, way, undefined, blob.length)).toEqual({ ...whole, asked: ['GET all'] });
  });

  it('that the upstream claims to support, but ignores, is the whole blob', async () => {
    const way: Way = (response, stored) => response.setHeader('accept-ranges', 'bytes').end(stored);
    expect(await pull(blob, way, asked)).toEqual({ ...whole, asked: ['GET bytes=100000-179999'] });
  });
});

describe('the size of a blob', () => {
  const ranged: Way = (response, blob) =>
    response.writeHead(206, { 'content-range': `bytes 0-0/${blob.length}` }).end(blob.subarray(0, 1));

  async function stat(blob: Buffer, way: Way): Promise<{ sizes: number[]; asked: string[] }> {
    const [upstream, open] = await serve(blob, way);
    await using _upstream = upstream;
    await using _open = open;
    const sizes = [
      await open.client.statBlob('app', digestOf(blob)),
      await open.client.statBlob('app', digestOf(blob)),
    ];
    const asked = upstream.requests.map(({ method, headers }) => `${method} ${headers.range ?? 'all'}`);
    return { sizes, asked: asked.filter((_line, place) => upstream.requests[place]?.url !== '/v2/') };
  }

  it.each([400, 401, 403, 404, 405, 406, 500, 501])(
    'comes from a range where HEAD is refused with %i',
    async (status) => {
      const found = await stat(SMALL, (response, blob, seen) =>
        seen.method === 'HEAD' ? response.writeHead(status).end() : ranged(response, blob, seen),
      );
      expect(found.sizes).toEqual([SMALL.length, SMALL.length]);
      // 500 is retried as often as configured.
      expect(new Set(found.asked)).toEqual(new Set(['HEAD all', 'GET bytes=0-0']));
      expect(found.asked.filter((line) => line.startsWith('GET'))).toHaveLength(2);
    },
  );

  it.each<[string, Record<string, string>]>([
    ['no length', { 'transfer-encoding': 'chunked' }],
    ['a length of 0', { 'content-length': '0' }],
    ['the length of what is packed', { 'content-encoding': 'gzip', 'content-length': '20' }],
  ])('comes from a range where HEAD says %s', async (_what, headers) => {
    const found = await stat(SMALL, (response, blob, seen) =>
      seen.method === 'HEAD' ? response.writeHead(200, headers).end() : ranged(response, blob, seen),
    );
    expect(found).toEqual({
      sizes: [SMALL.length, SMALL.length],
      asked: ['HEAD all', 'GET bytes=0-0', 'GET bytes=0-0'],
    });
  });

  it('is measured once if nothing else tells it', async () => {
    const found = await stat(LARGE, (response, blob, seen) =>
      seen.method === 'HEAD' ? response.end() : chunked(response, blob, seen),
    );
    expect(found.sizes).toEqual([LARGE.length, LARGE.length]);
    expect(found.asked.filter((line) => line === 'GET all')).toHaveLength(1);
  });

  it('of an empty blob is 0', async () => {
    const found = await stat(Buffer.alloc(0), (response) =>
      response.writeHead(200, { 'content-length': '0' }).end(),
    );
    expect(found).toEqual({ sizes: [0, 0], asked: ['HEAD all', 'HEAD all'] });
  });

  it('is not needed for existence: a HEAD without length is enough', async () => {
    const [upstream, open] = await serve(LARGE, (response, blob, seen) =>
      seen.method === 'HEAD' ? response.end() : chunked(response, blob, seen),
    );
    await using _upstream = upstream;
    await using _open = open;
    for (let check = 0; check < 3; check++) await open.client.checkBlob('app', digestOf(LARGE));
    expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD', 'HEAD', 'HEAD']);
  });

  it('does not exist if GET confirms the 404 of a HEAD, and later 404s are trusted', async () => {
    const [upstream, open] = await serve(SMALL, (response) => response.writeHead(404).end());
    await using _upstream = upstream;
    await using _open = open;
    for (let check = 0; check < 3; check++)
      await expect(open.client.checkBlob('app', digestOf(SMALL))).rejects.toMatchObject({
        code: 'BLOB_UNKNOWN',
      });
    await expect(open.client.statBlob('app', digestOf(SMALL))).rejects.toMatchObject({
      code: 'BLOB_UNKNOWN',
    });
    const methods = upstream.requests.filter(({ url }) => url !== '/v2/').map(({ method }) => method);
    expect(methods).toEqual(['HEAD', 'GET', 'HEAD', 'HEAD', 'HEAD']);
  });

  it.each([429, 502, 503, 504])('is not requested by other means if HEAD fails with %i', async (status) => {
    const [upstream, open] = await serve(SMALL, (response) => response.writeHead(status).end());
    await using _upstream = upstream;
    await using _open = open;
    await expect(open.client.statBlob('app', digestOf(SMALL))).rejects.toMatchObject({ code: /^UPSTREAM/ });
    expect(new Set(upstream.requests.map(({ method }) => method))).toEqual(new Set(['HEAD']));
  });
});

describe('redirects', () => {
  it.each([301, 302, 303, 307, 308])(
    'with %i are followed over nine hosts, without credentials',
    async (status) => {
      await using store = await ScriptedUpstream.start(({ url }, response) => {
        const hop = Number(new URL(url, 'http://x').searchParams.get('hop'));
        if (hop < 9) response.writeHead(status, { location: `?hop=${hop + 1}` }).end();
        else response.end(SMALL);
      }, 'localhost');
      await using upstream = await ScriptedUpstream.start(({ headers }, response) =>
        headers.authorization === undefined
          ? response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
          : response.writeHead(status, { location: `${store.url}/a/b?hop=1` }).end(),
      );
      await using open = await openClient({
        name: 'test',
        url: upstream.url,
        auth: { kind: 'basic', username: 'me', password: 'not-a-secret-of-anybody' },
      });
      const source = open.client.blobSource('app', digestOf(SMALL));
      const { totalBytes, body } = await source.fetch(undefined, new AbortController().signal);
      for await (const _ of body);
      expect(totalBytes).toBe(SMALL.length);
      expect(store.requests).toHaveLength(9);
      expect(store.requests.every(({ headers }) => headers.authorization === undefined)).toBe(true);
    },
  );
});
