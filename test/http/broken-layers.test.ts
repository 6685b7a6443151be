import { gzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { writeTar } from '../../src/tar/write-tar.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { addImage, image } from '../helpers/images/image.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import type { RunningApp } from '../helpers/running-app.ts';

let upstream: ScriptedRegistry;
let app: RunningApp;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  app = await proxyWith(upstream, {
    upstream: { name: 'demo' },
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_LIMITS_MAX_UNCOMPRESSED_BYTES: '64MiB',
      SPANDREL_UPSTREAM_RETRIES: '0',
    },
  });
});

function noise(bytes: number): Buffer {
  const random = seededRandom(1);
  return Buffer.from(Array.from({ length: bytes }, () => Math.floor(random() * 256)));
}

/** Push an image with one layer. @returns the digests of both */
async function push(layer: Buffer): Promise<{ manifest: Digest; layer: Digest }> {
  const digest = digestOf(layer);
  const manifest = await addImage(upstream, 'app', image([{ bytes: layer, diffId: digest }]), 'latest');
  return { manifest, layer: digest };
}

async function get(path: string): Promise<{ status: number; code: string | undefined; body: Buffer }> {
  const response = await fetch(`${app.url}/v2/demo/app/${path}`);
  const body = Buffer.from(await response.arrayBuffer());
  const code = response.ok
    ? undefined
    : (JSON.parse(body.toString()) as { errors: { code: string }[] }).errors[0]?.code;
  return { status: response.status, code, body };
}

async function stateOf(layer: Digest): Promise<unknown> {
  return JSON.parse((await get(`_soci/layers/${layer}`)).body.toString());
}

/** The image is pulled like any other, whatever is wrong with its layer. */
async function expectPullable(layer: Buffer, digest: Digest): Promise<void> {
  expect((await get('manifests/latest')).status).toBe(200);
  const blob = await get(`blobs/${digest}`);
  expect(blob.status).toBe(200);
  expect(blob.body.equals(layer)).toBe(true);
}

describe('a layer at fault', () => {
  it('that is cut short is told on its own routes, and leaves the image pullable', async () => {
    const layer = gzipSync(noise(300_000)).subarray(0, 200_000);
    const { layer: digest, manifest } = await push(layer);
    await expectPullable(layer, digest);
    const spans = await get(`_soci/layers/${digest}/spans`);
    expect(JSON.parse(spans.body.toString())).toMatchObject({ incomplete: 'LAYER_CORRUPT' });
    expect(await get(`_soci/layers/${digest}/files/x`)).toMatchObject({ status: 422, code: 'LAYER_CORRUPT' });
    expect(await stateOf(digest)).toMatchObject({ state: 'readable', reason: 'LAYER_CORRUPT' });
    const referrers = JSON.parse((await get(`referrers/${manifest}`)).body.toString()) as {
      manifests: unknown[];
    };
    expect(referrers.manifests).toEqual([]);
    await expectPullable(layer, digest);
  });

  it('that is no tar can be read, but has no index', async () => {
    const content = noise(100_000);
    const layer = gzipSync(content);
    const { layer: digest, manifest } = await push(layer);
    await expectPullable(layer, digest);
    expect((await get(`_soci/layers/${digest}/tar`)).body.equals(content)).toBe(true);
    expect((await get(`_soci/layers/${digest}/spans`)).status).toBe(200);
    expect(await stateOf(digest)).toMatchObject({ state: 'readable', reason: 'TAR_INVALID' });
    expect(JSON.parse((await get(`referrers/${manifest}`)).body.toString())).toMatchObject({ manifests: [] });
    expect(await app.metric('spandrel_index_layers_skipped_total{reason="TAR_INVALID"}')).toBe(1);
  });

  it('that is too small for an index is counted, and named if the image has no other', async () => {
    const proxy = await proxyWith(upstream, {
      upstream: { name: 'demo' },
      environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '1MiB' },
    });
    const { layer, manifest } = await push(gzipSync(noise(50_000)));
    const url = `${proxy.url}/v2/demo/app`;
    const referrers = await fetch(`${url}/referrers/${manifest}`);
    expect(await referrers.json()).toMatchObject({ manifests: [] });
    expect(await proxy.metric('spandrel_index_layers_skipped_total{reason="too_small"}')).toBe(1);
    const described = await fetch(`${url}/_soci/images/latest`);
    expect(await described.json()).toMatchObject({
      platforms: [{ layers: [{ digest: layer, skipped: 'too_small', minLayerBytes: 2 ** 20 }] }],
    });
  });

  it('that zeros follow can be read, as gzip reads it, but has no index, as with soci', async () => {
    const content = noise(50_000);
    const tar = Buffer.concat([
      ...writeTar([{ path: 'file', type: 'file', size: content.length, content: [content] }]),
    ]);
    const layer = Buffer.concat([gzipSync(tar), Buffer.alloc(1000)]);
    const { layer: digest } = await push(layer);
    await expectPullable(layer, digest);
    expect((await get(`_soci/layers/${digest}/tar`)).body.equals(tar)).toBe(true);
    expect((await get(`_soci/layers/${digest}/files/file`)).body).toEqual(content);
    expect((await get(`_soci/layers/${digest}/spans`)).status).toBe(200);
    expect(await stateOf(digest)).toMatchObject({ state: 'readable', reason: 'INDEX_UNMOUNTABLE' });
  });

  it('that inflates to more than is allowed is refused, its blob is not', async () => {
    const layer = gzipSync(Buffer.alloc(65 * 2 ** 20));
    const { layer: digest } = await push(layer);
    await expectPullable(layer, digest);
    expect(await get(`_soci/layers/${digest}/spans`)).toMatchObject({ status: 422, code: 'LAYER_TOO_LARGE' });
    await expectPullable(layer, digest);
  });

  it('with bytes of another digest never ends cleanly, and is right once the upstream is', async () => {
    const layer = gzipSync(noise(300_000));
    const { layer: digest } = await push(layer);
    upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'corrupt', atByte: 1000 } });
    expect((await get('manifests/latest')).status).toBe(200);
    await expect(
      fetch(`${app.url}/v2/demo/app/blobs/${digest}`).then((response) => response.arrayBuffer()),
    ).rejects.toThrow(/terminated|aborted|socket/);
    expect(await get(`_soci/layers/${digest}/spans`)).toMatchObject({
      status: 502,
      code: 'BLOB_CORRUPT',
    });
    upstream.faults.clear();
    await expectPullable(layer, digest);
    expect((await get(`_soci/layers/${digest}/spans`)).status).toBe(200);
  });

  it('of a manifest that is none of the upstream is not there', async () => {
    await push(gzipSync(noise(1000)));
    const missing = digestOf('missing');
    expect(await get(`blobs/${missing}`)).toMatchObject({ status: 404, code: 'BLOB_UNKNOWN' });
    expect(await get(`manifests/${missing}`)).toMatchObject({ status: 404, code: 'MANIFEST_UNKNOWN' });
    expect(await get(`_soci/layers/${missing}/tar`)).toMatchObject({ status: 404, code: 'BLOB_UNKNOWN' });
    expect(JSON.parse((await get(`referrers/${missing}`)).body.toString())).toMatchObject({ manifests: [] });
  });
});
