import { SpandrelError } from '../../core/errors.ts';
import type { ApiRequest, ApiResponse, RegistryApi } from '../api/registry-api.ts';
import { resolveRedirect } from '../transport/resolve-redirect.ts';
import type { BlobPush } from './push-blob.ts';
import { readPushFailure } from './read-push-failure.ts';

/** Parts of an ECR layer have 5 to 10 MiB; larger requests time out on slow links. */
const CHUNK_BYTES = 8 * 2 ** 20;
/** Statuses of registries that take a blob in one request only. */
const CHUNK_REFUSALS: ReadonlySet<number> = new Set([400, 405, 411, 415, 501]);

/**
 * One blob on its way to a registry: distribution spec, "Pushing blobs". A blob of one chunk goes with the
 * request that ends the upload, a larger one in chunks, or whole if the registry takes none.
 */
export class BlobUpload {
  readonly #api: RegistryApi;
  readonly #blob: BlobPush;
  /** Where the next request goes; `undefined` before the upload has begun. */
  #location: URL | undefined;
  #offset = 0;
  #chunkBytes = CHUNK_BYTES;
  /** Most bytes that the registry has had. */
  farthest = 0;
  /** The upload goes on after a broken request. */
  isResumed = false;

  constructor(api: RegistryApi, blob: BlobPush) {
    this.#api = api;
    this.#blob = blob;
  }

  /** Sends what the registry lacks, and ends the upload. @throws as {@link RegistryClient.pushBlob} */
  async run(): Promise<void> {
    const { bytes } = this.#blob;
    const location = this.#location ?? (await this.#begin());
    if (location === undefined) return;
    this.#location = location;
    while (bytes.byteLength > this.#chunkBytes && this.#offset < bytes.byteLength) await this.#sendChunk();
    await this.#end();
  }

  /** Learns from the registry how much of the upload it has; starts anew if it does not know the upload. */
  async resume(): Promise<void> {
    if (this.#location === undefined) return;
    // A blob of one request has nothing to resume.
    if (this.#blob.bytes.byteLength <= this.#chunkBytes) return this.restart();
    const response = await this.#request({ url: this.#location });
    await response.body.discard();
    const offset = response.status < 300 ? parseOffset(response.headers.range) : undefined;
    // Nothing, or one byte, is not worth keeping: `0-0` does not say which it is.
    if (offset === undefined || offset <= 1 || offset > this.#blob.bytes.byteLength) return this.restart();
    this.#moveTo(response);
    this.#offset = offset;
    this.isResumed = true;
  }

  /** Forgets the upload, which the registry removes in time. */
  restart(): void {
    this.#location = undefined;
    this.#offset = 0;
    this.isResumed = false;
  }

  /** @returns `undefined` if the registry has found the blob elsewhere */
  async #begin(): Promise<URL | undefined> {
    const { repository } = this.#blob;
    const response = await this.#request({ method: 'POST', path: `${repository}/blobs/uploads/` });
    const { status, headers } = response;
    if (status === 201) {
      await response.body.discard();
      return undefined;
    }
    if (status !== 202) throw await readPushFailure(this.#api.upstream, response);
    await response.body.discard();
    const least = Number(headers['oci-chunk-min-length'] ?? 0);
    if (Number.isSafeInteger(least) && least > this.#chunkBytes) this.#chunkBytes = least;
    return resolveRedirect(this.#api.upstream, response.url, headers.location);
  }

  async #sendChunk(): Promise<void> {
    const { bytes } = this.#blob;
    const start = this.#offset;
    const end = Math.min(start + this.#chunkBytes, bytes.byteLength);
    const response = await this.#request({
      method: 'PATCH',
      url: this.#location,
      headers: { ...BINARY, 'content-range': `${start}-${end - 1}` },
      body: bytes.subarray(start, end),
      isRetried: false,
    });
    const { status, headers } = response;
    if (status >= 200 && status < 300) {
      await response.body.discard();
      const had = headers.range === undefined ? end : parseOffset(headers.range);
      if (had === undefined || had <= start || had > end)
        throw this.#protocol(`it has taken bytes ${start}-${end - 1} and names ${headers.range} as its own`);
      this.#moveTo(response);
      this.#offset = had;
      this.farthest = Math.max(this.farthest, had);
      return;
    }
    if (start === 0 && CHUNK_REFUSALS.has(status)) {
      await response.body.discard();
      this.restart();
      this.#chunkBytes = bytes.byteLength;
      this.#location = await this.#begin();
      return;
    }
    const failure = await readPushFailure(this.#api.upstream, response);
    // The upload is at another place than expected, or gone: asking for it tells.
    if (status === 404 || status === 416) throw this.#protocol(failure.message);
    throw failure;
  }

  async #end(): Promise<void> {
    // The registry has found the blob when the upload was begun again.
    if (this.#location === undefined) return;
    const { bytes, digest } = this.#blob;
    const url = new URL(this.#location);
    // The query may be signed: it stays as it is.
    url.search += `${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`;
    const rest = bytes.subarray(this.#offset);
    const response = await this.#request({
      method: 'PUT',
      url,
      headers: BINARY,
      ...(rest.byteLength === 0 ? {} : { body: rest }),
      isRetried: false,
    });
    const { status } = response;
    if (status === 404 || status === 416)
      throw this.#protocol((await readPushFailure(this.#api.upstream, response)).message);
    if (status < 200 || status >= 300) throw await readPushFailure(this.#api.upstream, response);
    await response.body.discard();
  }

  #moveTo({ url, headers }: ApiResponse): void {
    if (headers.location !== undefined)
      this.#location = resolveRedirect(this.#api.upstream, url, headers.location);
  }

  #request(request: Omit<ApiRequest, 'kind' | 'path' | 'repository' | 'signal'> & { path?: string }) {
    const { repository, signal } = this.#blob;
    return this.#api.request({
      kind: 'upload',
      path: '',
      repository,
      access: 'pull,push',
      isVerified: true,
      signal,
      ...request,
    });
  }

  #protocol(words: string): SpandrelError {
    return new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${this.#api.upstream}: upload of a blob: ${words}`,
    );
  }
}

const BINARY = { 'content-type': 'application/octet-stream' };

/** Bytes that the registry has, from `Range: 0-<last>`. Some registries say `0-0` for none, too. */
function parseOffset(header: string | undefined): number | undefined {
  const last = /^(?:bytes=)?0-(\d{1,15})$/.exec(header ?? '')?.[1];
  return last === undefined ? undefined : Number(last) + 1;
}
