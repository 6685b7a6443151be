import type { ByteRange } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import type { ProvenBytes } from '../core/proven-bytes.ts';
import type { BlobHandle, BlobReader, FileRange } from './reads/blob-handle.ts';
import type { PassThrough } from './pass-through.ts';
import { isStoreFault } from './files/store-fault.ts';
import { assertRangeWithin } from './files/read-file-range.ts';
import type { StoredBlob } from './files/store-budget.ts';

export interface ResilientReaderOptions {
  readonly digest: Digest;
  readonly sizeBytes: ProvenBytes;
  /** None if the store cannot take the blob. */
  readonly handle: BlobHandle | undefined;
  readonly passThrough: PassThrough;
  /** Find out, as long as hashing takes, whether the bytes of a stored blob are right; nothing if that is known. */
  readonly prove: (stored: StoredBlob) => Promise<boolean> | undefined;
  /** The store has failed under an open handle. Returns another handle where that may help. */
  readonly onStoreFault: (failed: BlobHandle, error: Error) => Promise<BlobHandle | undefined>;
}

type ByteStream = AsyncGenerator<Buffer, void, undefined>;

/** The end of a blob that waits until its digest has been found right. */
const HELD_BACK_BYTES = 64 * 1024;
/** A blob that is hashed in a moment is not begun before: a reader who has got wrong bytes can only be cut off. */
const HASHED_FIRST_BYTES = 8 * 2 ** 20;

/** Reads a blob from the store as long as that can, and from the upstream where it cannot. */
export class ResilientReader implements BlobReader {
  readonly digest: Digest;
  readonly sizeBytes: ProvenBytes;
  readonly #options: ResilientReaderOptions;
  readonly #handles = new AsyncDisposableStack();

  constructor(options: ResilientReaderOptions) {
    this.digest = options.digest;
    this.sizeBytes = options.sizeBytes;
    this.#options = options;
    this.#handles.use(options.handle);
  }

  get source(): BlobReader['source'] {
    return this.#options.handle?.source ?? 'upstream';
  }

  read(range: ByteRange, signal?: AbortSignal): ByteStream {
    return this.#stream(range, 'read', signal);
  }

  lend(range: ByteRange, signal?: AbortSignal): ByteStream {
    return this.#stream(range, 'lend', signal);
  }

  async locate(range: ByteRange, signal?: AbortSignal): Promise<FileRange | undefined> {
    try {
      return await this.#options.handle?.locate(range, signal);
    } catch (error) {
      if (!isStoreFault(error)) throw error;
      return undefined;
    }
  }

  async *#stream(range: ByteRange, way: 'read' | 'lend', signal: AbortSignal | undefined): ByteStream {
    assertRangeWithin(range, this.sizeBytes);
    const { passThrough, onStoreFault } = this.#options;
    const isWhole = range.start === 0 && range.end === this.sizeBytes;
    let position = range.start;
    let last: BlobHandle | undefined;
    for (let handle = this.#options.handle; handle !== undefined;) {
      last = handle;
      const begin = position;
      const opened = handle;
      try {
        const rest = { start: position, end: range.end };
        const bytesOf = (part: ByteRange): ByteStream => opened[way](part, signal);
        for await (const bytes of isWhole ? this.#streamProven(opened, rest, bytesOf) : bytesOf(rest)) {
          position += bytes.byteLength;
          yield bytes;
        }
        return;
      } catch (error) {
        if (!isStoreFault(error)) throw error;
        // What has been given may be wrong already: the reader must not come to a clean end.
        if (opened.isWrong && position > begin) throw error;
        handle = await onStoreFault(opened, error);
        this.#handles.use(handle);
      }
    }
    // What a fill has brought is in its file; a file that could not be read any more is no help.
    const canVerify = isWhole && (position === 0 || last?.source === 'fill');
    yield* canVerify
      ? passThrough.readVerified(position, last?.path ?? '', signal)
      : passThrough.readPart({ start: position, end: range.end }, signal);
  }

  /** The rest of the whole blob, whose end comes only when the digest is known to be right. */
  async *#streamProven(
    handle: BlobHandle,
    { start, end }: ByteRange,
    bytesOf: (range: ByteRange) => ByteStream,
  ): ByteStream {
    const proof = this.#proofOf(handle, start);
    const heldBytes = end - start <= HASHED_FIRST_BYTES ? end - start : HELD_BACK_BYTES;
    const heldFrom = proof === undefined ? end : end - heldBytes;
    proof?.catch(() => undefined);
    yield* bytesOf({ start, end: heldFrom });
    if (proof === undefined) return;
    await proof;
    yield* bytesOf({ start: heldFrom, end });
  }

  /** Settles when the bytes of the handle are known to be right; nothing if its own reads wait for that. */
  #proofOf(handle: BlobHandle, start: number): Promise<void> | undefined {
    const { stored } = handle;
    if (stored === undefined) return start === 0 ? undefined : handle.completed();
    return this.#options.prove(stored)?.then((isRight) => {
      if (!isRight) throw new SpandrelError('STORE_FAILED', 'the stored blob is damaged');
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handles.disposeAsync();
  }
}
