import { readdir, readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestHex, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { tryProgram } from '../helpers/programs.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const PASSWORD = makeSecret('password of the proxy');
const CREDENTIALS = `me:${PASSWORD}`;
const BASIC = `Basic ${Buffer.from(CREDENTIALS).toString('base64')}`;

// A layer of several chunks, an uncompressed layer, and a config.
const TARS = [
  tarArchive({ large: randomBlob(3_000_000, 1) }),
  tarArchive({ plain: randomBlob(200_000, 2) }),
] as const;
const LAYERS = [gzipSync(TARS[0]), TARS[1]] as const;
const CONFIG = Buffer.from(
  JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: TARS.map((tar) => digestOf(tar)) },
  }),
);
const describeBlob = (bytes: Buffer, mediaType: string): object => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
});
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: describeBlob(CONFIG, MEDIA_TYPES.ociConfig),
    layers: [
      describeBlob(LAYERS[0], MEDIA_TYPES.ociLayerGzip),
      describeBlob(LAYERS[1], MEDIA_TYPES.ociLayer),
    ],
  }),
);
const BLOBS = new Map([CONFIG, ...LAYERS].map((bytes) => [digestOf(bytes) as string, bytes]));

interface Request extends SeenRequest {
  readonly response: ServerResponse;
  readonly host: string;
  /** The requested blob. */
  readonly blob: Buffer | undefined;
  readonly isManifest: boolean;
}

/** Responds in its own way, or leaves the request to a normal registry. */
type Way = (request: Request) => unknown;
const LEFT = Symbol('left');

function answerPlainly({ url, headers, response, blob, isManifest }: Request): void {
  const range = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '');
  if (url === '/v2/') response.end('{}');
  else if (isManifest) response.writeHead(200, { 'content-type': MEDIA_TYPES.ociManifest }).end(MANIFEST);
  else if (blob === undefined) response.writeHead(404).end();
  else if (range === null) response.writeHead(200, { 'content-length': blob.length }).end(blob);
  else {
    const [start, end] = [Number(range[1]), Math.min(Number(range[2]) + 1, blob.length)];
    response
      .writeHead(206, { 'content-range': `bytes ${start}-${end - 1}/${blob.length}` })
      .end(blob.subarray(start, end));
  }
}

function startUpstream(way: Way): Promise<ScriptedUpstream> {
  return ScriptedUpstream.start((seen, response) => {
    const blob = BLOBS.get(seen.url.split('/').at(-1) ?? '');
    const isManifest = seen.url === '/v2/app/manifests/1' || seen.url.endsWith(digestOf(MANIFEST));
    const request = { ...seen, response, host: seen.headers.host ?? '', blob, isManifest };
    if (way(request) === LEFT) answerPlainly(request);
  });
}

const inChunks = (response: ServerResponse, bytes: Buffer): unknown =>
  response.write(bytes.subarray(0, 5)) && response.end(bytes.subarray(5));
const ofBlobs =
  (way: (request: Request & { blob: Buffer }) => unknown): Way =>
  (request) =>
    request.blob === undefined ? LEFT : way({ ...request, blob: request.blob });
const withToken =
  (challenge: (host: string) => string | string[], token: (request: Request) => unknown): Way =>
  (request) => {
    const { url, headers, response, host } = request;
    if (url.startsWith('/token')) return token(request);
    if (headers.authorization === 'Bearer T') return LEFT;
    return response.writeHead(401, { 'www-authenticate': challenge(host) }).end();
  };
const bearer = (host: string): string => `Bearer realm="http://${host}/token",service="s"`;
const sendToken = ({ response }: Request): unknown => response.end('{"token":"T"}');

/** `direct`: every version of skopeo can pull from it without the proxy. */
const WAYS: readonly (readonly [what: string, direct: boolean, way: Way])[] = [
  ['nothing odd', true, () => LEFT],
  ['blobs without length', true, ofBlobs(({ response, blob }) => inChunks(response, blob))],
  [
    'blobs without length, and no HEAD',
    true,
    (request) =>
      request.method === 'HEAD'
        ? request.response.writeHead(405).end()
        : request.blob
          ? inChunks(request.response, request.blob)
          : LEFT,
  ],
  [
    'ranges of a wrong total',
    true,
    ofBlobs(({ response, blob, headers }) =>
      headers.range === undefined
        ? LEFT
        : response.writeHead(206, { 'content-range': 'bytes 0-9/99' }).end(blob.subarray(0, 10)),
    ),
  ],
  ['no ranges', true, ofBlobs(({ response, blob }) => response.end(blob))],
  [
    'blobs that are packed on the way',
    true,
    ofBlobs(({ response, blob }) =>
      inChunks(response.writeHead(200, { 'content-encoding': 'gzip' }), gzipSync(blob)),
    ),
  ],
  [
    'blobs that are packed as zstd',
    false,
    ofBlobs(({ response, blob }) =>
      inChunks(response.writeHead(200, { 'content-encoding': 'zstd' }), zstdCompressSync(blob)),
    ),
  ],
  [
    'layers that are called gzip',
    false,
    ofBlobs(({ response, blob }) =>
      response.writeHead(200, { 'content-encoding': 'gzip', 'content-length': blob.length }).end(blob),
    ),
  ],
  [
    'packed manifests',
    true,
    ({ isManifest, response }) =>
      isManifest
        ? response
            .writeHead(200, { 'content-type': MEDIA_TYPES.ociManifest, 'content-encoding': 'gzip' })
            .end(gzipSync(MANIFEST))
        : LEFT,
  ],
  [
    'manifests of a wrong digest',
    true,
    ({ isManifest, response }) =>
      isManifest
        ? response
            .writeHead(200, {
              'content-type': MEDIA_TYPES.ociManifest,
              'docker-content-digest': digestOf('x'),
            })
            .end(MANIFEST)
        : LEFT,
  ],
  [
    'manifests as text',
    false,
    ({ isManifest, response }) =>
      isManifest ? response.writeHead(200, { 'content-type': 'text/plain' }).end(MANIFEST) : LEFT,
  ],
  ['100 before everything', true, ({ response }) => (response.writeContinue(), LEFT)],
  ['102 before everything', true, ({ response }) => (response.writeProcessing(), LEFT)],
  [
    '103 before everything',
    true,
    ({ response }) => (response.writeEarlyHints({ link: '</x>; rel=preload' }), LEFT),
  ],
  [
    'redirects over several places',
    true,
    ofBlobs(({ response, url }) => {
      const hop = Number(/hop=(\d)/.exec(url)?.[1] ?? 0);
      return hop === 6
        ? LEFT
        : response
            .writeHead([301, 302, 303, 307, 308, 307][hop] ?? 307, {
              location: `?hop=${hop + 1}&/${url.split('/').at(-1) ?? ''}`,
            })
            .end();
    }),
  ],
  [
    'an empty field beside the token',
    true,
    withToken(bearer, ({ response }) => response.end('{"token":"","access_token":"T","expires_in":0}')),
  ],
  [
    'a time as text beside the token',
    false,
    withToken(bearer, ({ response }) => response.end('{"token":"T","expires_in":"300"}')),
  ],
  [
    'a packed token',
    true,
    withToken(bearer, ({ response }) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('{"token":"T"}')),
    ),
  ],
  [
    'a token service that redirects',
    true,
    withToken(bearer, (request) =>
      request.url.startsWith('/token/2')
        ? sendToken(request)
        : request.response.writeHead(302, { location: '/token/2' }).end(),
    ),
  ],
  [
    'a challenge without quotes',
    false,
    withToken((host) => `BEARER realm=http://${host}/token?a=b`, sendToken),
  ],
  [
    'a challenge of several schemes',
    false,
    withToken((host) => ['Negotiate', 'Basic realm="x"', bearer(host)], sendToken),
  ],
  [
    'a challenge for another scope',
    true,
    withToken(
      (host) => `${bearer(host)},scope="repository:other:pull"`,
      ({ url, response }) =>
        response.end(url.includes('%3Aapp%3A') ? '{"token":"T"}' : '{"token":"useless"}'),
    ),
  ],
  [
    'a challenge at /v2/ that is open otherwise',
    true,
    ({ url, response }) =>
      url === '/v2/' ? response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end() : LEFT,
  ],
  ['no /v2/', false, ({ url, response }) => (url === '/v2/' ? response.writeHead(404).end() : LEFT)],
  ...[403, 404].map((status): readonly [string, boolean, Way] => [
    `${status} for strangers, and a challenge at /v2/ only`,
    true,
    ({ url, headers, response }) => {
      if (headers.authorization === BASIC) return LEFT;
      return url === '/v2/'
        ? response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
        : response.writeHead(status).end();
    },
  ]),
];

let scratch: string;

beforeAll(async () => {
  scratch = await temporaryFolder();
});

async function pull(host: string, folder: string, ...options: string[]): Promise<number | null> {
  const image = `docker://${host}/app:1`;
  const copy = [
    '--insecure-policy',
    'copy',
    '--quiet',
    '--src-tls-verify=false',
    ...options,
    image,
    `dir:${folder}`,
  ];
  return (await tryProgram('skopeo', copy)).status;
}

describe('an upstream with', () => {
  it.each(WAYS.map(([what, direct, way], place) => ({ what, direct, way, place })))(
    '$what gives skopeo the same image through the proxy (without it: $direct)',
    async ({ direct, way, place }) => {
      await using upstream = await startUpstream(way);
      const auth = { kind: 'basic', username: 'me', password: PASSWORD };
      await using app = await proxyWith(upstream, {
        upstream: { name: 'odd', auth },
        environment: { SPANDREL_INDEX_V1: 'false', SPANDREL_INDEX_V2: 'false' },
      });
      const { host } = new URL(upstream.url);
      const status = await pull(host, join(scratch, `${place}-direct`), '--src-creds', CREDENTIALS);
      if (direct) expect(status).toBe(0);
      const folder = join(scratch, `${place}`);
      expect(await pull(new URL(app.url).host, folder)).toBe(0);
      const files = (await readdir(folder)).filter((name) => name.length === 64);
      expect(files.toSorted()).toEqual(
        [...BLOBS.values()].map((bytes) => digestHex(digestOf(bytes))).toSorted(),
      );
      for (const name of files) expect(digestHex(digestOf(await readFile(join(folder, name))))).toBe(name);
      expect((await readFile(join(folder, 'manifest.json'))).equals(MANIFEST)).toBe(true);
    },
  );
});
