import { PassingFaults } from '../../cache/passing-faults.ts';
import { type Digest, digestAlgorithm, digestOf } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { BlobSource } from '../../core/sources/blob-source.ts';
import { parseContentCodings } from '../transport/content-coding.ts';
import { parseContentLength } from './content-range.ts';
import type { ApiResponse, RegistryApi } from '../api/registry-api.ts';
import { readFailure } from '../faults/failed-response.ts';

/**
 * Statuses of an overloaded or unreachable upstream. Other refusals of HEAD say nothing about the blob:
 * signed URLs are valid for GET only.
 */
const FAILURES: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** A registry's support of HEAD rarely changes, but gateways before it fail. */
const HEAD_PAUSES = { firstMs: 60_000, longestMs: 3_600_000 };
const ABSENCE_PAUSES = { firstMs: 1_000, longestMs: 60_000 };

/** Asks an upstream whether it has blobs and how large they are, without fetching them. */
export class BlobSizes {
  readonly #api: RegistryApi;
  /**
   * What HEAD last told, unless it told everything. Registries without HEAD always refuse it, some with 404.
   */
  readonly #head = new PassingFaults<{ readonly isGoodFor: 'existence' | 'nothing' }>(HEAD_PAUSES);
  /** A HEAD has found a blob, so a 404 to HEAD is true. */
  #hasFound = false;
  /** Blobs for which a 404 to HEAD was true. */
  readonly #absent = new PassingFaults<object>(ABSENCE_PAUSES);

  constructor(api: RegistryApi) {
    this.#api = api;
  }

  /**
   * Size of a blob in bytes: by HEAD, or by a range of one byte if HEAD is refused or has no length. `source`
   * is the same blob.
   * @throws as {@link RegistryClient.statBlob}
   */
  async fetchSize(
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
    // Reading one byte keeps the connection; a whole blob is not read.
    for await (const _ of body) if (range.end > 1) break;
    return totalBytes;
  }

  /** What HEAD alone says; `undefined` if that is nothing, or if it fails. */
  async tellSize(repository: string, digest: Digest, signal: AbortSignal): Promise<number | undefined> {
    if (this.#goodFor !== 'all') return undefined;
    try {
      const head = await this.#askHead(repository, digest, signal);
      return head.status === 200 ? lengthOf(head, digest) : undefined;
    } catch (error) {
      if (!isSpandrelError(error) || signal.aborted) throw error;
      return undefined;
    }
  }

  /** Resolves if the repository has the blob. @throws as {@link RegistryClient.statBlob} */
  async assertExists(repository: string, digest: Digest, signal: AbortSignal | undefined): Promise<void> {
    const head = this.#goodFor === 'nothing' ? undefined : await this.#askHead(repository, digest, signal);
    if (head?.status === 200) return;
    await this.#confirm(`${repository}@${digest}`, head, async () => {
      const headers = { range: 'bytes=0-0' };
      const path = `${repository}/blobs/${digest}`;
      const response = await this.#api.request({ kind: 'blob', path, repository, headers, signal });
      const { status } = response;
      // 416: the blob is empty.
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

  /** Asks by GET where HEAD was not enough, and records what HEAD is good for. */
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

/** The `Content-Length` of the blob itself. Servers that do not know the length send 0. */
function lengthOf({ headers }: ApiResponse, digest: Digest): number | undefined {
  if (parseContentCodings(headers['content-encoding']).length > 0) return undefined;
  const length = parseContentLength(headers['content-length']);
  return length === 0 && digest !== digestOf('', digestAlgorithm(digest)) ? undefined : length;
}
