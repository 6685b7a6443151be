import { SpandrelError } from '../core/errors.ts';
import type { RawText } from './raw-text.ts';
import { parseDecimal } from './parse-numeric.ts';

/** Records of a PAX header, by key. */
export type PaxRecords = ReadonlyMap<RawText, RawText>;

/** Keys with a meaning for archive readers (POSIX `pax`; GNU tar, "Sparse Formats"). */
export const PAX = {
  path: 'path' as RawText,
  linkpath: 'linkpath' as RawText,
  size: 'size' as RawText,
  uid: 'uid' as RawText,
  gid: 'gid' as RawText,
  uname: 'uname' as RawText,
  gname: 'gname' as RawText,
  mtime: 'mtime' as RawText,
  atime: 'atime' as RawText,
  ctime: 'ctime' as RawText,
  sparseMajor: 'GNU.sparse.major' as RawText,
  sparseMinor: 'GNU.sparse.minor' as RawText,
  sparseName: 'GNU.sparse.name' as RawText,
  sparseSize: 'GNU.sparse.size' as RawText,
  sparseRealSize: 'GNU.sparse.realsize' as RawText,
  sparseMap: 'GNU.sparse.map' as RawText,
  sparseCount: 'GNU.sparse.numblocks' as RawText,
  sparseOffset: 'GNU.sparse.offset' as RawText,
  sparseLength: 'GNU.sparse.numbytes' as RawText,
} as const;

const TEXT_KEYS: readonly RawText[] = [PAX.path, PAX.linkpath, PAX.uname, PAX.gname];
const SHORTEST_RECORD = 5;

/**
 * Parses the data of a PAX header; the last of equal keys wins (Go `archive/tar`, parsePAX). The pairs of
 * records that list a map in sparse format 0.0 become one record of format 0.1.
 * @throws SpandrelError TAR_INVALID
 */
export function parsePaxRecords(data: RawText): PaxRecords {
  const records = new Map<RawText, RawText>();
  const sparseMap: RawText[] = [];
  for (let at = 0; at < data.length;) {
    const { key, value, end } = parseRecord(data, at);
    at = end;
    if (key !== PAX.sparseOffset && key !== PAX.sparseLength) {
      records.set(key, value);
      continue;
    }
    const expected = sparseMap.length % 2 === 0 ? PAX.sparseOffset : PAX.sparseLength;
    if (key !== expected || value.includes(',')) throw invalid();
    sparseMap.push(value);
  }
  if (sparseMap.length > 0) records.set(PAX.sparseMap, sparseMap.join(',') as RawText);
  return records;
}

/** `<length> <key>=<value>\n`; the length counts the whole record. */
function parseRecord(data: RawText, start: number): { key: RawText; value: RawText; end: number } {
  const space = data.indexOf(' ', start);
  if (space < 0) throw invalid();
  const length = Number(parseDecimal(data.slice(start, space)));
  const end = start + length;
  if (length < SHORTEST_RECORD || end > data.length || end <= space + 1 || data[end - 1] !== '\n')
    throw invalid();
  const record = data.slice(space + 1, end - 1);
  const equals = record.indexOf('=');
  const key = record.slice(0, equals) as RawText;
  const value = record.slice(equals + 1) as RawText;
  // Values of other keys may have NULs: extended attributes can be binary.
  const noNul = TEXT_KEYS.includes(key) ? value : key;
  if (equals < 1 || noNul.includes('\0')) throw invalid();
  return { key, value, end };
}

function invalid(): SpandrelError {
  return new SpandrelError('TAR_INVALID', 'a PAX header has a malformed record');
}
