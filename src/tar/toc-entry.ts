import type { RawText } from './raw-text.ts';

/** The entry types of a zTOC (soci-snapshotter `ztoc/toc_builder.go`, getType). */
export const ZTOC_ENTRY_TYPES = ['reg', 'dir', 'symlink', 'hardlink', 'char', 'block', 'fifo'] as const;

/**
 * Types that occur in our own indexes only: `sparse`, which SOCI takes for a regular file, though its data in the archive is not the
 * file's content; `gnu-sparse` and `contiguous`, regular files for tar that nodes refuse; `unknown`, for which there is no other word.
 */
export const OWN_ENTRY_TYPES = ['sparse', 'gnu-sparse', 'contiguous', 'unknown'] as const;

export type EntryType = (typeof ZTOC_ENTRY_TYPES)[number] | (typeof OWN_ENTRY_TYPES)[number];

/** One file of a layer as its tar header describes it. All numbers are safe integers. */
export interface TocEntry {
  /** As in the archive: not cleaned, directories mostly end in a slash. */
  readonly name: RawText;
  readonly type: EntryType;
  /** Where the file's data begins, behind all of its headers. */
  readonly uncompressedOffset: number;
  /** Size field of the header. Entries other than `reg` have no data whatever it says. */
  readonly uncompressedSize: number;
  /** Target of a symbolic or hard link, else empty. */
  readonly linkname: RawText;
  readonly mode: number;
  /** Unsigned 32 bits; larger numbers have wrapped. */
  readonly uid: number;
  readonly gid: number;
  readonly uname: RawText;
  readonly gname: RawText;
  /** RFC 3339 in UTC with up to nine decimals; empty if the year is not within 0 to 9999. */
  readonly modTime: string;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Of a sparse file: which parts of it the archive holds, as `SparseRegions` takes it. */
  readonly sparseMap?: RawText;
  /** All records of the entry's PAX header, extended attributes as `SCHILY.xattr.<name>`. Sorted by key. */
  readonly paxRecords: ReadonlyMap<RawText, RawText>;
}

/** What can be read like an array of entries without being one. */
export interface TocEntryList {
  readonly length: number;
  at(index: number): TocEntry | undefined;
}
