import { createHash } from 'node:crypto';
import { request } from 'node:http';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { expect } from 'vitest';

import type { Digest } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import type { ImageUpstream, UpstreamLayer } from '../upstreams/image-upstream.ts';
import { CONTAINERD, OCI } from '../lazy-app.ts';
import { type ProxyOptions, proxyWith } from '../proxy-with.ts';
import type { RunningApp } from '../running-app.ts';

export const TAR_SPAN_BYTES = 16_384;

/** By a hash of our own. */
export function sha256(bytes: Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
}

/** The layers that hold a tar; `diffId` is what the config says. */
export function gzipped(tar: Buffer, diffId = sha256(tar)): UpstreamLayer {
  return { bytes: gzipSync(tar), diffId };
}

export function zstd(tar: Buffer, diffId = sha256(tar)): UpstreamLayer {
  return { bytes: zstdCompressSync(tar), mediaType: MEDIA_TYPES.ociLayerZstd, diffId };
}

export function plain(tar: Buffer): UpstreamLayer {
  return { bytes: tar, mediaType: MEDIA_TYPES.ociLayer, diffId: sha256(tar) };
}

/** A proxy whose tags answer the inflated form, for layers of any size. It ends with the test. */
export function startInflating(
  upstream: ImageUpstream,
  options: Pick<ProxyOptions, 'root' | 'environment' | 'clock'> = {},
): Promise<RunningApp> {
  const environment = {
    SPANDREL_INDEX_V2_FORM: 'inflated',
    SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
    // A busy machine is slow, and the first response is what the tests want.
    SPANDREL_INDEX_HOLD_MS: '600000',
    SPANDREL_INDEX_INFLATED_SPAN_BYTES: String(TAR_SPAN_BYTES),
    ...options.environment,
  };
  return proxyWith(upstream, { ...options, environment, upstream: { host: 'registry.test' } });
}

export interface ServedDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface ServedManifest {
  readonly config: ServedDescriptor;
  readonly layers: readonly ServedDescriptor[];
  readonly manifests?: readonly ServedDescriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A manifest of `team/app` as containerd gets it. */
export async function pullManifest(
  app: RunningApp,
  reference = 'latest',
  { isMirrored = false, repository = 'team/app', method = 'GET' } = {},
): Promise<{ readonly digest: string; readonly manifest: ServedManifest }> {
  const [prefix, query] = isMirrored ? ['', '?ns=registry.test'] : ['up/', ''];
  const response = await fetch(`${app.url}/v2/${prefix}${repository}/manifests/${reference}${query}`, {
    method,
    headers: { accept: OCI, 'user-agent': CONTAINERD },
  });
  const text = await response.text();
  expect(response.status, `${reference} of ${repository}: ${text}`).toBe(200);
  return {
    digest: response.headers.get('docker-content-digest') ?? '',
    manifest: JSON.parse(text === '' ? '{}' : text) as ServedManifest,
  };
}

export interface BlobResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Buffer;
}

/** A blob of `team/app` as it is on the wire, content coding included. */
export function requestBlob(
  app: RunningApp,
  digest: string,
  headers: Readonly<Record<string, string>> = {},
  { method = 'GET', repository = 'team/app' } = {},
): Promise<BlobResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<BlobResponse>();
  const url = `${app.url}/v2/up/${repository}/blobs/${digest}`;
  const sent = request(url, { method, headers: { ...headers }, agent: false }, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => {
      const { statusCode: status = 0, headers: got } = response;
      resolve({ status, headers: got as BlobResponse['headers'], body: Buffer.concat(chunks) });
    });
  });
  sent.on('error', reject);
  sent.end();
  return promise;
}
