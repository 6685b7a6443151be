import type { DecodedZtoc } from '../ztoc/decode-ztoc.ts';

/**
 * True if no file has extended attributes and no directory is opaque: the snapshotter need not look for any
 * (soci-snapshotter `soci/soci_index.go`, shouldDisableXattrs).
 */
export function hasNoXattrs({ entries }: DecodedZtoc): boolean {
  return entries.every(
    ({ name, paxRecords }) =>
      !name.endsWith('.wh..wh..opq') &&
      ![...paxRecords.keys()].some((key) => key.startsWith('SCHILY.xattr.')),
  );
}
