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
  /** `undefined` if the store cannot take the blob. */
  readonly handle: BlobHandle | undefined;
  readonly passThrough: PassThrough;
  /** Verifies a stored blob, which takes as long as hashing; `undefined` if it is verified already. */
  readonly prove: (stored: StoredBlob) => Promise<boolean> | undefined;
  /** Called when the store fails under an open handle. Returns another handle if that may help. */
  readonly onStoreFault: (failed: BlobHandle, error: Error) => Promise<BlobHandle | undefined>;
}

type ByteStream = AsyncGenerator<Buffer, void, undefined>;

/** Bytes at the end of a blob that are withheld until its digest is verified. */
const HELD_BACK_BYTES = 64 * 1024;
/**
 * Blobs up to this size are hashed before their first byte is sent: a client that has received wrong bytes
 * can only be disconnected.
 */
const HASHED_FIRST_BYTES = 8 * 2 ** 20;

/** Reads a blob from the store while that works, and otherwise from the upstream. */
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

  readShared(range: ByteRange, signal?: AbortSignal): ByteStream {
    return this.#stream(range, 'readShared', signal);
  }

  async locate(range: ByteRange, signal?: AbortSignal): Promise<FileRange | undefined> {
    try {
      return await this.#options.handle?.locate(range, signal);
    } catch (error) {
      if (!isStoreFault(error)) throw error;
      return undefined;
    }
  }

  async *#stream(range: ByteRange, way: 'read' | 'readShared', signal: AbortSignal | undefined): ByteStream {
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
        // Bytes already sent may be wrong: the response must not end cleanly.
        if (opened.isWrong && position > begin) throw error;
        handle = await onStoreFault(opened, error);
        this.#handles.use(handle);
      }
    }
    // The bytes of a fill are in its file. A file that could no longer be read does not help.
    const canVerify = isWhole && (position === 0 || (last !== undefined && last.source !== 'disk'));
    yield* canVerify
      ? passThrough.readVerified(position, last?.path ?? '', signal)
      : passThrough.readPart({ start: position, end: range.end }, signal);
  }

  /** The rest of the whole blob. Its end comes only when the digest is verified. */
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

  /** Settles when the bytes of the handle are verified; `undefined` if its own reads wait for that. */
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
