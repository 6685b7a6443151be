import { type Digest, digestAlgorithm, digestOf } from '../core/digest.ts';
import type { BlobSource } from './blob-source.ts';
import { parseContentCodings } from './content-coding.ts';
import { parseContentLength } from './content-range.ts';
import type { ApiResponse, RegistryApi } from './registry-api.ts';
import { readFailure } from './upstream-failure.ts';

/** Of an upstream that is overloaded or away. Any other refusal of a HEAD says nothing of the blob: signed URLs are good for GET only. */
const FAILURES: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** Asks an upstream how large its blobs are. */
export class BlobSizes {
  readonly #api: RegistryApi;
  /** HEAD has been refused for a blob that could be got. */
  #isHeadRefused = false;

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
    if (!this.#isHeadRefused) {
      const path = `${repository}/blobs/${digest}`;
      const head = await this.#api.request({ kind: 'blob', method: 'HEAD', path, repository, signal });
      if (FAILURES.has(head.status)) throw await readFailure(this.#api.upstream, head, 'BLOB_UNKNOWN');
      await head.body.discard();
      const length = head.status === 200 ? lengthOf(head, digest) : undefined;
      if (length !== undefined) return length;
    }
    const { range, totalBytes, body } = await source.fetch(
      { start: 0, end: 1 },
      signal ?? new AbortController().signal,
    );
    this.#isHeadRefused = true;
    // One byte is read, which keeps the connection; a whole blob is not.
    for await (const _ of body) if (range.end > 1) break;
    return totalBytes;
  }
}

/** The `Content-Length` of the blob itself; servers that do not know what a GET would send say 0. */
function lengthOf({ headers }: ApiResponse, digest: Digest): number | undefined {
  if (parseContentCodings(headers['content-encoding']).length > 0) return undefined;
  const length = parseContentLength(headers['content-length']);
  return length === 0 && digest !== digestOf('', digestAlgorithm(digest)) ? undefined : length;
}
