import { PassingFaults } from '../../cache/passing-faults.ts';
import { type Digest, digestAlgorithm, digestOf } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { BlobSource } from './blob-source.ts';
import { parseContentCodings } from '../transport/content-coding.ts';
import { parseContentLength } from './content-range.ts';
import type { ApiResponse, RegistryApi } from '../api/registry-api.ts';
import { readFailure } from '../faults/failed-response.ts';

/** Of an upstream that is overloaded or away. Any other refusal of a HEAD says nothing of the blob: signed URLs are good for GET only. */
const FAILURES: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** Registries do not change what they do with HEAD from one day to the next, but what stands before them fails. */
const HEAD_PAUSES = { firstMs: 60_000, longestMs: 3_600_000 };
const ABSENCE_PAUSES = { firstMs: 1_000, longestMs: 60_000 };

/** Asks an upstream whether it has blobs, and how large they are, without fetching them. */
export class BlobSizes {
  readonly #api: RegistryApi;
  /** What HEAD was last good for, where that was not all: registries without it refuse it always, some of them with 404. */
  readonly #head = new PassingFaults<{ readonly isGoodFor: 'existence' | 'nothing' }>(HEAD_PAUSES);
  /** A HEAD has found a blob: a 404 to one is true. */
  #hasFound = false;
  /** Blobs whose 404 to a HEAD has been true. */
  readonly #absent = new PassingFaults<object>(ABSENCE_PAUSES);

  constructor(api: RegistryApi) {
    this.#api = api;
  }

  /**
   * Size of a blob without its bytes: by HEAD, or by a range of one byte where that is refused or does not tell. `source` is the same blob.
   * @throws as {@link RegistryClient.statBlob}
   */
  async fetch(
    repository: string,
    digest: Digest,
    source: BlobSource,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const head = this.#goodFor === 'all' ? await this.#askHead(repository, digest, signal) : undefined;
    const length = head?.status === 200 ? lengthOf(head, digest) : undefined;
    if (length !== undefined) return length;
    const { range, totalBytes, body } = await this.#confirm(`${repository}@${digest}`, head, () =>
      source.fetch({ start: 0, end: 1 }, signal ?? new AbortController().signal),
    );
    // One byte is read, which keeps the connection; a whole blob is not.
    for await (const _ of body) if (range.end > 1) break;
    return totalBytes;
  }

  /** Resolves if the repository has the blob, whatever its size. @throws as {@link RegistryClient.statBlob} */
  async check(repository: string, digest: Digest, signal: AbortSignal | undefined): Promise<void> {
    const head = this.#goodFor === 'nothing' ? undefined : await this.#askHead(repository, digest, signal);
    if (head?.status === 200) return;
    await this.#confirm(`${repository}@${digest}`, head, async () => {
      const headers = { range: 'bytes=0-0' };
      const path = `${repository}/blobs/${digest}`;
      const response = await this.#api.request({ kind: 'blob', path, repository, headers, signal });
      const { status } = response;
      // 416: a range of an empty blob.
      if ((status < 200 || status >= 300) && status !== 416)
        throw await readFailure(this.#api.upstream, response, 'BLOB_UNKNOWN');
      await response.body.discard();
    });
  }

  get #goodFor(): 'all' | 'existence' | 'nothing' {
    return this.#head.current('')?.isGoodFor ?? 'all';
  }

  async #askHead(repository: string, digest: Digest, signal: AbortSignal | undefined): Promise<ApiResponse> {
    const path = `${repository}/blobs/${digest}`;
    const head = await this.#api.request({ kind: 'blob', method: 'HEAD', path, repository, signal });
    if (head.status === 200) this.#hasFound = true;
    const isConfirmed = this.#hasFound || this.#absent.current(`${repository}@${digest}`) !== undefined;
    const isTold = head.status === 404 && isConfirmed;
    if (isTold || FAILURES.has(head.status))
      throw await readFailure(this.#api.upstream, head, 'BLOB_UNKNOWN');
    await head.body.discard();
    return head;
  }

  /** What a GET says where a HEAD has said too little, and what that means for the next HEAD. */
  async #confirm<T>(blob: string, head: ApiResponse | undefined, get: () => Promise<T>): Promise<T> {
    try {
      const found = await get();
      if (head !== undefined)
        this.#head.note('', { isGoodFor: head.status === 200 ? 'existence' : 'nothing' });
      return found;
    } catch (error) {
      if (head?.status === 404 && isSpandrelError(error, 'BLOB_UNKNOWN', 'NAME_UNKNOWN'))
        this.#absent.note(blob, {});
      throw error;
    }
  }
}

/** The `Content-Length` of the blob itself; servers that do not know what a GET would send say 0. */
function lengthOf({ headers }: ApiResponse, digest: Digest): number | undefined {
  if (parseContentCodings(headers['content-encoding']).length > 0) return undefined;
  const length = parseContentLength(headers['content-length']);
  return length === 0 && digest !== digestOf('', digestAlgorithm(digest)) ? undefined : length;
}
