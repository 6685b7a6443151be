import { SpandrelError } from '../core/errors.ts';
import { PAX, type PaxRecords } from './pax-records.ts';
import { EMPTY_RAW_TEXT, type RawText } from './raw-text.ts';
import { SparseRegions } from './sparse-regions.ts';
import { TAR_BLOCK_BYTES } from './tar-header.ts';
import { type Field, parseDecimal, parseNumeric } from './parse-numeric.ts';

/**
 * The regions of a sparse file: pairs of offset and length in decimal, ascending and apart, as in
 * `0,512,4096,100`.
 */
export type SparseMap = RawText;

/** Largest extended header or sparse map (Go `archive/tar`, maxSpecialFileSize). */
export const MAX_SPECIAL_BYTES = 2 ** 20;
const MAX_REGIONS = 2 ** 20;
const GNU_NUMBER_BYTES = 12;

/** Where the map of a PAX sparse file is stored; `undefined` if the file is not sparse. */
export function paxSparseKind(records: PaxRecords | undefined): 'map in records' | 'map in data' | undefined {
  if (records === undefined) return undefined;
  const major = records.get(PAX.sparseMajor) ?? '';
  const minor = records.get(PAX.sparseMinor) ?? '';
  if (major === '0' && (minor === '0' || minor === '1')) return 'map in records';
  if (major === '1' && minor === '0') return 'map in data';
  if (major !== '' || minor !== '') return undefined;
  return (records.get(PAX.sparseMap) ?? '') === '' ? undefined : 'map in records';
}

/**
 * Size of the unpacked file; `undefined` if the records leave it as the header has it.
 * @throws SpandrelError TAR_INVALID
 */
export function paxSparseSize(records: PaxRecords): number | bigint | undefined {
  const size = records.get(PAX.sparseSize) || records.get(PAX.sparseRealSize) || '';
  return size === '' ? undefined : parseDecimal(size);
}

/**
 * A map of format 0.0 or 0.1.
 * @throws SpandrelError TAR_INVALID
 */
export function parseSparseRecords(records: PaxRecords, size: number | bigint): SparseMap {
  const count = parseDecimal(records.get(PAX.sparseCount) ?? '');
  const map = records.get(PAX.sparseMap) ?? EMPTY_RAW_TEXT;
  const numbers = map === '' ? [] : map.split(',');
  if (count < 0 || numbers.length !== 2 * Number(count)) throw invalid();
  return joinRegions(numbers, size);
}

/**
 * Reads a map of format 1.0 block by block: decimal numbers, each ended by a newline; the first is their
 * count.
 */
export class SparseDataMap {
  readonly #size: number | bigint;
  #text = '';
  #newlines = 0;
  #blocks = 0;
  #wantedNewlines = 1;

  constructor(size: number | bigint) {
    this.#size = size;
  }

  /**
   * @returns the map if this block completes it
   * @throws SpandrelError TAR_INVALID
   */
  take(block: RawText): SparseMap | undefined {
    if (++this.#blocks * TAR_BLOCK_BYTES > MAX_SPECIAL_BYTES) throw invalid();
    this.#text += block;
    for (let at = block.indexOf('\n'); at >= 0; at = block.indexOf('\n', at + 1)) this.#newlines++;
    if (this.#newlines < this.#wantedNewlines) return undefined;
    const count = parseDecimal(this.#text.slice(0, this.#text.indexOf('\n')));
    if (count < 0) throw invalid();
    this.#wantedNewlines = 1 + 2 * Number(count);
    if (this.#newlines < this.#wantedNewlines) return undefined;
    return joinRegions(this.#text.split('\n').slice(1, this.#wantedNewlines), this.#size);
  }
}

/** A map of the old GNU format: pairs of numbers in the header and in the extension blocks after it. */
export class GnuSparseMap {
  readonly #size: number | bigint;
  readonly #numbers: string[] = [];

  constructor(size: number | bigint) {
    this.#size = size;
  }

  /**
   * Reads pairs up to the first empty one.
   * @throws SpandrelError TAR_INVALID
   */
  take(block: Uint8Array, { start, length }: Field): void {
    for (let at = start; at < start + length && block[at] !== 0; at += 2 * GNU_NUMBER_BYTES) {
      for (const field of [at, at + GNU_NUMBER_BYTES])
        this.#numbers.push(String(parseNumeric(block, { start: field, length: GNU_NUMBER_BYTES })));
    }
  }

  /** @throws SpandrelError TAR_INVALID */
  finish(): SparseMap {
    return joinRegions(this.#numbers, this.#size);
  }
}

/** True if the archive holds exactly the bytes that the map lists; unpackers refuse fewer and more. */
export function fitsSparseMap(map: SparseMap, dataBytes: number): boolean {
  return new SparseRegions(map).storedBytes === dataBytes;
}

/** Regions must ascend, not overlap, and lie within the file. */
function joinRegions(numbers: readonly string[], size: number | bigint): SparseMap {
  if (size < 0 || numbers.length > 2 * MAX_REGIONS) throw invalid();
  let end = 0n;
  for (let at = 0; at < numbers.length; at += 2) {
    const offset = BigInt(parseDecimal(numbers[at] ?? ''));
    const length = BigInt(parseDecimal(numbers[at + 1] ?? ''));
    if (offset < 0n || length < 0n || offset < end || offset + length > size) throw invalid();
    end = offset + length;
  }
  return numbers.join(',') as SparseMap;
}

function invalid(): SpandrelError {
  return new SpandrelError('TAR_INVALID', 'the map of a sparse file is malformed');
}
