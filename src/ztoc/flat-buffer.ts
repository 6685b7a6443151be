import { SpandrelError } from '../core/errors.ts';
import { decodeRawText, EMPTY_RAW_TEXT, type RawText } from '../tar/raw-text.ts';

const OFFSET_BYTES = 4;
const VTABLE_HEADER_BYTES = 4;
/** The smallest table holds only the offset of its vtable. */
const LEAST_TABLE_BYTES = 4;

/**
 * Reader of an untrusted flatbuffer. Every access is bounds-checked, and no byte is read twice as content, so
 * that a small buffer whose tables share strings cannot decode to a large value. Encoders that share strings
 * are therefore refused; `soci` never does.
 * @throws SpandrelError INDEX_MALFORMED from every method
 */
export class FlatBuffer {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #budget: number;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#budget = bytes.length;
  }

  root(): FlatTable {
    return this.table(this.follow(0));
  }

  uint8(at: number): number {
    this.#check(at, 1);
    return this.#view.getUint8(at);
  }

  uint16(at: number): number {
    this.#check(at, 2);
    return this.#view.getUint16(at, true);
  }

  int32(at: number): number {
    this.#check(at, 4);
    return this.#view.getInt32(at, true);
  }

  uint32(at: number): number {
    this.#check(at, 4);
    return this.#view.getUint32(at, true);
  }

  int64(at: number): number {
    this.#check(at, 8);
    const value = Number(this.#view.getBigInt64(at, true));
    if (!Number.isSafeInteger(value)) throw malformed('a number is too large');
    return value;
  }

  /** The target of the reference at `at`. */
  follow(at: number): number {
    return at + this.uint32(at);
  }

  table(at: number): FlatTable {
    const vtable = at - this.int32(at);
    const vtableBytes = this.uint16(vtable);
    const tableBytes = this.uint16(vtable + 2);
    if (vtableBytes < VTABLE_HEADER_BYTES || tableBytes < LEAST_TABLE_BYTES)
      throw malformed('a table is too short');
    this.#check(vtable, vtableBytes);
    this.#spend(at, tableBytes);
    return new FlatTable(this, at, vtable, vtableBytes);
  }

  /** The bytes of a byte vector; shares memory with the buffer. */
  byteVector(at: number): Uint8Array {
    const length = this.uint32(at);
    this.#spend(at, OFFSET_BYTES + length);
    return this.#bytes.subarray(at + OFFSET_BYTES, at + OFFSET_BYTES + length);
  }

  /** The targets of a vector of references. */
  offsetVector(at: number): number[] {
    const length = this.uint32(at);
    this.#spend(at, OFFSET_BYTES + length * OFFSET_BYTES);
    return Array.from({ length }, (_, index) => this.follow(at + OFFSET_BYTES * (index + 1)));
  }

  #check(at: number, length: number): void {
    if (!(at >= 0 && at + length <= this.#bytes.length)) throw malformed('a reference leads outside it');
  }

  #spend(at: number, length: number): void {
    this.#check(at, length);
    this.#budget -= length;
    if (this.#budget < 0) throw malformed('it refers to the same bytes repeatedly');
  }
}

/** A table of a {@link FlatBuffer}. An absent field has the default of its type. */
export class FlatTable {
  readonly #buffer: FlatBuffer;
  readonly #start: number;
  readonly #vtable: number;
  readonly #vtableBytes: number;

  constructor(buffer: FlatBuffer, start: number, vtable: number, vtableBytes: number) {
    this.#buffer = buffer;
    this.#start = start;
    this.#vtable = vtable;
    this.#vtableBytes = vtableBytes;
  }

  int8(slot: number, absent: number): number {
    const at = this.#field(slot);
    return at === undefined ? absent : this.#buffer.uint8(at);
  }

  int32(slot: number): number {
    const at = this.#field(slot);
    return at === undefined ? 0 : this.#buffer.int32(at);
  }

  uint32(slot: number): number {
    const at = this.#field(slot);
    return at === undefined ? 0 : this.#buffer.uint32(at);
  }

  int64(slot: number): number {
    const at = this.#field(slot);
    return at === undefined ? 0 : this.#buffer.int64(at);
  }

  raw(slot: number): RawText {
    const at = this.#reference(slot);
    return at === undefined ? EMPTY_RAW_TEXT : decodeRawText(this.#buffer.byteVector(at));
  }

  bytes(slot: number): Uint8Array {
    const at = this.#reference(slot);
    return at === undefined ? new Uint8Array(0) : this.#buffer.byteVector(at);
  }

  table(slot: number): FlatTable | undefined {
    const at = this.#reference(slot);
    return at === undefined ? undefined : this.#buffer.table(at);
  }

  tables(slot: number): FlatTable[] {
    return this.#elements(slot).map((at) => this.#buffer.table(at));
  }

  raws(slot: number): RawText[] {
    return this.#elements(slot).map((at) => decodeRawText(this.#buffer.byteVector(at)));
  }

  #elements(slot: number): number[] {
    const at = this.#reference(slot);
    return at === undefined ? [] : this.#buffer.offsetVector(at);
  }

  #reference(slot: number): number | undefined {
    const at = this.#field(slot);
    return at === undefined ? undefined : this.#buffer.follow(at);
  }

  #field(slot: number): number | undefined {
    const entry = VTABLE_HEADER_BYTES + 2 * slot;
    if (entry + 2 > this.#vtableBytes) return undefined;
    const offset = this.#buffer.uint16(this.#vtable + entry);
    return offset === 0 ? undefined : this.#start + offset;
  }
}

function malformed(problem: string): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', `the flatbuffer is damaged: ${problem}`);
}
