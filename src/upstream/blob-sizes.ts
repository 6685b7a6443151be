import type { Digest } from '../core/digest.ts';
import type { BlobSource } from './blob-source.ts';
import { parseContentLength } from './content-range.ts';
import type { RegistryApi } from './registry-api.ts';
import { readFailure } from './upstream-failure.ts';

/** HEAD is refused where signed URLs are good for GET only, and by registries that want no token for it (ECR Public). */
const HEAD_REFUSALS: ReadonlySet<number> = new Set([400, 401, 403, 405]);

/** Asks an upstream how large its blobs are. */
export class BlobSizes {
  readonly #api: RegistryApi;
  /** HEAD has been refused for a blob that could be got. */
  #isHeadRefused = false;

  constructor(api: RegistryApi) {
    this.#api = api;
  }

  /**
   * Size of a blob without its bytes: by HEAD, or by a range of one byte where that is refused. `source` is the same blob.
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
      const isPlain = (head.headers['content-encoding'] ?? 'identity') === 'identity';
      const length = isPlain ? parseContentLength(head.headers['content-length']) : undefined;
      if (head.status !== 200 && !HEAD_REFUSALS.has(head.status))
        throw await readFailure(this.#api.upstream, head, 'BLOB_UNKNOWN');
      await head.body.discard();
      if (head.status === 200 && length !== undefined) return length;
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
