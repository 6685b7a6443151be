import { PAX, type PaxRecords } from './pax-records.ts';
import type { RawText } from './raw-text.ts';
import type { TarHeader } from './tar-header.ts';
import { parseDecimal, wrapUint32 } from './parse-numeric.ts';
import { formatTime, parsePaxTime, type TarTime } from './tar-time.ts';
import type { EntryType, TocEntry } from './toc-entry.ts';

/** Data of the extended headers before a header. */
export interface HeaderExtensions {
  readonly pax?: PaxRecords;
  readonly longName?: RawText;
  readonly longLink?: RawText;
}

/** A header with its extensions applied. */
export interface MergedHeader extends Omit<TarHeader, 'modTime'> {
  readonly modTime: TarTime;
  readonly pax: PaxRecords;
}

const TYPES: Readonly<Record<string, EntryType>> = {
  '0': 'reg',
  '7': 'contiguous',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'dir',
  '6': 'fifo',
};
const SOCI_TYPEFLAGS = '0123456';
const WITHOUT_DATA = '123456';
const NO_RECORDS: PaxRecords = new Map();

/** The type of an entry; `unknown` for unassigned type flags. */
export function entryType(typeflag: string): EntryType {
  return TYPES[typeflag] ?? 'unknown';
}

/**
 * False if `soci` refuses the whole layer for such an entry (soci-snapshotter `ztoc/toc_builder.go`,
 * getType).
 */
export function isSociType(typeflag: string): boolean {
  return SOCI_TYPEFLAGS.includes(typeflag);
}

/** Bytes of data after a header. Links, directories and devices have none, whatever their size field says. */
export function dataBytes(typeflag: string, size: number | bigint): number {
  // Inexact above 2^53; no archive is that long.
  return WITHOUT_DATA.includes(typeflag) ? 0 : Number(size);
}

/**
 * Applies extensions to a header (Go `archive/tar`, mergePAX and Next). PAX records with an empty value
 * change nothing.
 * @throws SpandrelError TAR_INVALID
 */
export function mergeHeader(header: TarHeader, extensions: HeaderExtensions): MergedHeader {
  const pax = extensions.pax ?? NO_RECORDS;
  const record = (key: RawText): RawText | undefined => pax.get(key) || undefined;
  const number = (key: RawText): number | bigint | undefined => {
    const value = record(key);
    return value === undefined ? undefined : parseDecimal(value);
  };
  const time = (key: RawText): TarTime | undefined => {
    const value = record(key);
    return value === undefined ? undefined : parsePaxTime(value);
  };
  // Unused, but Go refuses an entry whose times are malformed.
  time(PAX.atime);
  time(PAX.ctime);
  const name = extensions.longName || record(PAX.path) || header.name;
  return {
    ...header,
    typeflag: header.typeflag === '\0' ? (name.endsWith('/') ? '5' : '0') : header.typeflag,
    name,
    linkname: extensions.longLink || record(PAX.linkpath) || header.linkname,
    size: number(PAX.size) ?? header.size,
    uid: number(PAX.uid) ?? header.uid,
    gid: number(PAX.gid) ?? header.gid,
    uname: record(PAX.uname) ?? header.uname,
    gname: record(PAX.gname) ?? header.gname,
    modTime: time(PAX.mtime) ?? { seconds: header.modTime, nanoseconds: 0 },
    pax,
  };
}

/** The entry of a table of contents; of type `unknown` if one of its numbers is not a safe integer. */
export function tocEntry(header: MergedHeader, type: EntryType, uncompressedOffset: number): TocEntry {
  const { size, mode, devMajor, devMinor } = header;
  const numbers =
    isSafe(size) && isSafe(mode) && isSafe(devMajor) && isSafe(devMinor)
      ? { type, uncompressedSize: size, mode, devMajor, devMinor }
      : { type: 'unknown' as const, uncompressedSize: 0, mode: 0, devMajor: 0, devMinor: 0 };
  return {
    ...numbers,
    name: header.name,
    uncompressedOffset,
    linkname: header.linkname,
    uid: wrapUint32(header.uid),
    gid: wrapUint32(header.gid),
    uname: header.uname,
    gname: header.gname,
    modTime: formatTime(header.modTime),
    paxRecords: header.pax,
  };
}

function isSafe(value: number | bigint): value is number {
  return typeof value === 'number';
}
