import { createHmac, randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';

import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { ScriptedUpstream, type SeenRequest } from './scripted-upstream.ts';
import { noteSecret } from '../secrets.ts';

/** As Amazon ECR says it, private with 403 and public with 400. */
export const EXPIRED_TEXT = 'Your authorization token has expired. Reauthenticate and try again.';

const URL_SECONDS = 3600;

/**
 * The data plane of Amazon ECR as its clients see it: a Basic challenge, manifests without
 * `Docker-Content-Digest`, blobs that are 307 to a second host, whose URLs are presigned for GET, end after
 * an hour, and are refused together with credentials.
 */
export class EcrRegistry implements AsyncDisposable {
  readonly #registry: ScriptedUpstream;
  readonly #storage: ScriptedUpstream;
  readonly #blobs = new Map<string, Buffer>();
  readonly #manifests = new Map<string, Buffer>();
  readonly #key = randomBytes(32);
  /** Base64 of `AWS:password`, as tokens come from the control plane. */
  readonly goodTokens = new Set<string>();
  /** What those get that are not good: the challenge when not given. */
  refusal: { readonly status: number; readonly body: string } | undefined;
  /** Tried before anything else on the registry; returns true if it has answered. */
  intercept: (request: SeenRequest, response: ServerResponse) => boolean = () => false;
  /** Added to the storage's clock. */
  storageAheadMs = 0;

  private constructor(servers: { registry: ScriptedUpstream; storage: ScriptedUpstream }) {
    this.#registry = servers.registry;
    this.#storage = servers.storage;
  }

  static async start(): Promise<EcrRegistry> {
    const registry = await ScriptedUpstream.start((request, response) => ecr.#answer(request, response));
    const storage = await ScriptedUpstream.start((request, response) => ecr.#store(request, response));
    const ecr = new EcrRegistry({ registry, storage });
    return ecr;
  }

  get url(): string {
    return this.#registry.url;
  }

  /** What the registry has been asked for with good credentials. */
  asked(pattern: RegExp): SeenRequest[] {
    return this.#registry.requests.filter((request) => pattern.test(request.url) && this.#isGood(request));
  }

  /** Requests to the registry that were refused for their credentials. */
  get refused(): SeenRequest[] {
    return this.#registry.requests.filter((request) => !this.#isGood(request));
  }

  get stored(): readonly SeenRequest[] {
    return this.#storage.requests;
  }

  addBlob(bytes: Buffer): Digest {
    const digest = digestOf(bytes);
    this.#blobs.set(digest, bytes);
    return digest;
  }

  addManifest(reference: string, bytes: Buffer): void {
    this.#manifests.set(reference, bytes);
  }

  #isGood({ headers }: SeenRequest): boolean {
    return this.goodTokens.has(headers.authorization?.replace(/^Basic /, '') ?? '');
  }

  #answer(request: SeenRequest, response: ServerResponse): void {
    if (this.intercept(request, response)) return;
    if (!this.#isGood(request)) {
      this.#refuse(request, response);
      return;
    }
    const [, kind, reference = ''] = /^\/v2\/[^?]+\/(manifests|blobs)\/([^/?]+)$/.exec(request.url) ?? [];
    const bytes = (kind === 'manifests' ? this.#manifests : this.#blobs).get(reference);
    if (request.url === '/v2/') response.end('{}');
    else if (bytes === undefined) response.writeHead(404).end('{"errors":[{"code":"NAME_UNKNOWN"}]}');
    else if (kind === 'manifests') response.setHeader('content-type', MEDIA_TYPES.ociManifest).end(bytes);
    else if (request.method === 'HEAD') response.setHeader('content-length', bytes.byteLength).end();
    else response.writeHead(307, { location: this.#presign(reference) }).end();
  }

  #refuse({ headers }: SeenRequest, response: ServerResponse): void {
    if (headers.authorization !== undefined && this.refusal !== undefined) {
      response.writeHead(this.refusal.status).end(this.refusal.body);
      return;
    }
    const challenge = `Basic realm="${this.url}/",service="ecr.amazonaws.com"`;
    response.writeHead(401, { 'www-authenticate': challenge }).end('Not Authorized\n');
  }

  #presign(digest: string): string {
    const now = new Date(Date.now() + this.storageAheadMs);
    const query = new URLSearchParams({
      'X-Amz-Date': now.toISOString().replaceAll(/[-:]|\.\d+/g, ''),
      'X-Amz-Expires': String(URL_SECONDS),
      'X-Amz-SignedHeaders': 'host',
      'X-Amz-Signature': this.#sign('GET', digest),
    });
    return `${this.#storage.url}/${digest}?${query.toString()}`;
  }

  #sign(method: string, digest: string): string {
    const signature = createHmac('sha256', this.#key).update(`${method} ${digest}`).digest('hex');
    return noteSecret('signature of a presigned URL', signature);
  }

  #store({ method, url, headers }: SeenRequest, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(url, this.#storage.url);
    const digest = decodeURIComponent(pathname.slice(1));
    const [date = '', time = ''] = (searchParams.get('X-Amz-Date') ?? '').split('T');
    const signed = Date.parse(
      `${date.replace(/(....)(..)(..)/, '$1-$2-$3')}T${time.replace(/(..)(..)(..)/, '$1:$2:$3')}`,
    );
    const isOver = Date.now() + this.storageAheadMs > signed + URL_SECONDS * 1000;
    const bytes = this.#blobs.get(digest);
    if (headers.authorization !== undefined) response.writeHead(400).end('<Code>InvalidArgument</Code>');
    else if (searchParams.get('X-Amz-Signature') !== this.#sign(method, digest) || isOver)
      response.writeHead(403).end('<Code>AccessDenied</Code>');
    else if (bytes === undefined) response.writeHead(404).end();
    else sendRange(bytes, headers.range, response);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#registry[Symbol.asyncDispose]();
    await this.#storage[Symbol.asyncDispose]();
  }
}

function sendRange(bytes: Buffer, range: string | undefined, response: ServerResponse): void {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
  if (first === undefined) {
    response.setHeader('content-length', bytes.byteLength).end(bytes);
    return;
  }
  const end = Math.min(bytes.byteLength, last === undefined || last === '' ? Infinity : Number(last) + 1);
  const headers = { 'content-range': `bytes ${first}-${end - 1}/${bytes.byteLength}` };
  response.writeHead(206, headers).end(bytes.subarray(Number(first), end));
}
