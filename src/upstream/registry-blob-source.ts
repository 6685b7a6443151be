import type { ByteRange } from '../core/byte-range.ts';
import { rangeLength } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import type { BlobLocations } from './blob-locations.ts';
import type { BlobResponse, BlobSource } from './blob-source.ts';
import {
  formatRange,
  parseContentLength,
  parseContentRange,
  parseUnsatisfiedRange,
} from './content-range.ts';
import type { ApiResponse, RegistryApi } from './registry-api.ts';
import { readFailure } from './upstream-failure.ts';

/** A blob of a registry. Its redirect is followed once and remembered while its signature holds. */
export class RegistryBlobSource implements BlobSource {
  readonly #api: RegistryApi;
  readonly #locations: BlobLocations;
  readonly #repository: string;
  readonly #digest: Digest;
  readonly origin: string;

  constructor(api: RegistryApi, locations: BlobLocations, repository: string, digest: Digest) {
    this.#api = api;
    this.#locations = locations;
    this.#repository = repository;
    this.#digest = digest;
    this.origin = `${api.upstream}/${repository}`;
  }

  async fetch(range: ByteRange | undefined, signal: AbortSignal): Promise<BlobResponse> {
    const response = await this.#ask(range, signal);
    if (isRefusedStart(response, range)) {
      await response.body.discard();
      return this.fetch(undefined, signal);
    }
    try {
      return await this.#check(response, range);
    } catch (error) {
      response.body.destroy();
      throw error;
    }
  }

  async #ask(range: ByteRange | undefined, signal: AbortSignal): Promise<ApiResponse> {
    const headers: Record<string, string> = {
      accept: '*/*',
      ...(range === undefined ? {} : { range: formatRange(range) }),
    };
    const [repository, digest] = [this.#repository, this.#digest];
    const ask = (): Promise<ApiResponse> => this.#askRegistry(headers, signal);
    const found = await this.#locations.find(repository, digest, signal, ask);
    if (!(found instanceof URL)) return found;
    const response = await this.#api.requestUrl(found, { kind: 'blob', headers, signal });
    const { status } = response;
    if (status < 300 || status === 416 || status === 429 || status >= 500) return response;
    // A signature that has ended gives 403 on S3, 401 elsewhere; whatever else it may be, the registry knows better.
    this.#locations.forget(repository, digest, found);
    await response.body.discard();
    const renewed = await this.#locations.find(repository, digest, signal, ask);
    return renewed instanceof URL
      ? this.#api.requestUrl(renewed, { kind: 'blob', headers, signal })
      : renewed;
  }

  async #askRegistry(headers: Record<string, string>, signal: AbortSignal): Promise<ApiResponse> {
    const response = await this.#api.request({
      kind: 'blob',
      path: `${this.#repository}/blobs/${this.#digest}`,
      repository: this.#repository,
      headers,
      signal,
    });
    if (response.status === 200 || response.status === 206) {
      const url = this.#api.isOwn(response.url) ? undefined : response.url;
      this.#locations.set(this.#repository, this.#digest, url);
    }
    return response;
  }

  async #check(response: ApiResponse, asked: ByteRange | undefined): Promise<BlobResponse> {
    const { status, headers, body } = response;
    if (status === 416 && parseUnsatisfiedRange(headers['content-range']) === 0) {
      // No range of an empty blob can be satisfied: RFC 9110, section 14.1.2.
      body.destroy();
      return { range: { start: 0, end: 0 }, totalBytes: 0, body: emptyBody() };
    }
    if (status === 416) throw this.#wrong('the range lies outside of the blob');
    if (status !== 200 && status !== 206)
      throw await readFailure(this.#api.upstream, response, 'BLOB_UNKNOWN');
    if ((headers['content-encoding'] ?? 'identity') !== 'identity')
      throw this.#wrong('the blob is encoded, which nobody asked for');
    const length = parseContentLength(headers['content-length']);
    if (status === 200) {
      if (length === undefined) throw this.#wrong('no Content-Length');
      return { range: { start: 0, end: length }, totalBytes: length, body: this.#exactly(body, length) };
    }
    const content = parseContentRange(headers['content-range']);
    if (asked === undefined || content === undefined)
      throw this.#wrong('a part that was not asked for, or does not say which');
    const { range, totalBytes } = content;
    if (range.start !== asked.start || range.end !== Math.min(asked.end, totalBytes))
      throw this.#wrong('another range than the one asked for');
    if (length !== undefined && length !== rangeLength(range))
      throw this.#wrong('Content-Length and Content-Range contradict each other');
    return { range, totalBytes, body: this.#exactly(body, rangeLength(range)) };
  }

  async *#exactly(body: AsyncIterable<Buffer>, bytes: number): AsyncGenerator<Buffer, void, undefined> {
    let received = 0;
    for await (const chunk of body) {
      received += chunk.byteLength;
      if (received > bytes) throw this.#wrong(`more than the ${bytes} bytes announced`);
      yield chunk;
    }
    if (received < bytes) throw this.#wrong(`${received} bytes instead of the ${bytes} announced`);
  }

  #wrong(words: string): SpandrelError {
    return new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${this.#api.upstream}: blob answer: ${words}`);
  }
}

/** A first range that ends behind the blob is refused by some registries, where RFC 9110, section 14.1.2, has them cut it. */
function isRefusedStart({ status, headers }: ApiResponse, range: ByteRange | undefined): boolean {
  return (
    status === 416 && range?.start === 0 && parseUnsatisfiedRange(headers['content-range']) === undefined
  );
}

async function* emptyBody(): AsyncGenerator<Buffer, void, undefined> {
  // Nothing to yield.
}
