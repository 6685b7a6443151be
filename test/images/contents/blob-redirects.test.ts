import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it, vi } from 'vitest';

import type { Digest } from '../../../src/core/digest.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { gzipped, pullManifest, requestBlob, sha256 } from '../../helpers/images/inflated-image.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { member, tarOf } from '../../helpers/layers/tar-members.ts';
import { runProgram } from '../../helpers/programs.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { noteSecret } from '../../helpers/secrets.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../../helpers/upstreams/aws-environment.ts';
import { ContainerdDaemon } from '../../helpers/upstreams/containerd-daemon.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import { MotoBucket } from '../../helpers/upstreams/moto-bucket.ts';
import { ScriptedRegistry } from '../../registry/scripted-registry.ts';

const TAR = tarOf(member({ name: 'noise', data: Buffer.from(randomBlob(300_000, 9)) }));
const LAYER = gzipped(TAR);

let bucket: MotoBucket;
let upstream: ImageUpstream;
let layer: Digest;
/** The layer is in its bucket. */
let app: RunningApp;

beforeAll(async () => {
  setAwsEnvironment(STATIC_KEYS);
  bucket = cleanup.use(await MotoBucket.start());
  upstream = cleanup.use(await ImageUpstream.start());
  [layer = layer] = await upstream.addImage('team/app', [LAYER]);
  await upstream.addImage('team/other', [gzipped(tarOf())]);
  app = cleanup.use(await start());
  await pullOnce();
});

function start(environment: Readonly<Record<string, string>> = {}): Promise<RunningApp> {
  return proxyWith(upstream, {
    environment: {
      SPANDREL_STORAGE_S3_BUCKET: bucket.name,
      SPANDREL_STORAGE_S3_ENDPOINT: bucket.url,
      SPANDREL_REDIRECT_BLOBS: 'whole',
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_HOLD_MS: '600000',
      ...environment,
    },
  });
}

/** Pulls the layer, and waits until it is in the bucket. */
async function pullOnce(): Promise<void> {
  expect(sha256((await requestBlob(app, layer, { range: 'bytes=0-' })).body)).toBe(layer);
  const copied = async (): Promise<void> => {
    expect(await bucket.names('blobs/')).toContain(`blobs/${layer.replace(':', '/')}`);
    expect(await app.metric('spandrel_durable_queue_length{kind="blob"}')).toBe(0);
  };
  await vi.waitFor(copied, { timeout: 20_000 });
}

const redirects = (): Promise<number> =>
  app.metric('spandrel_http_requests_total{route="blob",method="GET",status="307"}');

describe('with redirect.blobs: whole', () => {
  it('a whole blob that the bucket has is read from there', async () => {
    const { status, headers, body } = await requestBlob(app, layer);
    expect([status, body.byteLength, headers['docker-content-digest']]).toEqual([307, 0, layer]);
    // The URL is valid for minutes, and must not be in any log.
    expect(headers['cache-control']).toBe('no-store');
    const { searchParams } = new URL(headers['location'] ?? '');
    noteSecret('signature of a URL', searchParams.get('X-Amz-Signature') ?? '');
    const content = await fetch(headers['location'] ?? '');
    expect(sha256(Buffer.from(await content.arrayBuffer()))).toBe(layer);
  });

  it('parts and sizes come from the proxy', async () => {
    const part = await requestBlob(app, layer, { range: 'bytes=5-104' });
    expect([part.status, part.body.equals(LAYER.bytes.subarray(5, 105))]).toEqual([206, true]);
    expect((await requestBlob(app, layer, {}, { method: 'HEAD' })).status).toBe(200);
  });

  it.each([
    'soci-snapshotter/0.11',
    'containerd-stargz-grpc/v0.18',
    'nydus-snapshotter/v0.15',
    'Nydusd/2.3',
    'overlaybd/1.0',
  ])('%s reads from the proxy', async (agent) => {
    const lazy = await requestBlob(app, layer, { 'user-agent': agent });
    expect([lazy.status, sha256(lazy.body)]).toEqual([200, layer]);
  });

  it('layers that are named by their diffID come from the proxy', async () => {
    const inflating = await start({ SPANDREL_INDEX_V2_FORM: 'inflated' });
    const { manifest } = await pullManifest(inflating);
    expect(manifest.layers.map(({ digest }) => digest)).toEqual([sha256(TAR)]);
    const tar = await requestBlob(inflating, sha256(TAR));
    expect([tar.status, sha256(tar.body)]).toEqual([200, sha256(TAR)]);
  });

  it('a repository that does not have the blob gets none', async () => {
    const { status } = await requestBlob(app, layer, {}, { repository: 'team/other' });
    expect(status).toBe(404);
  });

  it('a client that may not read gets no URL', async () => {
    const closed = await start({ SPANDREL_ACCESS_CIDRS: '["192.0.2.0/24"]' });
    const { status, headers } = await requestBlob(closed, layer);
    expect([status, headers['location']]).toEqual([403, undefined]);
  });

  it('a blob that the bucket does not have comes from the proxy', async () => {
    const empty = await start({ SPANDREL_STORAGE_S3_PREFIX: 'empty/' });
    const { status, body } = await requestBlob(empty, layer);
    expect([status, sha256(body)]).toEqual([200, layer]);
  });

  it('skopeo pulls the image from the bucket', async () => {
    const before = await redirects();
    const folder = await temporaryFolder();
    const image = `docker://${new URL(app.url).host}/up/team/app:latest`;
    await runProgram('skopeo', ['copy', '--src-tls-verify=false', image, `dir:${folder}`]);
    expect(sha256(await readFile(join(folder, layer.slice('sha256:'.length))))).toBe(layer);
    expect(await redirects()).toBeGreaterThan(before);
  });

  it('containerd fetches the image from the bucket', async () => {
    const before = await redirects();
    await using containerd = await ContainerdDaemon.start();
    const image = `${new URL(app.url).host}/up/team/app:latest`;
    await containerd.ctr('content', 'fetch', '--plain-http', '--all-platforms', image);
    expect(await containerd.ctr('content', 'ls', '-q')).toContain(layer);
    expect(await redirects()).toBeGreaterThan(before);
  });

  it('without a bucket, the URL that the upstream has signed for the proxy is used', async () => {
    const registry = cleanup.use(await ScriptedRegistry.start({ redirectBlobs: true }));
    await registry.addBlob('team/app', new Uint8Array(LAYER.bytes));
    const proxy = await proxyWith(registry, { environment: { SPANDREL_REDIRECT_BLOBS: 'whole' } });
    const first = await requestBlob(proxy, layer);
    expect([first.status, sha256(first.body)]).toEqual([200, layer]);
    const second = await requestBlob(proxy, layer);
    expect(second.status).toBe(307);
    const content = await fetch(second.headers['location'] ?? '');
    expect(sha256(Buffer.from(await content.arrayBuffer()))).toBe(layer);
  });
});

it('without redirect.blobs no blob is redirected', async () => {
  const proxy = await start({ SPANDREL_REDIRECT_BLOBS: 'never' });
  expect((await requestBlob(proxy, layer)).status).toBe(200);
  expect((await requestBlob(proxy, layer)).status).toBe(200);
});
