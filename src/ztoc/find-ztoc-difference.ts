import { decodeGzipZinfo, type GzipZinfo } from './gzip-zinfo.ts';
import { decodeTarZinfo } from './tar-zinfo.ts';
import type { RawText } from '../tar/raw-text.ts';
import type { Ztoc } from './ztoc.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

/**
 * What differs between a pushed zTOC and the one built from the layer with the same span size; `undefined` if
 * they say the same. Flatbuffer layout, zinfo version and time zones may differ.
 * @throws SpandrelError INDEX_MALFORMED
 */
export function findZtocDifference(pushed: Ztoc, own: Ztoc): string | undefined {
  if (pushed.compression !== own.compression) return 'the compression';
  if (pushed.compressedArchiveSize !== own.compressedArchiveSize) return 'the size of the layer';
  if (pushed.uncompressedArchiveSize !== own.uncompressedArchiveSize) return 'the size of the archive';
  if (pushed.spanDigests.join() !== own.spanDigests.join()) return 'the digests of the spans';
  const checkpoints = findCheckpointDifference(pushed, own);
  if (checkpoints !== undefined) return checkpoints;
  if (pushed.entries.length !== own.entries.length) return 'the number of files';
  for (let index = 0; index < own.entries.length; index++) {
    const a = pushed.entries.at(index);
    const b = own.entries.at(index);
    if (a === undefined || b === undefined || !isSameEntry(a, b)) return `file ${index}`;
  }
  return undefined;
}

function findCheckpointDifference(pushed: Ztoc, own: Ztoc): string | undefined {
  if (own.compression === 'none') {
    const a = decodeTarZinfo(pushed.checkpoints);
    const b = decodeTarZinfo(own.checkpoints);
    return a.spanBytes === b.spanBytes && a.sizeBytes === b.sizeBytes ? undefined : 'the spans';
  }
  return findGzipDifference(decodeGzipZinfo(pushed.checkpoints), decodeGzipZinfo(own.checkpoints));
}

function findGzipDifference(pushed: GzipZinfo, own: GzipZinfo): string | undefined {
  if (pushed.checkpoints.length !== own.checkpoints.length) return 'the number of checkpoints';
  const different = own.checkpoints.findIndex((b, index) => {
    const a = pushed.checkpoints[index];
    return (
      a === undefined ||
      a.compressedOffset !== b.compressedOffset ||
      a.uncompressedOffset !== b.uncompressedOffset ||
      a.bits !== b.bits ||
      Buffer.compare(a.window, b.window) !== 0
    );
  });
  return different === -1 ? undefined : `checkpoint ${different}`;
}

function isSameEntry(a: TocEntry, b: TocEntry): boolean {
  const { modTime: timeA, paxRecords: recordsA, ...fieldsA } = a;
  const { modTime: timeB, paxRecords: recordsB, ...fieldsB } = b;
  const names = Object.keys(fieldsB) as (keyof typeof fieldsB)[];
  return (
    names.every((name) => fieldsA[name] === fieldsB[name]) &&
    isSameTime(timeA, timeB) &&
    isSameMap(recordsA, recordsB)
  );
}

function isSameMap(a: ReadonlyMap<RawText, RawText>, b: ReadonlyMap<RawText, RawText>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value);
}

/** RFC 3339 in any zone, with up to nine decimals. `soci` prints times in the zone of its machine. */
function isSameTime(a: string, b: string): boolean {
  if (a === b) return true;
  const [instantA, instantB] = [parseTime(a), parseTime(b)];
  return instantA !== undefined && instantA === instantB;
}

function parseTime(text: string): string | undefined {
  const [, seconds, fraction = '', zone] = /^(.{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text) ?? [];
  const instant = Date.parse(`${seconds}${zone}`);
  return Number.isNaN(instant) ? undefined : `${instant} ${fraction.padEnd(9, '0')}`;
}
