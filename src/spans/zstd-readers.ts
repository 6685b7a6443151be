import { FilePieces } from '../blobs/reads/file-pieces.ts';
import type { ByteRange } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import { ZstdReader } from '../inflate/zstd-reader.ts';
import type { FrameStart } from '../ztoc/span.ts';

/** A range of a zstd layer, and where it is stored. */
export interface ZstdRead {
  /** The file has the bytes from the start of the frame to `compressedEnd`; others may be missing. */
  readonly path: string;
  /** Where decoding can stop. */
  readonly compressedEnd: number;
  /** The last frame that starts at or before the range. */
  readonly frame: FrameStart;
  readonly uncompressed: ByteRange;
  readonly maxWindowBytes: number;
  /** Most bytes that may be decoded to reach the range. */
  readonly maxSkippedBytes: number;
}

interface Kept {
  readonly pieces: FilePieces;
  readonly reader: ZstdReader;
}

/**
 * Bounds of the kept decoders: their number, and the total of their windows, which is one window of `zstd
 * --long`.
 */
const MAX_KEPT = 4;
const MAX_KEPT_WINDOW_BYTES = 128 * 2 ** 20;

/**
 * Reads ranges of zstd layers. A frame cannot be entered in the middle, so a decoder that has reached the end
 * of a range is kept: the next range of a stream continues from there. A kept decoder has no file open.
 */
export class ZstdReaders {
  /** In the order of last use. */
  #kept: readonly Kept[] = [];

  /**
   * The bytes of a range, and how many bytes were decoded to reach it.
   * @throws SpandrelError RANGE_TOO_COSTLY; errors of {@link ZstdReader.read} and of reading the file
   */
  async read(wanted: ZstdRead): Promise<{ bytes: Uint8Array<ArrayBuffer>; skippedBytes: number }> {
    const kept = this.#find(wanted);
    const { uncompressed, maxSkippedBytes, frame, compressedEnd } = wanted;
    const skippedBytes = uncompressed.start - (kept?.reader.position ?? frame.uncompressedStart);
    if (skippedBytes > maxSkippedBytes)
      throw new SpandrelError(
        'RANGE_TOO_COSTLY',
        `${skippedBytes} bytes of a zstd frame precede the range; ` +
          `limits.maxSkippedBytes leaves ${maxSkippedBytes} for this request`,
      );
    const opened = kept ?? openReader(wanted);
    const { pieces, reader } = opened;
    if (kept !== undefined) this.#remove(kept);
    pieces.end = Math.max(pieces.end, compressedEnd);
    try {
      const bytes = await reader.read(uncompressed);
      this.#keep(opened);
      return { bytes, skippedBytes };
    } catch (error) {
      await reader[Symbol.asyncDispose]();
      if (kept === undefined) throw error;
      // Its file may have been another one, or have failed to arrive; if this one is damaged too, that shows
      // now.
      return this.read(wanted);
    }
  }

  /**
   * The decoder that has the least to pass over, if that is less than from the frame's start. Before the
   * frame, the file may lack bytes.
   */
  #find({ path, frame, uncompressed }: ZstdRead): Kept | undefined {
    const fitting = this.#kept.filter(
      ({ pieces, reader: { position } }) =>
        pieces.path === path &&
        pieces.position >= frame.compressedStart &&
        position >= frame.uncompressedStart &&
        position <= uncompressed.start,
    );
    return fitting.toSorted((a, b) => b.reader.position - a.reader.position)[0];
  }

  #keep(read: Kept): void {
    this.#kept = [...this.#kept, read];
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

function openReader({ path, compressedEnd, frame, maxWindowBytes }: ZstdRead): Kept {
  const { compressedStart, uncompressedStart } = frame;
  const pieces = new FilePieces(path, compressedStart, compressedEnd);
  const reread = (start: number): FilePieces => new FilePieces(path, compressedStart + start, pieces.end);
  return {
    pieces,
    reader: new ZstdReader({ compressed: pieces, uncompressedStart, maxWindowBytes, reread }),
  };
}
