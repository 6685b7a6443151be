import type { FileHandle } from 'node:fs/promises';

import type { ByteRange } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import { waitFor } from '../core/wait-for.ts';
import type { BlobHandle } from './blob-handle.ts';
import type { Fill } from './fill.ts';
import { Growth } from './growth.ts';
import type { PartialFile } from './partial-file.ts';
import { assertRangeWithin, READ_BYTES, readFileRange } from './read-file-range.ts';

/** One read: where it is, and where the bytes that it can take end. */
interface Progress extends Disposable {
  /** At least one byte behind `position`. */
  readableEnd(position: number, signal: AbortSignal | undefined): Promise<number>;
}

interface Parts extends Pick<BlobHandle, 'digest' | 'sizeBytes' | 'source' | 'path' | 'growth'> {
  readonly begin: (range: ByteRange) => Progress;
  readonly readBytes: (range: ByteRange) => Promise<Buffer>;
  readonly done: Promise<void>;
  readonly close: () => Promise<void>;
}

/** A handle on a complete blob's file, or on a fill. */
export class OpenBlob implements BlobHandle {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly source: 'disk' | 'fill';
  readonly path: string;
  readonly growth: Growth;
  readonly #parts: Parts;
  #isOpen = true;

  private constructor(parts: Parts) {
    this.digest = parts.digest;
    this.sizeBytes = parts.sizeBytes;
    this.source = parts.source;
    this.path = parts.path;
    this.growth = parts.growth;
    this.#parts = parts;
  }

  static complete(blob: {
    digest: Digest;
    sizeBytes: number;
    path: string;
    file: FileHandle;
    onClose: () => void;
  }): OpenBlob {
    const { digest, sizeBytes, path, file, onClose } = blob;
    return new OpenBlob({
      digest,
      sizeBytes,
      path,
      source: 'disk',
      growth: Growth.complete(sizeBytes),
      begin: ({ end }) => ({ readableEnd: () => Promise.resolve(end), [Symbol.dispose]: () => undefined }),
      readBytes: (range) => readFileRange(file, range),
      done: Promise.resolve(),
      close: async () => {
        onClose();
        await file.close();
      },
    });
  }

  static filling(blob: {
    digest: Digest;
    sizeBytes: number;
    file: PartialFile;
    fill: Fill;
    done: Promise<void>;
    onClose: () => Promise<void>;
  }): OpenBlob {
    const { digest, sizeBytes, file, fill, done, onClose } = blob;
    return new OpenBlob({
      digest,
      sizeBytes,
      path: file.path,
      source: 'fill',
      growth: fill.growth,
      begin: (range) => readOfFill(fill, range),
      readBytes: (range) => file.read(range),
      done,
      close: onClose,
    });
  }

  async *read(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    assertRangeWithin(range, this.sizeBytes);
    using progress = this.#parts.begin(range);
    for (let start = range.start; start < range.end;) {
      const readable = await progress.readableEnd(start, signal);
      signal?.throwIfAborted();
      if (!this.#isOpen) throw new Error('the handle has been disposed of');
      const end = Math.min(readable, start + READ_BYTES);
      yield await this.#parts.readBytes({ start, end });
      start = end;
    }
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

function readOfFill(fill: Fill, range: ByteRange): Progress {
  const demand = fill.demand(range);
  return {
    readableEnd(position, signal) {
      demand.start = position;
      return fill.waitFor(demand, signal);
    },
    [Symbol.dispose]: () => fill.drop(demand),
  };
}
