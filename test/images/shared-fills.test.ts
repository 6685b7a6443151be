import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

import { expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { image } from '../helpers/images/image.ts';
import { gzipLayer } from '../helpers/upstreams/image-upstream.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

/** Its layer is smaller than the part that readers get only once the digest is verified. */
const CONTENT = randomBlob(40_000, 1);
const LAYER = gzipLayer(tarArchive({ file: CONTENT }));
const DIGEST = digestOf(LAYER.bytes);
const OTHER = gzipLayer(tarArchive({ other: randomBlob(50_000, 2) }));
const IMAGE = image([LAYER, OTHER]);
const SOCI_V1 = encodeURIComponent(MEDIA_TYPES.sociIndexV1);
const REFERRERS = `referrers/${digestOf(IMAGE.manifest)}?artifactType=${SOCI_V1}`;

/**
 * A registry whose three repositories have the same image. `liar` sends other bytes for the first layer: one
 * half at once, or `late`, and the rest after `release`. `honest` sends the right bytes. `poor` lacks that
 * layer.
 */
async function startRegistry(late = false): Promise<ScriptedUpstream & { release: () => void }> {
  const released = Promise.withResolvers<void>();
  const blobs = new Map(IMAGE.blobs.map((bytes) => [digestOf(bytes) as string, bytes]));
  const wrong = Buffer.from(LAYER.bytes.map((byte) => byte ^ 0x5a));
  const sendSlowly = async (response: ServerResponse): Promise<void> => {
    if (late) await released.promise;
    response.writeHead(200, { 'content-length': wrong.length });
    response.write(wrong.subarray(0, wrong.length / 2));
    await Promise.race([released.promise, once(response, 'close')]);
    response.end(wrong.subarray(wrong.length / 2));
  };
  const upstream = await ScriptedUpstream.start(({ method, url }, response) => {
    const [, repository, kind, reference = ''] = /^\/v2\/(\w+)\/(blobs|manifests)\/(.+)$/.exec(url) ?? [];
    const bytes = kind === 'manifests' ? IMAGE.manifest : blobs.get(reference);
    if (kind === undefined || bytes === undefined || (repository === 'poor' && reference === DIGEST))
      return void response.writeHead(404).end();
    if (method === 'GET' && repository === 'liar' && reference === DIGEST) return void sendSlowly(response);
    const contentType = kind === 'manifests' ? IMAGE.mediaType : MEDIA_TYPES.octetStream;
    response.writeHead(200, { 'content-length': bytes.length, 'content-type': contentType });
    response.end(method === 'HEAD' ? undefined : bytes);
  });
  return Object.assign(upstream, { release: released.resolve });
}

async function get(app: RunningApp, path: string): Promise<{ status: number; body: Buffer }> {
  const response = await fetch(`${app.url}/v2/registry/${path}`);
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) };
}

/** Ask for `path` while `liar` sends the layer, which it ends when the request has joined the fill. */
async function askBehindLiar(
  path: string,
  late = false,
): Promise<{ status: number; body: Buffer; sent: readonly string[] }> {
  await using upstream = await startRegistry(late);
  await using app = await proxyWith(upstream, {
    upstream: { name: 'registry' },
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_UPSTREAM_RETRIES: '0' },
  });
  const blobs = (): string[] =>
    upstream.requests.filter(isLayerGet).map(({ url }) => url.split('/')[2] ?? '');
  const lied = get(app, `liar/blobs/${DIGEST}`).catch(() => undefined);
  await vi.waitFor(() => expect(blobs()).toEqual(['liar']));
  const joined = async (): Promise<number> =>
    (await app.metric('spandrel_single_flight_joined_total{what="blob"}')) +
    (await app.metric('spandrel_single_flight_joined_total{what="index"}'));
  const before = await joined();
  const asked = get(app, path);
  await vi.waitFor(async () => expect(await joined()).toBeGreaterThan(before));
  upstream.release();
  const answer = await asked;
  await lied;
  return { ...answer, sent: blobs() };
}

function isLayerGet({ method, url }: { readonly method: string; readonly url: string }): boolean {
  return method === 'GET' && url.endsWith(DIGEST);
}

it.each([
  ['the whole blob', `blobs/${DIGEST}`, LAYER.bytes],
  ['a file of it', `_soci/layers/${DIGEST}/files/file`, CONTENT],
])(
  '%s is right for a repository that has joined the fill of one that sends other bytes',
  async (_, path, wanted) => {
    const { status, body, sent } = await askBehindLiar(`honest/${path}`);
    expect(status).toBe(200);
    expect(body.equals(wanted)).toBe(true);
    expect(sent).toEqual(['liar', 'honest']);
  },
);

it('a repository without the layer has a SOCI index without it, though it joined a wrong fill', async () => {
  const { status, body } = await askBehindLiar(`poor/${REFERRERS}`, true);
  expect([status, body.toString()]).toEqual([200, expect.stringContaining('"digest"')]);
});

it('a repository without the layer gets a 404, though it has joined a fill of other bytes', async () => {
  const { status } = await askBehindLiar(`poor/blobs/${DIGEST}`, true);
  expect(status).toBe(404);
});

it('a repository that sends other bytes gets BLOB_CORRUPT, and is asked for them once', async () => {
  await using upstream = await startRegistry();
  await using app = await proxyWith(upstream, { upstream: { name: 'registry' } });
  upstream.release();
  const { status, body } = await get(app, `liar/_soci/layers/${DIGEST}/files/file`);
  expect([status, body.toString()]).toEqual([502, expect.stringContaining('BLOB_CORRUPT')]);
  expect(upstream.requests.filter(isLayerGet).length).toBe(1);
});
