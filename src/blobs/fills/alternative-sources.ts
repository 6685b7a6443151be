import type { ByteRange } from '../../core/byte-range.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { BlobResponse, BlobSource } from '../../core/sources/blob-source.ts';
import { SourceFault } from './source-fault.ts';

/** More are not kept: the first ones nearly always work. */
const MAX_SOURCES = 4;

/**
 * Sources of one upstream for the same blob: the repositories of the requests that share a fill. If one
 * fails, the next is used, so that no request fails because of the repository in another one.
 */
export class AlternativeSources implements BlobSource {
  readonly #sources: BlobSource[];
  /** Origins of the bytes that arrived. */
  readonly #senders = new Set<string | undefined>();
  #hasUnknownSenders = false;

  constructor(first: BlobSource) {
    this.#sources = [first];
  }

  add(source: BlobSource): void {
    const isKnown =
      source.repositoryKey !== undefined &&
      this.#sources.some(({ repositoryKey }) => repositoryKey === source.repositoryKey);
    if (!isKnown && this.#sources.length < MAX_SOURCES) this.#sources.push(source);
  }

  /** The fill uses bytes of an earlier one. The store does not know which repositories sent them. */
  addUnknownSenders(): void {
    this.#hasUnknownSenders = true;
  }

  get hasUnknownSenders(): boolean {
    return this.#hasUnknownSenders;
  }

  /** True if no repository but `repositoryKey` sent a byte. */
  isOnlyFrom(repositoryKey: string | undefined): boolean {
    return !this.#hasUnknownSenders && [...this.#senders].every((sender) => sender === repositoryKey);
  }

  /** @throws SourceFault if no source sends the range */
  async fetch(range: ByteRange | undefined, signal: AbortSignal, sizeBytes?: number): Promise<BlobResponse> {
    for (;;) {
      const [source] = this.#sources;
      if (source === undefined) throw new Error('there is always a source');
      const { repositoryKey } = source;
      try {
        const response = await source.fetch(range, signal, sizeBytes);
        this.#senders.add(repositoryKey);
        return response;
      } catch (error) {
        if (!isSpandrelError(error) || signal.aborted) throw error;
        if (this.#sources.length < 2) throw new SourceFault(error, (asker) => asker === repositoryKey);
        if (this.#sources[0] === source) this.#sources.shift();
      }
    }
  }
}
