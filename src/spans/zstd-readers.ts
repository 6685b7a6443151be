import { Growth } from '../blobs/files/growth.ts';
import type { ByteRange } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import { ZstdReader } from '../inflate/zstd-reader.ts';
import { readPieces } from '../blobs/reads/growing-file.ts';
import type { FrameStart } from '../ztoc/span.ts';

/** A range of a zstd layer, and where it lies. */
export interface ZstdRead {
  readonly path: string;
  /** Shared memory of the file's growth. */
  readonly growth: SharedArrayBuffer;
  /** Size that the file will have. */
  readonly layerBytes: number;
  /** The last one that begins ahead of the range. */
  readonly frame: FrameStart;
  readonly uncompressed: ByteRange;
  readonly maxWindowBytes: number;
  /** Most bytes that may be decoded to get to the range. */
  readonly maxSkippedBytes: number;
}

interface Kept {
  readonly path: string;
  readonly reader: ZstdReader;
}

/** Decoders that are kept, and the windows of all of them: that of `zstd --long`. */
const MAX_KEPT = 4;
const MAX_KEPT_WINDOW_BYTES = 128 * 2 ** 20;

/**
 * Reads ranges of zstd layers. A frame cannot be entered in its middle, so a decoder that has come to the end of a range is kept: the next
 * range of a stream goes on from there. What is kept has no file open.
 */
export class ZstdReaders {
  /** The one that was used last at the end. */
  #kept: readonly Kept[] = [];

  /**
   * The bytes of a range, and what was decoded to get there.
   * @throws SpandrelError RANGE_TOO_COSTLY; as {@link ZstdReader.read}; what reading the file throws
   */
  async read(wanted: ZstdRead): Promise<{ bytes: Uint8Array<ArrayBuffer>; skippedBytes: number }> {
    const kept = this.#find(wanted);
    const { uncompressed, maxSkippedBytes, frame, path } = wanted;
    const skippedBytes = uncompressed.start - (kept?.reader.position ?? frame.uncompressedStart);
    if (skippedBytes > maxSkippedBytes)
      throw new SpandrelError(
        'RANGE_TOO_COSTLY',
        `${skippedBytes} bytes of a zstd frame lie ahead of the range; limits.maxSkippedBytes leaves ${maxSkippedBytes} for this request`,
      );
    const reader = kept?.reader ?? openReader(wanted);
    if (kept !== undefined) this.#remove(kept);
    try {
      const bytes = await reader.read(uncompressed);
      this.#keep(path, reader);
      return { bytes, skippedBytes };
    } catch (error) {
      await reader[Symbol.asyncDispose]();
      if (kept === undefined) throw error;
      // Its file may have been another one, or have failed to arrive; if this one is damaged too, that shows now.
      return this.read(wanted);
    }
  }

  /** The decoder that has the least to pass over, if that is less than from the frame's start. */
  #find({ path, frame, uncompressed }: ZstdRead): Kept | undefined {
    const fitting = this.#kept.filter(
      ({ path: own, reader: { position } }) =>
        own === path && position >= frame.uncompressedStart && position <= uncompressed.start,
    );
    return fitting.toSorted((a, b) => b.reader.position - a.reader.position)[0];
  }

  #keep(path: string, reader: ZstdReader): void {
    this.#kept = [...this.#kept, { path, reader }];
    for (const oldest of this.#kept) {
      if (!this.#isTooMuch()) return;
      this.#remove(oldest);
      void oldest.reader[Symbol.asyncDispose]();
    }
  }

  #isTooMuch(): boolean {
    const windows = this.#kept.reduce((sum, { reader }) => sum + reader.windowBytes, 0);
    return this.#kept.length > MAX_KEPT || windows > MAX_KEPT_WINDOW_BYTES;
  }

  #remove(kept: Kept): void {
    this.#kept = this.#kept.filter((one) => one !== kept);
  }
}

function openReader({ path, growth, layerBytes, frame, maxWindowBytes }: ZstdRead): ZstdReader {
  const { compressedStart, uncompressedStart } = frame;
  const readFrom = (start: number): AsyncIterable<Uint8Array> =>
    readPieces({ path, growth: new Growth(growth), start: compressedStart + start, end: layerBytes });
  return new ZstdReader({ compressed: readFrom(0), uncompressedStart, maxWindowBytes, reread: readFrom });
}
