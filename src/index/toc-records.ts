import { SpandrelError } from '../core/errors.ts';
import type { RawText } from '../tar/raw-text.ts';
import {
  type EntryType,
  OWN_ENTRY_TYPES,
  type TocEntry,
  type TocEntryList,
  ZTOC_ENTRY_TYPES,
} from '../tar/toc-entry.ts';

const TYPES: readonly EntryType[] = [...ZTOC_ENTRY_TYPES, ...OWN_ENTRY_TYPES];

// A record, little endian: type, numbers, count of PAX records, then texts, each after its length; last the
// map of a sparse file.
const TYPE_BYTES = 1;
const OFFSET_BYTES = 4;
const LENGTH_BYTES = 4;
const DOUBLES = ['uncompressedOffset', 'uncompressedSize', 'mode', 'devMajor', 'devMinor'] as const;
const DOUBLE_BYTES = 8;
const UINT32_BYTES = 4;
const TEXTS = ['name', 'linkname', 'uname', 'gname', 'modTime'] as const;
const FIXED_BYTES = TYPE_BYTES + DOUBLES.length * DOUBLE_BYTES + 3 * UINT32_BYTES;

/** Default limit of a table of contents. */
const MAX_BYTES = 2 ** 29;
const INITIAL_BYTES = 2 ** 16;

/** A table of contents, packed into few buffers; an entry becomes an object when it is requested. */
export class TocRecords implements TocEntryList {
  #bytes: Buffer;
  #used: number;
  #offsets: Uint32Array;
  #length: number;
  readonly #maxBytes: number;

  /** @param maxBytes most bytes of all entries together */
  constructor(maxBytes: number = MAX_BYTES) {
    this.#maxBytes = maxBytes;
    this.#bytes = Buffer.alloc(INITIAL_BYTES);
    this.#used = 0;
    this.#offsets = new Uint32Array(INITIAL_BYTES / 64);
    this.#length = 0;
  }

  /**
   * The table that {@link TocRecords.encode} returned; keeps both buffers. Entries are checked when they are
   * read.
   * @throws SpandrelError INDEX_MALFORMED if entries overlap or are out of order
   */
  static decode(bytes: Buffer, offsets: Uint32Array): TocRecords {
    // If entries could share bytes, a small table could take as long to read as a large one.
    let before = -1;
    for (const offset of offsets) {
      if (offset <= before || offset >= bytes.length) throw malformed();
      before = offset;
    }
    const records = new TocRecords();
    records.#bytes = bytes;
    records.#used = bytes.length;
    records.#offsets = offsets;
    records.#length = offsets.length;
    return records;
  }

  /** The packed records and the offset of each; shares memory with this object. */
  encode(): { bytes: Buffer; offsets: Uint32Array } {
    return { bytes: this.#bytes.subarray(0, this.#used), offsets: this.#offsets.subarray(0, this.#length) };
  }

  get length(): number {
    return this.#length;
  }

  /** Size of the packed entries. */
  get usedBytes(): number {
    return this.#used;
  }

  get memoryBytes(): number {
    return this.#bytes.length + this.#offsets.byteLength;
  }

  /** @throws SpandrelError LAYER_TOO_LARGE */
  add(entry: TocEntry): void {
    this.#reserve(recordBytes(entry));
    this.#offsets[this.#length++] = this.#used;
    const bytes = this.#bytes;
    let at = bytes.writeUInt8(TYPES.indexOf(entry.type), this.#used);
    for (const field of DOUBLES) at = bytes.writeDoubleLE(entry[field], at);
    at = bytes.writeUInt32LE(entry.uid, at);
    at = bytes.writeUInt32LE(entry.gid, at);
    at = bytes.writeUInt32LE(entry.paxRecords.size, at);
    for (const field of TEXTS) at = writeText(bytes, entry[field], at);
    for (const [key, value] of entry.paxRecords) at = writeText(bytes, value, writeText(bytes, key, at));
    if (isSparse(entry.type)) at = writeText(bytes, entry.sparseMap ?? '', at);
    this.#used = at;
  }

  /** @throws SpandrelError INDEX_MALFORMED */
  at(index: number): TocEntry | undefined {
    const reader = this.#reader(index);
    if (reader === undefined) return undefined;
    const type = TYPES[reader.byte()];
    if (type === undefined) throw malformed();
    const entry = {
      type,
      uncompressedOffset: reader.integer(),
      uncompressedSize: reader.integer(),
      mode: reader.integer(),
      devMajor: reader.integer(),
      devMinor: reader.integer(),
      uid: reader.uint32(),
      gid: reader.uint32(),
    };
    const paxCount = reader.uint32();
    const texts = {
      name: reader.text(),
      linkname: reader.text(),
      uname: reader.text(),
      gname: reader.text(),
      modTime: reader.text(),
    };
    const paxRecords = new Map<RawText, RawText>();
    for (let count = 0; count < paxCount; count++) paxRecords.set(reader.text(), reader.text());
    return { ...entry, ...texts, paxRecords, ...(isSparse(type) ? { sparseMap: reader.text() } : {}) };
  }

  /**
   * The name of an entry, without decoding the rest.
   * @throws SpandrelError INDEX_MALFORMED
   */
  nameAt(index: number): RawText | undefined {
    const reader = this.#reader(index);
    reader?.skip(FIXED_BYTES);
    return reader?.text();
  }

  #reader(index: number): RecordReader | undefined {
    const offset = index >= 0 && index < this.#length ? this.#offsets[index] : undefined;
    if (offset === undefined) return undefined;
    const end = index + 1 < this.#length ? this.#offsets[index + 1] : this.#used;
    return new RecordReader(this.#bytes, offset, end ?? this.#used);
  }

  #reserve(bytes: number): void {
    const wanted = this.#used + bytes;
    if (wanted > this.#maxBytes) {
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        `the table of contents of the layer takes more than ${this.#maxBytes} bytes`,
      );
    }
    if (wanted > this.#bytes.length) {
      const grown = Buffer.alloc(Math.max(wanted, Math.min(2 * this.#bytes.length, this.#maxBytes)));
      this.#bytes.copy(grown, 0, 0, this.#used);
      this.#bytes = grown;
    }
    if (this.#length === this.#offsets.length) {
      const grown = new Uint32Array(2 * this.#length);
      grown.set(this.#offsets);
      this.#offsets = grown;
    }
  }
}

class RecordReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  byte(): number {
    return this.#bytes.readUInt8(this.#take(TYPE_BYTES));
  }

  uint32(): number {
    return this.#bytes.readUInt32LE(this.#take(UINT32_BYTES));
  }

  integer(): number {
    const value = this.#bytes.readDoubleLE(this.#take(DOUBLE_BYTES));
    if (!Number.isSafeInteger(value)) throw malformed();
    return value;
  }

  text(): RawText {
    const length = this.uint32();
    const start = this.#take(length);
    return this.#bytes.toString('latin1', start, start + length) as RawText;
  }

  skip(bytes: number): void {
    this.#take(bytes);
  }

  #take(bytes: number): number {
    const start = this.#at;
    if (start + bytes > this.#end) throw malformed();
    this.#at = start + bytes;
    return start;
  }
}

function recordBytes(entry: TocEntry): number {
  let bytes = FIXED_BYTES;
  for (const field of TEXTS) bytes += LENGTH_BYTES + entry[field].length;
  for (const [key, value] of entry.paxRecords) bytes += 2 * LENGTH_BYTES + key.length + value.length;
  if (isSparse(entry.type)) bytes += LENGTH_BYTES + (entry.sparseMap?.length ?? 0);
  return bytes + OFFSET_BYTES;
}

function isSparse(type: EntryType): boolean {
  return type === 'sparse' || type === 'gnu-sparse';
}

function writeText(bytes: Buffer, text: string, at: number): number {
  const start = bytes.writeUInt32LE(text.length, at);
  return start + bytes.write(text, start, 'latin1');
}

function malformed(): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', 'the table of contents is damaged');
}
