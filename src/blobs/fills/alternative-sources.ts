import type { ByteRange } from '../../core/byte-range.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { BlobResponse, BlobSource } from '../../upstream/blobs/blob-source.ts';

/** More are not remembered; the first ones nearly always do. */
const MAX_SOURCES = 4;

/**
 * Repositories of one upstream that should all have the same blob: those of the requests that share a fill. One that does not give it is
 * left for the next, so that nobody fails for the repository that somebody else has named.
 */
export class AlternativeSources implements BlobSource {
  readonly #sources: BlobSource[];

  constructor(first: BlobSource) {
    this.#sources = [first];
  }

  add(source: BlobSource): void {
    const isKnown =
      source.origin !== undefined && this.#sources.some(({ origin }) => origin === source.origin);
    if (!isKnown && this.#sources.length < MAX_SOURCES) this.#sources.push(source);
  }

  async fetch(range: ByteRange | undefined, signal: AbortSignal, sizeBytes?: number): Promise<BlobResponse> {
    for (;;) {
      const [source] = this.#sources;
      if (source === undefined) throw new Error('there is always a source');
      try {
        return await source.fetch(range, signal, sizeBytes);
      } catch (error) {
        if (!isSpandrelError(error) || signal.aborted || this.#sources.length < 2) throw error;
        if (this.#sources[0] === source) this.#sources.shift();
      }
    }
  }
}
