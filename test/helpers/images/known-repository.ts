import { createHash, randomBytes } from 'node:crypto';

import type { Digest } from '../../../src/core/digest.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { ScriptedRegistry, type ScriptedRegistryOptions } from '../../registry/scripted-registry.ts';
import { RunningApp } from '../running-app.ts';

export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
const EMPTY = Buffer.from('{}');

/** An answer with its body read. */
export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
}

/**
 * The proxy in front of a registry whose repository `team/app` has a small image, tag `1.0`, and what a test
 * adds.
 */
export class KnownRepository implements AsyncDisposable {
  readonly upstream: ScriptedRegistry;
  readonly app: RunningApp;
  /** The image's only layer: no archive, 1,500 bytes. */
  readonly blob: Buffer;
  readonly blobDigest: Digest;
  readonly manifest: Buffer;
  readonly manifestDigest: Digest;

  private constructor(
    parts: Pick<KnownRepository, 'upstream' | 'app' | 'blob' | 'blobDigest' | 'manifest' | 'manifestDigest'>,
  ) {
    this.upstream = parts.upstream;
    this.app = parts.app;
    this.blob = parts.blob;
    this.blobDigest = parts.blobDigest;
    this.manifest = parts.manifest;
    this.manifestDigest = parts.manifestDigest;
  }

  static async start(
    options: ScriptedRegistryOptions & { readonly environment?: Readonly<Record<string, string>> } = {},
  ): Promise<KnownRepository> {
    const { environment = {}, ...registryOptions } = options;
    const upstream = await ScriptedRegistry.start(registryOptions);
    const blob = randomBytes(1500);
    const blobDigest = await upstream.addBlob('team/app', new Uint8Array(blob));
    await upstream.addBlob('team/app', new Uint8Array(EMPTY));
    const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: blobDigest, size: 1500 };
    const manifest = manifestBytes({ layers: [layer] });
    const manifestDigest = upstream.addManifest('team/app', '1.0', manifest, OCI_MANIFEST);
    const app = await RunningApp.start({
      upstreams: [
        { name: 'known', host: 'registry.example.com', url: upstream.url, default: true },
        { name: 'other', host: 'other.example.com', url: 'http://127.0.0.1:9' },
      ],
      environment: { SPANDREL_UPSTREAM_RETRIES: '0', ...environment },
    });
    return new KnownRepository({ upstream, app, blob, blobDigest, manifest, manifestDigest });
  }

  /** A manifest whose subject is the image. @returns its digest */
  addReferrer(artifactType: string, annotations: Record<string, string> = {}): Digest {
    const subject = { mediaType: OCI_MANIFEST, digest: this.manifestDigest, size: this.manifest.length };
    const bytes = manifestBytes({ artifactType, subject, annotations });
    return this.upstream.addManifest('team/app', digestOf(bytes), bytes, OCI_MANIFEST);
  }

  /** Ask the proxy. @param path below `/v2/team/app/` unless it begins with a slash */
  async ask(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answered> {
    const url = `${this.app.url}${path.startsWith('/') ? path : `/v2/team/app/${path}`}`;
    const response = await fetch(url, { method, headers: { 'accept-encoding': 'identity', ...headers } });
    const { status, headers: answered } = response;
    return { status, headers: answered, body: Buffer.from(await response.arrayBuffer()) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.app[Symbol.asyncDispose]();
    await this.upstream[Symbol.asyncDispose]();
  }
}

/** An image manifest with an empty config. */
export function manifestBytes(fields: object): Buffer {
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(EMPTY), size: 2 };
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [], ...fields }),
  );
}

/** Code of an OCI error body, whose form is checked. */
export function errorCode({ headers, body }: Answered): string {
  if (headers.get('content-type') !== 'application/json') throw new Error('an error body is JSON');
  const { errors } = JSON.parse(body.toString()) as { errors: { code: string; message: string }[] };
  const [error] = errors;
  if (error === undefined || !/^[A-Z_]+$/.test(error.code) || typeof error.message !== 'string')
    throw new Error(`no OCI error: ${body.toString()}`);
  return error.code;
}

export function sha512(bytes: Uint8Array): Digest {
  return `sha512:${createHash('sha512').update(bytes).digest('hex')}` as Digest;
}
