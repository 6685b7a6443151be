import type { ByteRange } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import type { ReadSpan } from '../ztoc/span.ts';

/** Bounds that a stored table must respect. */
export interface SpannedLayer {
  readonly layerBytes: number;
  readonly uncompressedBytes: number;
  /** Most decompressed bytes of a span. */
  readonly maxSpanBytes: number;
}

// Little endian, unaligned. Offsets are doubles, which hold every safe integer exactly.
const AT = {
  compressedStart: 0,
  compressedEnd: 8,
  uncompressedStart: 16,
  uncompressedEnd: 24,
  crc32: 32,
  bits: 36,
} as const;
/** Where the fields of a subclass start in a record. */
export const OWN_FIELDS = 37;
const INITIAL_SPANS = 64;

/**
 * The spans of a layer in the order of their ids, packed into one buffer. Subclasses add fields of their own.
 */
export abstract class PackedSpans<T extends ReadSpan> implements Iterable<T> {
  readonly #recordBytes: number;
  protected records: Buffer;
  #length = 0;

  protected constructor(recordBytes: number) {
    this.#recordBytes = recordBytes;
    this.records = Buffer.alloc(INITIAL_SPANS * recordBytes);
  }

  /** Adds the own fields of the record at `at`. */
  protected abstract decodeOwn(common: ReadSpan, at: number): T;

  /** What is wrong with the own fields of a record. */
  protected abstract findOwnProblem(span: T, at: number): string | undefined;

  get length(): number {
    return this.#length;
  }

  /** Where the last span ends. */
  get uncompressedEnd(): number {
    return this.#length === 0 ? 0 : this.#number(this.#length - 1, 'uncompressedEnd');
  }

  /** The records from span `firstId` on; shares memory with the table. */
  encode(firstId = 0): Buffer {
    return this.records.subarray(firstId * this.#recordBytes, this.#length * this.#recordBytes);
  }

  /** Appends the result of {@link encode} of another table of the same kind. */
  append(records: Uint8Array): void {
    const at = this.#reserve(records.length / this.#recordBytes);
    this.records.set(records, at);
  }

  get(id: number): T | undefined {
    if (!(id >= 0 && id < this.#length)) return undefined;
    const at = id * this.#recordBytes;
    const common = {
      id,
      compressed: { start: this.#number(id, 'compressedStart'), end: this.#number(id, 'compressedEnd') },
      uncompressed: {
        start: this.#number(id, 'uncompressedStart'),
        end: this.#number(id, 'uncompressedEnd'),
      },
      bits: this.records.readUInt8(at + AT.bits),
      crc32: this.records.readUInt32LE(at + AT.crc32),
    };
    return this.decodeOwn(common, at);
  }

  *[Symbol.iterator](): Generator<T> {
    for (let id = 0; id < this.#length; id++) {
      const span = this.get(id);
      if (span !== undefined) yield span;
    }
  }

  /** The span that holds the byte at this offset. */
  at(uncompressedOffset: number): T | undefined {
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

  /** The spans that hold bytes of a range, as far as the table has them. */
  within({ start, end }: ByteRange): T[] {
    const spans: T[] = [];
    for (
      let span = this.at(start);
      span !== undefined && span.uncompressed.start < end;
      span = this.get(span.id + 1)
    )
      spans.push(span);
    return spans;
  }

  /**
   * Appends a record and writes the fields that all spans have.
   * @returns where the record starts; the caller writes its own fields
   */
  protected addCommon({ compressed, uncompressed, crc32, bits }: ReadSpan): number {
    const at = this.#reserve(1);
    const { records } = this;
    records.writeDoubleLE(compressed.start, at + AT.compressedStart);
    records.writeDoubleLE(compressed.end, at + AT.compressedEnd);
    records.writeDoubleLE(uncompressed.start, at + AT.uncompressedStart);
    records.writeDoubleLE(uncompressed.end, at + AT.uncompressedEnd);
    records.writeUInt32LE(crc32, at + AT.crc32);
    records.writeUInt8(bits, at + AT.bits);
    return at;
  }

  /**
   * Replaces the records with a stored table, which is kept.
   * @throws SpandrelError INDEX_MALFORMED if it does not fit the layer
   */
  protected take(stored: Uint8Array, layer: SpannedLayer): void {
    if (stored.length % this.#recordBytes !== 0) throw malformed('its length is wrong');
    this.records = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
    this.#length = stored.length / this.#recordBytes;
    let uncompressedEnd = 0;
    for (const span of this) {
      const problem =
        findProblem(span, uncompressedEnd, layer) ?? this.findOwnProblem(span, span.id * this.#recordBytes);
      if (problem !== undefined) throw malformed(problem);
      uncompressedEnd = span.uncompressed.end;
    }
    if (uncompressedEnd !== layer.uncompressedBytes) throw malformed('its spans do not cover the layer');
  }

  /**
   * Makes room for more records.
   * @returns where the room starts
   */
  #reserve(count: number): number {
    const at = this.#length * this.#recordBytes;
    this.#length += count;
    const missing = this.#length * this.#recordBytes - this.records.length;
    if (missing > 0)
      this.records = Buffer.concat([this.records, Buffer.alloc(Math.max(missing, this.records.length))]);
    return at;
  }

  #number(id: number, field: keyof typeof AT): number {
    return this.records.readDoubleLE(id * this.#recordBytes + AT[field]);
  }
}

function findProblem(
  { compressed, uncompressed, bits }: ReadSpan,
  uncompressedStart: number,
  { layerBytes, maxSpanBytes }: SpannedLayer,
): string | undefined {
  const offsets = [compressed.start, compressed.end, uncompressed.start, uncompressed.end];
  if (!offsets.every(isOffset)) return 'an offset is out of range';
  if (bits > 7) return 'bits are out of range';
  const isOrdered = compressed.start <= compressed.end && uncompressed.start <= uncompressed.end;
  if (!isOrdered || uncompressed.start !== uncompressedStart) return 'spans are out of order';
  if (compressed.end > layerBytes || uncompressed.end - uncompressed.start > maxSpanBytes)
    return 'a span is too large';
  return undefined;
}

export function isOffset(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function malformed(problem: string): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', `the span table is damaged: ${problem}`);
}
