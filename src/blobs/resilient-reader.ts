import type { ByteRange } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import type { BlobHandle, BlobReader, FileRange } from './blob-handle.ts';
import type { PassThrough } from './pass-through.ts';
import { assertRangeWithin } from './read-file-range.ts';

export interface ResilientReaderOptions {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** None if the store cannot take the blob. */
  readonly handle: BlobHandle | undefined;
  readonly passThrough: PassThrough;
  /** The store has failed under an open handle. Returns another handle where that may help. */
  readonly onStoreFault: (failed: BlobHandle, error: Error) => Promise<BlobHandle | undefined>;
}

/** Reads a blob from the store as long as that can, and from the upstream where it cannot. */
export class ResilientReader implements BlobReader {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #options: ResilientReaderOptions;
  readonly #handles: BlobHandle[];

  constructor(options: ResilientReaderOptions) {
    this.digest = options.digest;
    this.sizeBytes = options.sizeBytes;
    this.#options = options;
    this.#handles = options.handle === undefined ? [] : [options.handle];
  }

  get source(): BlobReader['source'] {
    return this.#options.handle?.source ?? 'upstream';
  }

  read(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    return this.#stream(range, 'read', signal);
  }

  lend(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    return this.#stream(range, 'lend', signal);
  }

  async locate(range: ByteRange, signal?: AbortSignal): Promise<FileRange | undefined> {
    try {
      return await this.#options.handle?.locate(range, signal);
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED')) throw error;
      return undefined;
    }
  }

  async *#stream(
    range: ByteRange,
    way: 'read' | 'lend',
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    assertRangeWithin(range, this.sizeBytes);
    const { passThrough, onStoreFault } = this.#options;
    let position = range.start;
    let last: BlobHandle | undefined;
    for (let handle = this.#options.handle; handle !== undefined;) {
      last = handle;
      try {
        const rest = { start: position, end: range.end };
        for await (const bytes of handle[way](rest, signal)) {
          position += bytes.byteLength;
          yield bytes;
        }
        return;
      } catch (error) {
        if (!isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED')) throw error;
        handle = await onStoreFault(handle, error);
        if (handle !== undefined) this.#handles.push(handle);
      }
    }
    const isWhole = range.start === 0 && range.end === this.sizeBytes;
    // What a fill has brought is in its file; a file that could not be read any more is no help.
    const canVerify = isWhole && (position === 0 || last?.source === 'fill');
    yield* canVerify
      ? passThrough.readVerified(position, last?.path ?? '', signal)
      : passThrough.readPart({ start: position, end: range.end }, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#handles.map((handle) => handle[Symbol.asyncDispose]()));
  }
}
