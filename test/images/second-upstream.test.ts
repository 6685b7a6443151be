import { beforeEach, describe, expect, it, vi } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { image } from '../helpers/images/image.ts';
import { gzipLayer, ImageUpstream, type UpstreamLayer } from '../helpers/upstreams/image-upstream.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { type Script, ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const CONTENT = randomBlob(2_000_000, 3);
const LAYER: UpstreamLayer = gzipLayer(tarArchive({ file: CONTENT }));
const [BYTES, DIGEST]: [Buffer, Digest] = [LAYER.bytes, digestOf(LAYER.bytes)];
const MANIFEST = digestOf(image([LAYER]).manifest);
const WAIT = { timeout: 20_000 };

let honest: ImageUpstream;
let other: ScriptedUpstream;
let app: RunningApp;
/** The other upstream answers HEAD after this. */
let heads: Promise<void>;
/** How it answers a GET of the layer. */
let send: Script;

/** It claims to have everything. */
const answer: Script = (request, response) => {
  if (request.method === 'GET') return send(request, response);
  const digest = request.url.slice(request.url.lastIndexOf('/') + 1);
  const headers = { 'content-length': BYTES.byteLength, 'docker-content-digest': digest };
  return void heads.then(() => response.writeHead(200, headers).end());
};

const nothing: Script = (_, response) => void response.writeHead(404).end();
const silence: Script = () => undefined;

/**
 * Sends other bytes instead of the layer.
 * @param ranges false if it ignores ranges
 */
function sending(bytes: Buffer, { ranges = true } = {}): Script {
  return ({ url, headers }, response) => {
    if (!url.includes(`/blobs/${DIGEST}`)) return void response.writeHead(404).end();
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
    if (!ranges || first === undefined)
      return void response.writeHead(200, { 'content-length': bytes.byteLength }).end(bytes);
    const end = Math.min(bytes.byteLength, Number(last) + 1);
    response.writeHead(206, { 'content-range': `bytes ${first}-${end - 1}/${bytes.byteLength}` });
    return void response.end(bytes.subarray(Number(first), end));
  };
}

beforeEach(async () => {
  honest = cleanup.use(await ImageUpstream.start());
  await honest.addImage('team/app', [LAYER]);
  heads = Promise.resolve();
  send = nothing;
  other = cleanup.use(await ScriptedUpstream.start(answer));
});

async function startApp({ endsAtWork = false } = {}): Promise<void> {
  app = cleanup.use(
    await RunningApp.start({
      endsAtWork,
      upstreams: [
        { name: 'hub', url: honest.url, default: true },
        { name: 'other', url: other.url },
      ],
      environment: {
        SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
        SPANDREL_INDEX_SPAN_BYTES: '65536',
        SPANDREL_UPSTREAM_RETRIES: '0',
        ...(endsAtWork ? { SPANDREL_SHUTDOWN_GRACE_MS: '500' } : {}),
      },
    }),
  );
}

async function get(path: string, headers: Record<string, string> = {}): Promise<[number, Buffer]> {
  const response = await fetch(`${app.url}/v2/${path}`, { headers });
  return [response.status, Buffer.from(await response.arrayBuffer())];
}

/** What the proxy has from the first upstream: the manifest, the layer, and everything derived. */
async function cacheAll(): Promise<{ ztoc: string; index: string }> {
  expect((await get('hub/team/app/manifests/latest'))[0]).toBe(200);
  expect(await get(`hub/team/app/blobs/${DIGEST}`)).toEqual([200, BYTES]);
  await get(`hub/team/app/_soci/layers/${DIGEST}/spans`);
  const [, layer] = await get(`hub/team/app/_soci/layers/${DIGEST}`);
  const { ztoc } = JSON.parse(layer.toString()) as { ztoc: { digest: string } };
  const type = encodeURIComponent(MEDIA_TYPES.sociIndexV1);
  const [, listed] = await get(`hub/team/app/referrers/${MANIFEST}?artifactType=${type}`);
  const { manifests } = JSON.parse(listed.toString()) as { manifests: { digest: string }[] };
  return { ztoc: ztoc.digest, index: manifests[0]?.digest ?? '' };
}

const OTHER_BYTES = randomBlob(BYTES.byteLength, 4);
const HALF = Buffer.concat([
  BYTES.subarray(0, BYTES.byteLength / 8),
  OTHER_BYTES.subarray(BYTES.byteLength / 8),
]);

describe.each<[string, Script]>([
  ['sends nothing', nothing],
  ['sends other bytes', sending(OTHER_BYTES)],
  ['sends nothing but zeros', sending(Buffer.alloc(BYTES.byteLength))],
  ['has the beginning only', sending(HALF)],
  ['sends other bytes, whatever is asked for', sending(OTHER_BYTES, { ranges: false })],
  ['has a shorter one', sending(BYTES.subarray(0, -1))],
])('an upstream that says it has all that others have, and %s', (_, script) => {
  beforeEach(() => startApp());

  it('an upstream without a blob gets neither the blob of another nor what derives from it', async () => {
    const { ztoc, index } = await cacheAll();
    send = script;
    const paths = [
      `blobs/${DIGEST}`,
      `blobs/${ztoc}`,
      `manifests/${MANIFEST}`,
      `manifests/${index}`,
      `referrers/${MANIFEST}`,
      ...['', '/spans', '/spans/0', '/tar', '/files', '/files/file'].map(
        (route) => `_soci/layers/${DIGEST}${route}`,
      ),
      `_soci/images/${MANIFEST}`,
      `_soci/images/${MANIFEST}/files/file`,
    ];
    for (const path of paths) {
      const [status, body] = await get(`other/any/${path}`);
      expect([path, status >= 400 || body.byteLength < 200, body.includes(CONTENT.subarray(0, 64))]).toEqual([
        path,
        true,
        false,
      ]);
      expect(body.includes(BYTES.subarray(0, 64)), path).toBe(false);
    }
    // No other repository is affected.
    expect(await get(`hub/team/app/blobs/${DIGEST}`)).toEqual([200, BYTES]);
    expect(await get(`hub/team/app/_soci/layers/${DIGEST}/files/file`)).toEqual([200, CONTENT]);
  });
});

it('the media type of a manifest comes from its bytes, whatever the first upstream called it', async () => {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [] }));
  const digest = digestOf(bytes);
  honest.registry.addManifest('team/app', digest, bytes, MEDIA_TYPES.ociIndex);
  send = (_, response) =>
    void response.writeHead(200, { 'content-type': MEDIA_TYPES.dockerManifest }).end(bytes);
  await startApp();
  for (const repository of ['other/any', 'hub/team/app']) {
    const response = await fetch(`${app.url}/v2/${repository}/manifests/${digest}`);
    expect(Buffer.from(await response.arrayBuffer()).equals(bytes)).toBe(true);
    expect([repository, response.headers.get('content-type')]).toEqual([repository, MEDIA_TYPES.ociIndex]);
  }
});

it('bytes that arrive from one upstream are not served for another that only claims them', async () => {
  const said = Promise.withResolvers<void>();
  heads = said.promise;
  await startApp();
  const routes = ['', '/spans', '/tar', '/files/file'].map((route) => `_soci/layers/${DIGEST}${route}`);
  const strangers = routes.map((path) => get(`other/any/${path}`));
  await vi.waitFor(() => expect(other.requests.some(({ method }) => method === 'HEAD')).toBe(true), WAIT);
  await cacheAll();
  said.resolve();
  for (const stranger of strangers) {
    const [status, body] = await stranger;
    expect([status, body.includes(CONTENT.subarray(0, 64)), body.includes('ztoc')]).toEqual([
      404,
      false,
      false,
    ]);
  }
});

describe('an upstream that has what another has sent', () => {
  beforeEach(async () => {
    await startApp();
    await cacheAll();
    send = sending(BYTES);
  });

  const sentBytes = (): Promise<number> => app.metric('spandrel_upstream_bytes_total{upstream="other"}');

  it('an upstream proves a blob by sending some ranges once', async () => {
    expect(await get(`other/any/blobs/${DIGEST}`)).toEqual([200, BYTES]);
    const sent = await sentBytes();
    expect(sent).toBeGreaterThan(100_000);
    expect(sent).toBeLessThan(BYTES.byteLength / 4);
    const asked = other.requests.length;
    expect(await get(`other/any/_soci/layers/${DIGEST}/files/file`)).toEqual([200, CONTENT]);
    expect(await get(`other/any/blobs/${DIGEST}`)).toEqual([200, BYTES]);
    expect(other.requests).toHaveLength(asked);
    // Another of its repositories is asked separately.
    expect(await get(`other/more/blobs/${DIGEST}`)).toEqual([200, BYTES]);
    expect(other.requests.slice(asked).map(({ method }) => method)).toEqual(['HEAD']);
    expect(await sentBytes()).toBe(sent);
  });

  it('an upstream proves a blob by spans if only the index is stored', async () => {
    const removed = await fetch(`${app.adminUrl}/api/v1/blobs/${DIGEST}`, { method: 'DELETE' });
    expect(removed.ok).toBe(true);
    const [status, body] = await get(`other/any/_soci/layers/${DIGEST}`);
    expect([status, (JSON.parse(body.toString()) as { state: string }).state]).toEqual([200, 'indexed']);
    expect(await sentBytes()).toBeLessThan(BYTES.byteLength / 2);
    expect(await get(`other/any/_soci/layers/${DIGEST}/files/file`)).toEqual([200, CONTENT]);
  });
});

describe.each<[string, Script]>([
  ['sends other bytes', sending(OTHER_BYTES)],
  ['does not answer', silence],
])('a repository whose blob another upstream is just asked for, which %s', (_, script) => {
  beforeEach(() => startApp({ endsAtWork: true }));

  it('a repository gets its own bytes: whole, in ranges and decompressed', async () => {
    send = script;
    const strangers = Promise.allSettled([
      get(`other/any/blobs/${DIGEST}`),
      get(`other/any/_soci/layers/${DIGEST}/files/file`),
    ]);
    await vi.waitFor(() => expect(other.requests.some(({ method }) => method === 'GET')).toBe(true), WAIT);
    expect(await get(`hub/team/app/blobs/${DIGEST}`, { range: 'bytes=7-99' })).toEqual([
      206,
      BYTES.subarray(7, 100),
    ]);
    expect(await get(`hub/team/app/blobs/${DIGEST}`)).toEqual([200, BYTES]);
    expect(await get(`hub/team/app/_soci/layers/${DIGEST}/files/file`)).toEqual([200, CONTENT]);
    await app[Symbol.asyncDispose]();
    await strangers;
  });
});
