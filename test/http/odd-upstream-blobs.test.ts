import type { ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const FILE = randomBlob(2_500_000, 5);
const TAR = tarArchive({ 'a.bin': FILE, 'b.txt': Buffer.from('the end') });
const LAYER = gzipSync(TAR);
const CONFIG = Buffer.from('{"architecture":"amd64","os":"linux","config":{}}');
const BLOBS = new Map([LAYER, TAR, CONFIG].map((bytes) => [digestOf(bytes) as string, bytes]));

interface Request {
  readonly seen: SeenRequest;
  readonly response: ServerResponse;
  readonly blob: Buffer;
  /** Half-open; `undefined` if all of it is asked for. */
  readonly range: { readonly start: number; readonly end: number } | undefined;
}

type Way = (request: Request) => unknown;

const inChunks = (response: ServerResponse, bytes: Buffer): void => {
  response.write(bytes.subarray(0, 7));
  response.end(bytes.subarray(7));
};
const sendWhole: Way = ({ response, blob }) =>
  response.writeHead(200, { 'content-length': blob.length }).end(blob);
const sendPart = ({ response, blob, range }: Request, header: string): unknown =>
  response.writeHead(206, { 'content-range': header }).end(blob.subarray(range?.start, range?.end));
const ranged =
  (header: (range: { start: number; end: number }, blob: Buffer) => string): Way =>
  (request) =>
    request.range === undefined ? sendWhole(request) : sendPart(request, header(request.range, request.blob));
const headed =
  (head: (response: ServerResponse) => unknown, way: Way): Way =>
  (request) =>
    request.seen.method === 'HEAD' ? head(request.response) : way(request);
const plain = ranged(({ start, end }, blob) => `bytes ${start}-${end - 1}/${blob.length}`);

const WAYS: Readonly<Record<string, Way>> = {
  'chunks without length': headed(
    (response) => response.end(),
    ({ response, blob }) => inChunks(response, blob),
  ),
  'chunks, and HEAD refused': headed(
    (response) => response.writeHead(403).end(),
    ({ response, blob }) => inChunks(response, blob),
  ),
  'HEAD with 404': headed((response) => response.writeHead(404).end(), plain),
  'HEAD with a length of 0': headed(
    (response) => response.writeHead(200, { 'content-length': 0 }).end(),
    plain,
  ),
  'ranges of an unknown total': ranged(({ start, end }) => `bytes ${start}-${end - 1}/*`),
  'ranges of a total that is too large': ranged(
    ({ start, end }, blob) => `bytes ${start}-${end - 1}/${blob.length + 1}`,
  ),
  'ranges of a total of 1': ranged(({ start, end }) => `bytes ${start}-${end - 1}/1`),
  'ranges that do not say which': ranged(() => ''),
  'no ranges': sendWhole,
  'ranges of at most 100 KB': (request) => {
    const { range, blob } = request;
    if (range === undefined) return sendWhole(request);
    const end = Math.min(range.end, range.start + 100_000);
    return sendPart(
      { ...request, range: { start: range.start, end } },
      `bytes ${range.start}-${end - 1}/${blob.length}`,
    );
  },
  'packed blobs': ({ response, blob }) =>
    inChunks(response.writeHead(200, { 'content-encoding': 'gzip' }), gzipSync(blob)),
};

function startUpstream(way: Way): Promise<ScriptedUpstream> {
  return ScriptedUpstream.start((seen, response) => {
    const blob = BLOBS.get(seen.url.split('/').at(-1) ?? '');
    if (blob === undefined) return response.writeHead(404).end();
    const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(seen.headers.range ?? '') ?? [];
    const range =
      start === undefined
        ? undefined
        : { start: Number(start), end: Math.min(blob.length, Number(last) + 1) };
    return way({ seen, response, blob, range });
  });
}

describe.each(Object.entries(WAYS))(
  'of an upstream with %s, whose manifests nobody has seen',
  (_what, way) => {
    it.each([
      ['a small blob', CONFIG],
      ['a layer', LAYER],
      ['a layer that is not compressed', TAR],
    ])('%s can be had: HEAD, a range while it is cold, all of it, and HEAD again', async (_which, blob) => {
      await using upstream = await startUpstream(way);
      await using app = await proxyWith(upstream, { upstream: { name: 'odd' } });
      const url = `${app.url}/v2/app/blobs/${digestOf(blob)}`;
      const head = async (): Promise<unknown[]> => {
        const { status, headers } = await fetch(url, {
          method: 'HEAD',
          headers: { 'accept-encoding': 'identity' },
        });
        return [status, headers.get('content-length')];
      };
      expect(await head()).toEqual([200, String(blob.length)]);
      const from = blob.length - 20;
      const part = await fetch(url, { headers: { range: `bytes=${from}-` } });
      expect([part.status, part.headers.get('content-range')]).toEqual([
        206,
        `bytes ${from}-${blob.length - 1}/${blob.length}`,
      ]);
      expect(Buffer.from(await part.arrayBuffer()).equals(blob.subarray(from))).toBe(true);
      const whole = await fetch(url);
      expect([whole.status, whole.headers.get('content-length')]).toEqual([200, String(blob.length)]);
      expect(digestOf(Buffer.from(await whole.arrayBuffer()))).toBe(digestOf(blob));
      expect(await head()).toEqual([200, String(blob.length)]);
    });

    it('a file of a layer can be read', async () => {
      await using upstream = await startUpstream(way);
      await using app = await proxyWith(upstream, { upstream: { name: 'odd' } });
      const answer = await fetch(`${app.url}/v2/app/_soci/layers/${digestOf(LAYER)}/files/a.bin`);
      expect(answer.status).toBe(200);
      expect(digestOf(Buffer.from(await answer.arrayBuffer()))).toBe(digestOf(FILE));
    });
  },
);
