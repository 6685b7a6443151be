import { type Digest, digestHex } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import type { Span } from './span.ts';

/** Where a span's window lies in the index file, as raw deflate data. No bytes: no window, nothing refers to earlier output. */
export interface WindowRecord {
  readonly fileOffset: number;
  readonly bytes: number;
  /** CRC-32 of the stored bytes. */
  readonly crc32: number;
}

export const NO_WINDOW: WindowRecord = { fileOffset: 0, bytes: 0, crc32: 0 };

/** What a stored table must fit. */
export interface SpannedLayer {
  readonly spanCount: number;
  readonly layerBytes: number;
  readonly uncompressedBytes: number;
  /** Of the decompressed bytes of a span. */
  readonly maxSpanBytes: number;
}

// Little endian, nothing aligned. Offsets are doubles, exact for every safe integer.
const AT = {
  compressedStart: 0,
  compressedEnd: 8,
  uncompressedStart: 16,
  uncompressedEnd: 24,
  windowOffset: 32,
  frameCompressedStart: 40,
  frameUncompressedStart: 48,
  digest: 56,
  crc32: 88,
  windowBytes: 92,
  windowCrc32: 96,
  bits: 100,
  hasFrame: 101,
} as const;
const RECORD_BYTES = 102;
const DIGEST_BYTES = 32;
const INITIAL_SPANS = 64;

/** The spans of a layer, packed: no object for each of them. */
export class SpanTable {
  #records: Buffer;
  #length = 0;

  constructor(records: Buffer = Buffer.alloc(INITIAL_SPANS * RECORD_BYTES)) {
    this.#records = records;
  }

  /**
   * The table that {@link SpanTable.encode} gave for such a layer; `bytes` is kept.
   * @throws SpandrelError INDEX_MALFORMED
   */
  static decode(bytes: Uint8Array, layer: SpannedLayer): SpanTable {
    const count = layer.spanCount;
    if (bytes.length !== count * RECORD_BYTES) throw malformed('it has another length than it should have');
    const table = new SpanTable(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    table.#length = count;
    let uncompressedEnd = 0;
    for (let id = 0; id < count; id++) {
      table.#check(id, uncompressedEnd, layer);
      uncompressedEnd = table.#number(id, 'uncompressedEnd');
    }
    if (uncompressedEnd !== layer.uncompressedBytes) throw malformed('its spans are not the layer');
    return table;
  }

  /** The packed spans; shares memory with the table. */
  encode(): Buffer {
    return this.#records.subarray(0, this.#length * RECORD_BYTES);
  }

  get length(): number {
    return this.#length;
  }

  /** Where the last span ends. */
  get uncompressedEnd(): number {
    return this.#length === 0 ? 0 : this.#number(this.#length - 1, 'uncompressedEnd');
  }

  /** Append the next span; its id must be the table's length. */
  add(span: Span, window: WindowRecord): void {
    const at = this.#length++ * RECORD_BYTES;
    if (at + RECORD_BYTES > this.#records.length) {
      this.#records = Buffer.concat([this.#records, Buffer.alloc(this.#records.length + RECORD_BYTES)]);
    }
    const records = this.#records;
    records.writeDoubleLE(span.compressed.start, at + AT.compressedStart);
    records.writeDoubleLE(span.compressed.end, at + AT.compressedEnd);
    records.writeDoubleLE(span.uncompressed.start, at + AT.uncompressedStart);
    records.writeDoubleLE(span.uncompressed.end, at + AT.uncompressedEnd);
    records.writeDoubleLE(window.fileOffset, at + AT.windowOffset);
    records.writeDoubleLE(span.frame?.compressedStart ?? 0, at + AT.frameCompressedStart);
    records.writeDoubleLE(span.frame?.uncompressedStart ?? 0, at + AT.frameUncompressedStart);
    records.write(digestHex(span.digest), at + AT.digest, 'hex');
    records.writeUInt32LE(span.crc32, at + AT.crc32);
    records.writeUInt32LE(window.bytes, at + AT.windowBytes);
    records.writeUInt32LE(window.crc32, at + AT.windowCrc32);
    records.writeUInt8(span.bits, at + AT.bits);
    records.writeUInt8(span.frame === undefined ? 0 : 1, at + AT.hasFrame);
  }

  get(id: number): Span | undefined {
    if (!(id >= 0 && id < this.#length)) return undefined;
    const digest = this.#digestHex(id);
    const span = {
      id,
      compressed: { start: this.#number(id, 'compressedStart'), end: this.#number(id, 'compressedEnd') },
      uncompressed: {
        start: this.#number(id, 'uncompressedStart'),
        end: this.#number(id, 'uncompressedEnd'),
      },
      bits: this.#byte(id, 'bits'),
      digest: `sha256:${digest}` as Digest,
      crc32: this.#uint32(id, 'crc32'),
    };
    if (this.#byte(id, 'hasFrame') === 0) return span;
    const compressedStart = this.#number(id, 'frameCompressedStart');
    return {
      ...span,
      frame: { compressedStart, uncompressedStart: this.#number(id, 'frameUncompressedStart') },
    };
  }

  *[Symbol.iterator](): Generator<Span> {
    for (let id = 0; id < this.#length; id++) {
      const span = this.get(id);
      if (span !== undefined) yield span;
    }
  }

  /** The span that holds the byte at this offset, by binary search. */
  at(uncompressedOffset: number): Span | undefined {
    if (uncompressedOffset < 0 || uncompressedOffset >= this.uncompressedEnd) return undefined;
    let low = 0;
    let high = this.#length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#number(middle, 'uncompressedStart') <= uncompressedOffset) low = middle;
      else high = middle - 1;
    }
    return this.get(low);
  }

  window(id: number): WindowRecord {
    if (!(id >= 0 && id < this.#length)) return NO_WINDOW;
    const fileOffset = this.#number(id, 'windowOffset');
    return { fileOffset, bytes: this.#uint32(id, 'windowBytes'), crc32: this.#uint32(id, 'windowCrc32') };
  }

  #check(id: number, uncompressedStart: number, { layerBytes, maxSpanBytes }: SpannedLayer): void {
    const { compressed, uncompressed, bits, frame } = this.get(id) ?? {};
    const window = this.window(id);
    const offsets = [
      compressed?.start,
      compressed?.end,
      uncompressed?.start,
      uncompressed?.end,
      window.fileOffset,
    ];
    if (frame !== undefined) offsets.push(frame.compressedStart, frame.uncompressedStart);
    for (const offset of offsets) {
      if (!Number.isSafeInteger(offset) || (offset ?? -1) < 0) throw malformed('an offset is out of range');
    }
    if (compressed === undefined || uncompressed === undefined || (bits ?? 8) > 7)
      throw malformed('bits are out of range');
    const isOrdered = compressed.start <= compressed.end && uncompressed.start <= uncompressed.end;
    const isAfterFrame = frame === undefined || frame.uncompressedStart <= uncompressed.start;
    if (!isOrdered || !isAfterFrame || uncompressed.start !== uncompressedStart)
      throw malformed('spans are out of order');
    if (compressed.end > layerBytes || uncompressed.end - uncompressed.start > maxSpanBytes)
      throw malformed('a span is too large');
  }

  #digestHex(id: number): string {
    const at = id * RECORD_BYTES + AT.digest;
    return this.#records.toString('hex', at, at + DIGEST_BYTES);
  }

  #number(id: number, field: keyof typeof AT): number {
    return this.#records.readDoubleLE(id * RECORD_BYTES + AT[field]);
  }

  #uint32(id: number, field: keyof typeof AT): number {
    return this.#records.readUInt32LE(id * RECORD_BYTES + AT[field]);
  }

  #byte(id: number, field: keyof typeof AT): number {
    return this.#records.readUInt8(id * RECORD_BYTES + AT[field]);
  }
}

function malformed(problem: string): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', `the span table is damaged: ${problem}`);
}
