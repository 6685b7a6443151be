import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { BlobLocations } from './blob-locations.ts';
import type { BlobSizes } from './blob-sizes.ts';
import type { BlobResponse, BlobSource } from '../../core/sources/blob-source.ts';
import { type BlobPart, planBlobPart } from './blob-part.ts';
import { formatRange, parseContentRange, parseUnsatisfiedRange } from './content-range.ts';
import type { MeasuredBlobs } from './measured-blobs.ts';
import type { ApiResponse, RegistryApi } from '../api/registry-api.ts';
import { readFailure } from '../faults/failed-response.ts';
import { openWholeBlob } from './whole-blob.ts';

/** Limit for a blob without a length; larger than the layers of any registry. */
const MAX_MEASURED_BYTES = 2 ** 40;
/** More surplus bytes are not read just to keep a connection. */
const MAX_SURPLUS_BYTES = 64 * 1024;
/** Statuses with which registries refuse valid ranges, because they support none, or none of this blob. */
const RANGE_REFUSALS: ReadonlySet<number> = new Set([400, 405, 406, 416, 501]);

/**
 * A blob of a registry. Its redirect is followed once and remembered while its signature is valid. If the
 * response to a range is not usable, the whole blob is requested: every registry sends that, and readers
 * verify its digest.
 */
export class RegistryBlobSource implements BlobSource {
  readonly #api: RegistryApi;
  readonly #locations: BlobLocations;
  readonly #measured: MeasuredBlobs;
  readonly #sizes: Pick<BlobSizes, 'tellSize'>;
  readonly #repository: string;
  readonly #digest: Digest;
  readonly repositoryKey: string;
  readonly upstream: string;

  constructor(
    api: RegistryApi,
    known: {
      readonly locations: BlobLocations;
      readonly measured: MeasuredBlobs;
      readonly sizes: Pick<BlobSizes, 'tellSize'>;
    },
    repository: string,
    digest: Digest,
  ) {
    this.#api = api;
    this.#locations = known.locations;
    this.#measured = known.measured;
    this.#sizes = known.sizes;
    this.#repository = repository;
    this.#digest = digest;
    this.repositoryKey = `${api.upstream}/${repository}`;
    this.upstream = api.upstream;
  }

  async fetch(range: ByteRange | undefined, signal: AbortSignal, sizeBytes?: number): Promise<BlobResponse> {
    if (range !== undefined) {
      const response = await this.#ask(range, signal);
      const found = await this.#ending(response, () => this.#readRange(response, range, signal, sizeBytes));
      if (found !== undefined) return found;
    }
    const response = await this.#ask(undefined, signal);
    const whole = await this.#ending(response, () => this.#readWhole(response, signal, sizeBytes));
    // `undefined` means that the blob has been measured: request it again.
    return whole ?? this.fetch(undefined, signal, sizeBytes);
  }

  /** Reads a response. A body that is not returned must not keep its connection. */
  async #ending(
    response: ApiResponse,
    read: () => Promise<BlobResponse | undefined>,
  ): Promise<BlobResponse | undefined> {
    try {
      const found = await read();
      if (found === undefined) response.body.destroy();
      return found && { ...found, isUnproven: response.isUnproven };
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
    // S3 refuses an expired signature with 403, others with 401. Whatever the reason, ask the registry again.
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

  /** `undefined` if the whole blob should be requested instead. */
  async #readRange(
    response: ApiResponse,
    asked: ByteRange,
    signal: AbortSignal,
    sizeBytes: number | undefined,
  ): Promise<BlobResponse | undefined> {
    const { status, headers, body } = response;
    if (status === 200) return this.#readWhole(response, signal, sizeBytes);
    if (status === 416 && parseUnsatisfiedRange(headers['content-range']) === 0) {
      // An empty blob has no satisfiable range: RFC 9110, section 14.1.2.
      body.destroy();
      return { range: { start: 0, end: 0 }, totalBytes: 0, body: emptyBody() };
    }
    if (RANGE_REFUSALS.has(status)) {
      await body.discard();
      return undefined;
    }
    if (status !== 206) throw await readFailure(this.#api.upstream, response, 'BLOB_UNKNOWN');
    const part = planBlobPart(response, asked, sizeBytes ?? this.#measuredBytes);
    if (part === undefined) return undefined;
    return { range: part.range, totalBytes: part.totalBytes, body: this.#cut(body, part) };
  }

  /** `undefined` if the blob had to be measured. */
  async #readWhole(
    response: ApiResponse,
    signal: AbortSignal,
    sizeBytes: number | undefined,
  ): Promise<BlobResponse | undefined> {
    const { status, headers } = response;
    const isAll = status === 206 && parseContentRange(headers['content-range'])?.range.start === 0;
    if (status === 206 && !isAll) throw this.#wrong('a part that was not requested');
    if (status === 416) throw this.#wrong('416, though no range was requested');
    if (status !== 200 && !isAll) throw await readFailure(this.#api.upstream, response, 'BLOB_UNKNOWN');
    const [{ upstream }, knownBytes] = [this.#api, sizeBytes ?? this.#measuredBytes];
    const { body, ...sent } = await openWholeBlob(response, { upstream, digest: this.#digest, knownBytes });
    const totalBytes = sent.totalBytes ?? (await this.#tellBytes(signal));
    if (totalBytes === undefined) {
      await this.#measure(body);
      return undefined;
    }
    return { range: { start: 0, end: totalBytes }, totalBytes, body: this.#exactly(body, totalBytes) };
  }

  /** The body waits meanwhile: to measure it would cost the upstream all of it once more. */
  async #tellBytes(signal: AbortSignal): Promise<number | undefined> {
    const [repository, digest] = [this.#repository, this.#digest];
    if (!this.#measured.trustsHead(repository, digest)) return undefined;
    const bytes = await this.#sizes.tellSize(repository, digest, signal);
    if (bytes !== undefined) this.#measured.set(repository, digest, bytes);
    return bytes;
  }

  get #measuredBytes(): number | undefined {
    return this.#measured.get(this.#repository, this.#digest);
  }

  /** Reads the blob to its end, because only that tells its length. Keeps no bytes. */
  async #measure(body: AsyncIterable<Buffer>): Promise<void> {
    let bytes = 0;
    for await (const chunk of body) {
      bytes += chunk.byteLength;
      if (bytes > MAX_MEASURED_BYTES) throw this.#wrong(`it does not end within ${MAX_MEASURED_BYTES} bytes`);
    }
    this.#measured.set(this.#repository, this.#digest, bytes);
  }

  /** Cuts the requested part out of a body. Reads a short rest, which keeps the connection. */
  async *#cut(body: AsyncIterable<Buffer>, part: BlobPart): AsyncGenerator<Buffer, void, undefined> {
    const end = part.skippedBytes + rangeLength(part.range);
    let position = 0;
    for await (const chunk of body) {
      const bytes = chunk.subarray(Math.max(0, part.skippedBytes - position), Math.max(0, end - position));
      position += chunk.byteLength;
      if (bytes.byteLength > 0) yield bytes;
      if (position > end && part.surplusBytes > MAX_SURPLUS_BYTES) return;
      if (position > end + part.surplusBytes) return;
    }
    if (position < end) throw this.#wrong(`${position} bytes instead of the ${end} announced`);
  }

  async *#exactly(body: AsyncIterable<Buffer>, bytes: number): AsyncGenerator<Buffer, void, undefined> {
    let received = 0;
    for await (const chunk of body) {
      received += chunk.byteLength;
      if (received > bytes) throw this.#otherLength(`more than its ${bytes} bytes`);
      yield chunk;
    }
    if (received < bytes) throw this.#otherLength(`${received} bytes instead of its ${bytes}`);
  }

  #otherLength(words: string): SpandrelError {
    this.#measured.forget(this.#repository, this.#digest);
    return this.#wrong(words);
  }

  #wrong(words: string): SpandrelError {
    return new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${this.#api.upstream}: blob response: ${words}`);
  }
}

async function* emptyBody(): AsyncGenerator<Buffer, void, undefined> {
  // Nothing to yield.
}
