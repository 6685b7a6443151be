import type { BlobTier } from '../../core/sources/blob-tier.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { type ProvenBytes, provenBytes } from '../../core/proven-bytes.ts';
import { waitFor } from '../../core/wait-for.ts';
import type { BlobHandle, FileRange } from './blob-handle.ts';
import type { Demand } from './demands.ts';
import type { FileReads, SharedBytes } from '../files/file-reads.ts';
import { Growth } from '../files/growth.ts';
import type { OpenFile } from '../files/open-files.ts';
import type { PartialFile } from '../files/partial-file.ts';
import { assertRangeWithin, READ_BYTES } from '../files/read-file-range.ts';
import type { StoredBlob } from '../files/store-budget.ts';

/** A fill, as readers of its blob see it. */
export interface ArrivingBlob {
  /** The tier that sent the latest response; `undefined` if the upstream did. */
  readonly tier: BlobTier['name'] | undefined;
  /** Growth of the blob's file. */
  readonly growth: Growth;
  /** The fault that shows that the bytes do not match the digest. */
  readonly refutation: SpandrelError | undefined;
  /** Registers a wanted range, until the demand is disposed of. */
  demand(range: ByteRange): Demand;
  drop(demand: Demand): void;
  /**
   * End of the readable bytes from the start of the demand; resolves when there is at least one. @throws the
   * error of the fill
   */
  waitFor(demand: Demand, signal: AbortSignal | undefined): Promise<number>;
  /** @throws SpandrelError {@link refutation} */
  assertSound(): void;
}

/** One read and its readable bytes. */
interface Progress extends Disposable {
  /** End of the readable bytes; at least one byte after `position`. */
  readableEnd(position: number, signal: AbortSignal | undefined): Promise<number>;
  /** @throws SpandrelError BLOB_CORRUPT if the bytes read are known not to match the digest */
  assertSound(): void;
}

interface Parts extends Pick<BlobHandle, 'digest' | 'sizeBytes' | 'path'> {
  readonly source: () => BlobHandle['source'];
  readonly growth: () => Growth;
  readonly begin: (range: ByteRange) => Progress;
  readonly fd: number;
  readonly reads: FileReads;
  readonly done: Promise<void>;
  readonly stored: StoredBlob | undefined;
  /** Whether the file has been found not to match the digest. */
  readonly isWrong: () => boolean;
  readonly refutation: () => SpandrelError | undefined;
  readonly close: () => Promise<void>;
}

/** A handle on a complete blob's file, or on a fill. */
export class OpenBlob implements BlobHandle {
  readonly digest: Digest;
  readonly sizeBytes: ProvenBytes;
  readonly path: string;
  readonly #parts: Parts;
  /** Created on demand: most readers do not need it. */
  #growth: Growth | undefined;
  #isOpen = true;

  private constructor(parts: Parts) {
    this.digest = parts.digest;
    this.sizeBytes = parts.sizeBytes;
    this.path = parts.path;
    this.#parts = parts;
  }

  get source(): BlobHandle['source'] {
    return this.#parts.source();
  }

  get stored(): StoredBlob | undefined {
    return this.#parts.stored;
  }

  get isWrong(): boolean {
    return this.#parts.isWrong();
  }

  get refutation(): SpandrelError | undefined {
    return this.#parts.refutation();
  }

  get growth(): Growth {
    return (this.#growth ??= this.#parts.growth());
  }

  static complete(blob: {
    digest: Digest;
    blob: StoredBlob;
    path: string;
    file: OpenFile;
    isWrong: () => boolean;
    onClose: () => void;
  }): OpenBlob {
    const { digest, blob: stored, path, file, isWrong, onClose } = blob;
    const sizeBytes = provenBytes(stored.sizeBytes);
    return new OpenBlob({
      digest,
      sizeBytes,
      path,
      source: () => 'disk',
      stored,
      isWrong,
      refutation: () => undefined,
      growth: () => Growth.complete(sizeBytes),
      begin: ({ end }) => ({
        readableEnd: () => Promise.resolve(end),
        assertSound: () => undefined,
        [Symbol.dispose]: () => undefined,
      }),
      fd: file.handle.fd,
      reads: file.reads,
      done: Promise.resolve(),
      close: async () => {
        onClose();
        await file[Symbol.asyncDispose]();
      },
    });
  }

  static filling(blob: {
    digest: Digest;
    sizeBytes: ProvenBytes;
    file: PartialFile;
    fill: ArrivingBlob;
    done: Promise<void>;
    reads: FileReads;
    onClose: () => Promise<void>;
  }): OpenBlob {
    const { digest, sizeBytes, file, fill, done, reads, onClose } = blob;
    return new OpenBlob({
      digest,
      sizeBytes,
      path: file.path,
      source: () => fill.tier ?? 'fill',
      stored: undefined,
      isWrong: () => fill.refutation !== undefined,
      refutation: () => fill.refutation,
      growth: () => fill.growth,
      begin: (range) => readOfFill(fill, range),
      fd: file.fd,
      reads,
      done,
      close: onClose,
    });
  }

  async *read(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    assertRangeWithin(range, this.sizeBytes);
    using progress = this.#parts.begin(range);
    for (let start = range.start; start < range.end;) {
      const end = Math.min(await this.#readableEnd(progress, start, signal), start + READ_BYTES);
      const buffer = Buffer.allocUnsafeSlow(end - start);
      await this.#parts.reads.fill(buffer, start);
      this.#assertRight();
      yield buffer;
      start = end;
    }
    progress.assertSound();
  }

  async *readShared(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    assertRangeWithin(range, this.sizeBytes);
    using progress = this.#parts.begin(range);
    const readFrom = (position: number): Promise<SharedBytes> | undefined =>
      position < range.end
        ? this.#readWithin({ start: position, end: range.end }, progress, signal)
        : undefined;
    let ahead = readFrom(range.start);
    try {
      for (let position = range.start; ahead !== undefined;) {
        using shared = await ahead;
        this.#assertRight();
        position += shared.bytes.byteLength;
        // Reads the next bytes while these are sent.
        ahead = readFrom(position);
        ahead?.catch(() => undefined);
        yield shared.bytes;
        shared.finish();
      }
      progress.assertSound();
    } finally {
      void ahead?.then(
        (shared) => shared.finish(),
        () => undefined,
      );
    }
  }

  async locate(range: ByteRange, signal?: AbortSignal): Promise<FileRange> {
    assertRangeWithin(range, this.sizeBytes);
    using progress = this.#parts.begin(range);
    for (let { start } = range; start < range.end;) start = await this.#readableEnd(progress, start, signal);
    return { fd: this.#parts.fd, range };
  }

  /** The start of `range`, as soon as any of it has arrived. */
  async #readWithin(
    { start, end }: ByteRange,
    progress: Progress,
    signal: AbortSignal | undefined,
  ): Promise<SharedBytes> {
    const readable = await this.#readableEnd(progress, start, signal);
    return this.#parts.reads.read(start, Math.min(readable, end));
  }

  async #readableEnd(progress: Progress, position: number, signal: AbortSignal | undefined): Promise<number> {
    const end = await progress.readableEnd(position, signal);
    signal?.throwIfAborted();
    if (!this.#isOpen) throw new Error('the handle has been disposed of');
    this.#assertRight();
    return end;
  }

  #assertRight(): void {
    if (this.isWrong)
      throw this.refutation ?? new SpandrelError('STORE_FAILED', 'the stored blob is damaged');
  }

  completed(signal?: AbortSignal): Promise<void> {
    return waitFor(this.#parts.done, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#parts.close();
  }
}

function readOfFill(fill: ArrivingBlob, range: ByteRange): Progress {
  const demand = fill.demand(range);
  return {
    readableEnd(position, signal) {
      demand.start = position;
      return fill.waitFor(demand, signal);
    },
    assertSound: () => fill.assertSound(),
    [Symbol.dispose]: () => fill.drop(demand),
  };
}
