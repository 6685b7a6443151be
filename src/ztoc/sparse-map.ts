import { SpandrelError } from '../core/errors.ts';
import { PAX, type PaxRecords } from './pax-records.ts';
import { EMPTY_RAW_TEXT, type RawText } from './raw-text.ts';
import { TAR_BLOCK_BYTES } from './tar-header.ts';
import { parseDecimal } from './tar-number.ts';

/** Extended headers and sparse maps larger than this are refused (Go `archive/tar`, maxSpecialFileSize). */
export const MAX_SPECIAL_BYTES = 2 ** 20;
const MAX_REGIONS = 2 ** 20;

/** Where a PAX header says that the map of a sparse file stands; `undefined` for a file that is not sparse. */
export function paxSparseKind(records: PaxRecords | undefined): 'map in records' | 'map in data' | undefined {
  if (records === undefined) return undefined;
  const major = records.get(PAX.sparseMajor) ?? '';
  const minor = records.get(PAX.sparseMinor) ?? '';
  if (major === '0' && (minor === '0' || minor === '1')) return 'map in records';
  if (major === '1' && minor === '0') return 'map in data';
  if (major !== '' || minor !== '') return undefined;
  return (records.get(PAX.sparseMap) ?? '') === '' ? undefined : 'map in records';
}

/** Size of the file that a sparse entry stands for; `undefined` if the records leave it at the header's. @throws SpandrelError TAR_INVALID */
export function paxSparseSize(records: PaxRecords): number | bigint | undefined {
  const size = records.get(PAX.sparseSize) || records.get(PAX.sparseRealSize) || '';
  return size === '' ? undefined : parseDecimal(size);
}

/** Check a map of format 0.0 or 0.1. @throws SpandrelError TAR_INVALID */
export function checkSparseRecords(records: PaxRecords, size: number | bigint): void {
  const count = parseDecimal(records.get(PAX.sparseCount) ?? '');
  const map = records.get(PAX.sparseMap) ?? EMPTY_RAW_TEXT;
  const numbers = map === '' ? [] : map.split(',');
  if (count < 0 || numbers.length !== 2 * Number(count)) throw invalid();
  checkRegions(numbers, size);
}

/** Reads the map of format 1.0 block by block: decimal numbers, each ended by a newline, the first their count. */
export class SparseDataMap {
  readonly #size: number | bigint;
  #text = '';
  #newlines = 0;
  #blocks = 0;
  #wantedNewlines = 1;

  constructor(size: number | bigint) {
    this.#size = size;
  }

  /** @returns true if the map is complete with this block @throws SpandrelError TAR_INVALID */
  take(block: RawText): boolean {
    if (++this.#blocks * TAR_BLOCK_BYTES > MAX_SPECIAL_BYTES) throw invalid();
    this.#text += block;
    for (let at = block.indexOf('\n'); at >= 0; at = block.indexOf('\n', at + 1)) this.#newlines++;
    if (this.#newlines < this.#wantedNewlines) return false;
    const count = parseDecimal(this.#text.slice(0, this.#text.indexOf('\n')));
    if (count < 0) throw invalid();
    this.#wantedNewlines = 1 + 2 * Number(count);
    if (this.#newlines < this.#wantedNewlines) return false;
    checkRegions(this.#text.split('\n').slice(1, this.#wantedNewlines), this.#size);
    return true;
  }
}

/** Regions are pairs of offset and length: in order, apart, and within the file. */
function checkRegions(numbers: readonly string[], size: number | bigint): void {
  if (size < 0 || numbers.length > 2 * MAX_REGIONS) throw invalid();
  let end = 0n;
  for (let at = 0; at < numbers.length; at += 2) {
    const offset = BigInt(parseDecimal(numbers[at] ?? ''));
    const length = BigInt(parseDecimal(numbers[at + 1] ?? ''));
    if (offset < 0n || length < 0n || offset < end || offset + length > size) throw invalid();
    end = offset + length;
  }
}

function invalid(): SpandrelError {
  return new SpandrelError('TAR_INVALID', 'the map of a sparse file is none');
}
