import type { ByteRange } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';

/** Default limit for windows; the `zstd` command has the same. */
export const USUAL_MAX_WINDOW_BYTES = 2 ** 27;
/** Limit of all decoders: the window of `zstd --long=31`. */
export const MAX_ZSTD_WINDOW_LOG = 31;

// RFC 8878, sections 3.1.1 and 3.1.2.
const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const SKIPPABLE_MASK = 0xfffffff0;
const MAGIC_BYTES = 4;
const SKIPPABLE_HEADER_BYTES = 8;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
const MAX_FRAME_HEADER_BYTES = 18;
const MAX_BLOCK_BYTES = 128 * 1024;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
/** Formats of zstd 0.1 to 0.7, which current decoders refuse (zstd `lib/legacy`). */
const LEGACY_MAGICS = [0xfd2fb51e, 0xfd2fb522, 0xfd2fb523, 0xfd2fb524, 0xfd2fb525, 0xfd2fb526, 0xfd2fb527];

/** A frame of a zstd stream. Decoding can start at any `data` frame; `skippable` frames have no output. */
export interface ZstdFrame {
  readonly kind: 'data' | 'skippable';
  /** Includes magic number and checksum. */
  readonly compressed: ByteRange;
}

/** A part of one frame. All parts in order are the stream. */
export interface ZstdPiece {
  readonly kind: ZstdFrame['kind'];
  /** Part of the scanned chunk, or a copy. */
  readonly bytes: Uint8Array;
  /** The frame, if `bytes` are its last ones. */
  readonly ended?: ZstdFrame;
}

/** Finds the frames of a zstd stream in chunks, without decompressing it (RFC 8878, section 3). */
export class ZstdFrameScanner {
  #stage: 'frame header' | 'block header' | 'payload' = 'frame header';
  #kind: ZstdFrame['kind'] = 'data';
  // The bytes of the current frame or block header so far, and its length.
  readonly #header = new Uint8Array(MAX_FRAME_HEADER_BYTES);
  #headerHave = 0;
  #headerWant = MAGIC_BYTES;
  #payloadBytes = 0;
  #lastBlock = false;
  #checksumBytes = 0;
  /** Of the frame whose last block is being read. */
  #unreadChecksumBytes = 0;
  #frameStart = 0;
  #chunkStart = 0;
  /** Largest window of the frames so far. */
  windowBytes = 0;
  readonly #maxWindowBytes: number;
  readonly #splitsFrames: boolean;

  /**
   * @param maxWindowBytes 2 GiB at most counts
   * @param splitsFrames a piece has at most one block, and never a block and a checksum
   */
  constructor(maxWindowBytes: number = USUAL_MAX_WINDOW_BYTES, splitsFrames = false) {
    this.#maxWindowBytes = Math.min(maxWindowBytes, 2 ** MAX_ZSTD_WINDOW_LOG);
    this.#splitsFrames = splitsFrames;
  }

  /**
   * The pieces of the next `chunk`. Iterate to the end. The header of a frame is checked before its first
   * piece.
   * @throws SpandrelError LAYER_CORRUPT, or LAYER_UNSUPPORTED (legacy format, dictionary, window that is too
   * large)
   */
  *scan(chunk: Uint8Array): Generator<ZstdPiece> {
    let position = 0;
    let pieceStart = 0;
    // Bytes of an unfinished frame header from earlier chunks.
    let carried = this.#stage === 'frame header' ? this.#headerHave : 0;
    while (position < chunk.length) {
      if (this.#stage === 'payload') {
        const taken = Math.min(this.#payloadBytes, chunk.length - position);
        this.#payloadBytes -= taken;
        position += taken;
      } else {
        const before = this.#stage;
        this.#header[this.#headerHave++] = chunk[position++] ?? 0;
        if (this.#headerHave < this.#headerWant) continue;
        this.#takeHeader(this.#chunkStart + position);
        if (before === 'frame header' && this.#isInside() && carried > 0) {
          yield { kind: this.#kind, bytes: this.#header.slice(0, carried) };
          carried = 0;
        }
      }
      if (this.#stage !== 'payload' || this.#payloadBytes > 0) continue;
      if (this.#splitsFrames && pieceStart < position && !this.#isFrameEnd()) {
        yield { kind: this.#kind, bytes: chunk.subarray(pieceStart, position) };
        pieceStart = position;
      }
      if (!this.#lastBlock) {
        this.#expect('block header', BLOCK_HEADER_BYTES);
        continue;
      }
      if (this.#unreadChecksumBytes > 0) {
        this.#payloadBytes = this.#unreadChecksumBytes;
        this.#unreadChecksumBytes = 0;
        continue;
      }
      const compressed = { start: this.#frameStart, end: this.#chunkStart + position };
      const bytes = chunk.subarray(pieceStart, position);
      pieceStart = position;
      this.#frameStart = compressed.end;
      this.#expect('frame header', MAGIC_BYTES);
      yield { kind: this.#kind, bytes, ended: { kind: this.#kind, compressed } };
    }
    this.#chunkStart += chunk.length;
    if (this.#isInside() && pieceStart < chunk.length) {
      yield { kind: this.#kind, bytes: chunk.subarray(pieceStart) };
    }
  }

  /** @throws SpandrelError LAYER_CORRUPT if the stream is empty or ends within a frame */
  finish(): void {
    const whole = this.#stage === 'frame header' && this.#headerHave === 0 && this.#chunkStart > 0;
    if (!whole) throw corrupt(this.#chunkStart, 'it is cut short');
  }

  #isFrameEnd(): boolean {
    return this.#lastBlock && this.#unreadChecksumBytes === 0;
  }

  /** True within a frame whose header is complete. */
  #isInside(): boolean {
    return this.#stage !== 'frame header';
  }

  #expect(stage: 'frame header' | 'block header', wantedBytes: number): void {
    this.#stage = stage;
    this.#headerHave = 0;
    this.#headerWant = wantedBytes;
  }

  #payload(payloadBytes: number, last: boolean): void {
    this.#stage = 'payload';
    this.#payloadBytes = payloadBytes;
    this.#lastBlock = last;
  }

  /** Handles the `headerWant` bytes of a header: it is complete now, or longer than known so far. */
  #takeHeader(compressedOffset: number): void {
    const view = new DataView(this.#header.buffer);
    if (this.#stage === 'block header') {
      this.#takeBlockHeader(view, compressedOffset);
    } else if (this.#headerWant === MAGIC_BYTES) {
      this.#takeMagic(view.getUint32(0, true));
    } else if (this.#kind === 'skippable') {
      this.#payload(view.getUint32(MAGIC_BYTES, true), true);
    } else if (this.#headerWant === MAGIC_BYTES + 1) {
      this.#headerWant += headerFields(view.getUint8(MAGIC_BYTES)).bytes;
      // There is always at least one more byte: a descriptor of zero is followed by a window byte.
    } else {
      const windowBytes = checkFrameHeader(view, this.#frameStart, this.#maxWindowBytes);
      this.windowBytes = Math.max(this.windowBytes, windowBytes);
      this.#checksumBytes = view.getUint8(MAGIC_BYTES) & 4 ? CHECKSUM_BYTES : 0;
      this.#expect('block header', BLOCK_HEADER_BYTES);
    }
  }

  #takeMagic(magic: number): void {
    if (magic === FRAME_MAGIC) {
      this.#kind = 'data';
      this.#headerWant = MAGIC_BYTES + 1;
    } else if ((magic & SKIPPABLE_MASK) >>> 0 === SKIPPABLE_MAGIC) {
      this.#kind = 'skippable';
      this.#headerWant = SKIPPABLE_HEADER_BYTES;
    } else if (LEGACY_MAGICS.includes(magic)) {
      throw unsupported(this.#frameStart, 'was written by a zstd before version 0.8');
    } else {
      throw corrupt(this.#frameStart, 'no zstd frame begins there');
    }
  }

  #takeBlockHeader(view: DataView, compressedOffset: number): void {
    const header = view.getUint16(0, true) | (view.getUint8(2) << 16);
    const type = (header >> 1) & 3;
    const size = header >> 3;
    if (type === RESERVED_BLOCK || size > MAX_BLOCK_BYTES) {
      throw corrupt(compressedOffset - BLOCK_HEADER_BYTES, 'bad block header');
    }
    const last = (header & 1) === 1;
    this.#payload(type === RLE_BLOCK ? 1 : size, last);
    this.#unreadChecksumBytes = last ? this.#checksumBytes : 0;
  }
}

interface HeaderFields {
  readonly singleSegment: boolean;
  readonly windowBytes: number;
  readonly dictionaryIdBytes: number;
  readonly contentSizeBytes: number;
  /** Length of all fields after the descriptor. */
  readonly bytes: number;
}

/** Decodes a frame header descriptor (3.1.1.1.1): which fields follow it. */
function headerFields(descriptor: number): HeaderFields {
  const singleSegment = (descriptor & 32) !== 0;
  const windowBytes = singleSegment ? 0 : 1;
  const dictionaryIdBytes = DICTIONARY_ID_BYTES[descriptor & 3] ?? 0;
  const contentSizeBytes = CONTENT_SIZE_BYTES[descriptor >> 6] || (singleSegment ? 1 : 0);
  const bytes = windowBytes + dictionaryIdBytes + contentSizeBytes;
  return { singleSegment, windowBytes, dictionaryIdBytes, contentSizeBytes, bytes };
}

/**
 * Checks a header before decoding, because the decoder allocates the window that it declares.
 * @returns its size
 */
function checkFrameHeader(view: DataView, frameStart: number, maxWindowBytes: number): number {
  const descriptor = view.getUint8(MAGIC_BYTES);
  if (descriptor & 8) throw unsupported(frameStart, 'uses a feature that is reserved');
  const fields = headerFields(descriptor);
  const windowStart = MAGIC_BYTES + 1;
  const dictionaryStart = windowStart + fields.windowBytes;
  const contentStart = dictionaryStart + fields.dictionaryIdBytes;
  for (let at = dictionaryStart; at < contentStart; at++) {
    if (view.getUint8(at) !== 0) throw unsupported(frameStart, 'needs a dictionary');
  }
  const windowBytes = fields.singleSegment
    ? contentSize(view, contentStart, fields.contentSizeBytes)
    : windowSize(view.getUint8(windowStart));
  if (windowBytes > maxWindowBytes) {
    const limit = `limits.maxZstdWindowBytes allows ${maxWindowBytes}`;
    throw unsupported(frameStart, `needs a window of ${windowBytes} bytes, and ${limit}`);
  }
  return windowBytes;
}

/** Section 3.1.1.1.2. */
function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

/** Section 3.1.1.1.4. Inexact above 2^53, where it is refused anyway. */
function contentSize(view: DataView, start: number, bytes: number): number {
  switch (bytes) {
    case 1:
      return view.getUint8(start);
    case 2:
      return view.getUint16(start, true) + 256;
    case 4:
      return view.getUint32(start, true);
    default:
      return Number(view.getBigUint64(start, true));
  }
}

function corrupt(compressedOffset: number, problem: string): SpandrelError {
  const message = `the zstd stream is damaged at compressed byte ${compressedOffset}: ${problem}`;
  return new SpandrelError('LAYER_CORRUPT', message, { detail: { compressedOffset } });
}

function unsupported(compressedOffset: number, problem: string): SpandrelError {
  const message = `the zstd frame at compressed byte ${compressedOffset} ${problem}`;
  return new SpandrelError('LAYER_UNSUPPORTED', message, { detail: { compressedOffset } });
}
