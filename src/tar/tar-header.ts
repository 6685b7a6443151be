import { SpandrelError } from '../core/errors.ts';
import { decodeRawText, EMPTY_RAW_TEXT, type RawText } from './raw-text.ts';
import { type Field, parseNumeric, parseOctal } from './parse-numeric.ts';

/** A tar consists of blocks of this size. */
export const TAR_BLOCK_BYTES = 512;

/** The fields of a header block, before extended headers apply. */
export interface TarHeader {
  /** One character; `\0` in old archives. */
  readonly typeflag: string;
  readonly format: TarFormat;
  readonly name: RawText;
  readonly linkname: RawText;
  readonly size: number | bigint;
  readonly mode: number | bigint;
  readonly uid: number | bigint;
  readonly gid: number | bigint;
  readonly modTime: number | bigint;
  readonly uname: RawText;
  readonly gname: RawText;
  readonly devMajor: number | bigint;
  readonly devMinor: number | bigint;
}

export type TarFormat = 'v7' | 'ustar' | 'star' | 'gnu';

// Go `archive/tar`, format.go. PAX headers have the fields of ustar.
const FIELDS = {
  name: { start: 0, length: 100 },
  mode: { start: 100, length: 8 },
  uid: { start: 108, length: 8 },
  gid: { start: 116, length: 8 },
  size: { start: 124, length: 12 },
  modTime: { start: 136, length: 12 },
  checksum: { start: 148, length: 8 },
  linkname: { start: 157, length: 100 },
  magic: { start: 257, length: 6 },
  version: { start: 263, length: 2 },
  uname: { start: 265, length: 32 },
  gname: { start: 297, length: 32 },
  devMajor: { start: 329, length: 8 },
  devMinor: { start: 337, length: 8 },
  ustarPrefix: { start: 345, length: 155 },
  starPrefix: { start: 345, length: 131 },
  starAccessTime: { start: 476, length: 12 },
  starChangeTime: { start: 488, length: 12 },
  starTrailer: { start: 508, length: 4 },
  gnuAccessTime: { start: 345, length: 12 },
  gnuChangeTime: { start: 357, length: 12 },
} as const satisfies Record<string, Field>;
const TYPEFLAG = 156;

/**
 * The fields of a header block, as Go's `archive/tar` reads them (reader.go, readHeader).
 * @param block exactly one block, not all zeros
 * @throws SpandrelError TAR_INVALID
 */
export function parseTarHeader(block: Uint8Array): TarHeader {
  const format = detectFormat(block);
  const number = (field: Field): number | bigint => parseNumeric(block, field);
  const hasOwners = format !== 'v7';
  const header = {
    typeflag: String.fromCharCode(block[TYPEFLAG] ?? 0),
    format,
    linkname: parseText(block, FIELDS.linkname),
    size: number(FIELDS.size),
    mode: number(FIELDS.mode),
    uid: number(FIELDS.uid),
    gid: number(FIELDS.gid),
    modTime: number(FIELDS.modTime),
    uname: hasOwners ? parseText(block, FIELDS.uname) : EMPTY_RAW_TEXT,
    gname: hasOwners ? parseText(block, FIELDS.gname) : EMPTY_RAW_TEXT,
    devMajor: hasOwners ? number(FIELDS.devMajor) : 0,
    devMinor: hasOwners ? number(FIELDS.devMinor) : 0,
  };
  const name = parseText(block, FIELDS.name);
  const prefix = parsePrefix(block, format);
  return { ...header, name: prefix === '' ? name : (`${prefix}/${name}` as RawText) };
}

/** True for a block of zeros; two of them end an archive. */
export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

function detectFormat(block: Uint8Array): TarFormat {
  const stored = parseOctal(block, FIELDS.checksum);
  const { unsigned, signed } = checksums(block);
  if (stored !== unsigned && stored !== signed) throw invalid('a tar header has a wrong checksum');
  const magic = fieldText(block, FIELDS.magic);
  if (magic === 'ustar\0') return fieldText(block, FIELDS.starTrailer) === 'tar\0' ? 'star' : 'ustar';
  return magic === 'ustar ' && fieldText(block, FIELDS.version) === ' \0' ? 'gnu' : 'v7';
}

/** The sum of all bytes, with the checksum field counted as spaces. Sun's tar summed signed bytes. */
function checksums(block: Uint8Array): { unsigned: number; signed: number } {
  const { start, length } = FIELDS.checksum;
  let unsigned = length * 0x20;
  let negatives = 0;
  for (let at = 0; at < TAR_BLOCK_BYTES; at++) {
    if (at === start) at += length;
    const byte = block[at] ?? 0;
    unsigned += byte;
    if (byte > 0x7f) negatives++;
  }
  return { unsigned, signed: unsigned - 0x100 * negatives };
}

function parsePrefix(block: Uint8Array, format: TarFormat): RawText {
  if (format === 'ustar') return parseText(block, FIELDS.ustarPrefix);
  if (format === 'gnu') return parseGnuPrefix(block);
  if (format === 'v7') return EMPTY_RAW_TEXT;
  // Unused, but Go refuses a star header whose times are malformed.
  parseNumeric(block, FIELDS.starAccessTime);
  parseNumeric(block, FIELDS.starChangeTime);
  return parseText(block, FIELDS.starPrefix);
}

/**
 * GNU headers have no prefix. Go before 1.8 wrote one where the times are; then the times are not numbers.
 */
function parseGnuPrefix(block: Uint8Array): RawText {
  try {
    for (const field of [FIELDS.gnuAccessTime, FIELDS.gnuChangeTime]) {
      if (block[field.start] !== 0) parseNumeric(block, field);
    }
    return EMPTY_RAW_TEXT;
  } catch {
    const prefix = parseText(block, FIELDS.ustarPrefix);
    return /[\u0080-\u00ff]/.test(prefix) ? EMPTY_RAW_TEXT : prefix;
  }
}

/** The field up to the first NUL. */
function parseText(block: Uint8Array, { start, length }: Field): RawText {
  if (block[start] === 0) return EMPTY_RAW_TEXT;
  const bytes = block.subarray(start, start + length);
  const nul = bytes.indexOf(0);
  return decodeRawText(nul < 0 ? bytes : bytes.subarray(0, nul));
}

function fieldText(block: Uint8Array, { start, length }: Field): string {
  return decodeRawText(block.subarray(start, start + length));
}

function invalid(problem: string): SpandrelError {
  return new SpandrelError('TAR_INVALID', problem);
}
