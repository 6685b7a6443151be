import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { EcrRegistry } from '../helpers/upstreams/ecr-registry.ts';
import { MotoServer, motoToken } from '../helpers/upstreams/moto-server.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import type { RunningApp } from '../helpers/running-app.ts';

const HOST = '123456789012.dkr.ecr.eu-west-1.amazonaws.com';
const LAYER = randomBlob(3_000_000, 20261121);
const CONFIG = Buffer.from('{"architecture":"amd64","os":"linux"}');
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(CONFIG),
      size: CONFIG.length,
    },
    layers: [{ mediaType: MEDIA_TYPES.octetStream, digest: digestOf(LAYER), size: LAYER.length }],
  }),
);

let registry: EcrRegistry;
let app: RunningApp;

beforeEach(async () => {
  const moto = cleanup.use(await MotoServer.start());
  setAwsEnvironment(STATIC_KEYS);
  registry = cleanup.use(await EcrRegistry.start());
  registry.goodTokens.add(motoToken('123456789012'));
  registry.addBlob(LAYER);
  registry.addBlob(CONFIG);
  registry.addManifest('1.0', MANIFEST);
  registry.addManifest(digestOf(MANIFEST), MANIFEST);
  app = await proxyWith(registry, {
    upstream: { name: 'ecr', host: HOST, auth: { kind: 'ecr', endpoint: moto.url } },
    environment: { SPANDREL_FILL_CHUNK_BYTES: '64KiB', SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '2' },
  });
});

afterEach(async () => {
  vi.unstubAllEnvs();
});

async function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${app.url}/v2/team/app/${path}`, { headers });
}

describe('in front of ECR', () => {
  it('many concurrent pulls from ECR cause one request for each part of an image', async () => {
    const pulls = Array.from({ length: 20 }, async () => {
      const manifest = await get('manifests/1.0', { accept: MEDIA_TYPES.ociManifest });
      expect(await manifest.text()).toBe(MANIFEST.toString());
      const layer = Buffer.from(await (await get(`blobs/${digestOf(LAYER)}`)).arrayBuffer());
      expect(layer.equals(LAYER)).toBe(true);
    });
    await Promise.all(pulls);
    expect(registry.asked(/blobs/).filter(({ method }) => method === 'GET')).toHaveLength(1);
    // 3,000,000 bytes in chunks of 64 KiB, which the storage sends; each once.
    expect(registry.stored.length).toBe(Math.ceil(LAYER.length / 65_536));
    expect(
      await app.metric('spandrel_upstream_requests_total{upstream="ecr",kind="token",outcome="ok"}'),
    ).toBe(1);
  });

  it('pulled images are served without delay while ECR throttles or is down', async () => {
    await (await get('manifests/1.0', { accept: MEDIA_TYPES.ociManifest })).text();
    await (await get(`blobs/${digestOf(LAYER)}`)).arrayBuffer();
    for (const [status, retryAfter] of [
      [429, '60'],
      [503, '60'],
    ] as const) {
      registry.intercept = (_request, response) => {
        response
          .writeHead(status, { 'retry-after': retryAfter })
          .end('{"errors":[{"code":"TOOMANYREQUESTS"}]}');
        return true;
      };
      const manifest = await get('manifests/1.0', { accept: MEDIA_TYPES.ociManifest });
      expect([manifest.status, await manifest.text()]).toEqual([200, MANIFEST.toString()]);
      const layer = await get(`blobs/${digestOf(LAYER)}`, { range: 'bytes=5-9' });
      expect(Buffer.from(await layer.arrayBuffer()).equals(LAYER.subarray(5, 10))).toBe(true);
    }
  });
});
