import type { ByteRange } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import type { ReadSpan } from '../ztoc/span.ts';

/** What a stored table must fit. */
export interface SpannedLayer {
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
  crc32: 32,
  bits: 36,
} as const;
/** Where the fields of a kind of its own begin in a record. */
export const OWN_FIELDS = 37;
const INITIAL_SPANS = 64;

/** The spans of a layer in the order of their ids, packed: no object for each of them. A kind of span adds its own fields. */
export abstract class PackedSpans<T extends ReadSpan> implements Iterable<T> {
  readonly #recordBytes: number;
  protected records: Buffer;
  #length = 0;

  protected constructor(recordBytes: number) {
    this.#recordBytes = recordBytes;
    this.records = Buffer.alloc(INITIAL_SPANS * recordBytes);
  }

  /** The span whose record begins at `at`. */
  protected abstract decodeOwn(common: ReadSpan, at: number): T;

  /** What is wrong with the fields of this kind. */
  protected abstract findOwnProblem(span: T, at: number): string | undefined;

  get length(): number {
    return this.#length;
  }

  /** Where the last span ends. */
  get uncompressedEnd(): number {
    return this.#length === 0 ? 0 : this.#number(this.#length - 1, 'uncompressedEnd');
  }

  /** The records from the span `firstId` on; shares memory with the table. */
  encode(firstId = 0): Buffer {
    return this.records.subarray(firstId * this.#recordBytes, this.#length * this.#recordBytes);
  }

  /** Append what {@link encode} gave of a table of this kind. */
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

  /** The span that holds the byte at this offset, by binary search. */
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

  /** The spans that hold bytes of a range, as far as they are there. */
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

  /** Append the fields that all spans have. @returns where the record begins; the caller writes the fields of the kind */
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
   * Become the stored table, which is kept.
   * @throws SpandrelError INDEX_MALFORMED if it does not fit the layer
   */
  protected take(stored: Uint8Array, layer: SpannedLayer): void {
    if (stored.length % this.#recordBytes !== 0) throw malformed('it has another length than it should have');
    this.records = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
    this.#length = stored.length / this.#recordBytes;
    let uncompressedEnd = 0;
    for (const span of this) {
      const problem =
        findProblem(span, uncompressedEnd, layer) ?? this.findOwnProblem(span, span.id * this.#recordBytes);
      if (problem !== undefined) throw malformed(problem);
      uncompressedEnd = span.uncompressed.end;
    }
    if (uncompressedEnd !== layer.uncompressedBytes) throw malformed('its spans are not the layer');
  }

  /** Room for so many more records. @returns where it begins */
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
