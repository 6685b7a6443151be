import type { RawText } from './raw-text.ts';
import type { SparseMap } from './sparse-map.ts';

/** The entry types of a zTOC (soci-snapshotter `ztoc/toc_builder.go`, getType). */
export const ZTOC_ENTRY_TYPES = ['reg', 'dir', 'symlink', 'hardlink', 'char', 'block', 'fifo'] as const;

/**
 * Types of our own indexes only. `sparse`: a PAX sparse file; the archive holds its regions, not its content.
 * `gnu-sparse` and `contiguous`: files that tar can unpack and nodes cannot. `unknown`: an entry that cannot
 * be read, which includes a PAX sparse file whose map does not fit its data.
 */
export const OWN_ENTRY_TYPES = ['sparse', 'gnu-sparse', 'contiguous', 'unknown'] as const;

export type EntryType = (typeof ZTOC_ENTRY_TYPES)[number] | (typeof OWN_ENTRY_TYPES)[number];

/**
 * The type in a zTOC. `soci` goes by the type flag alone: every PAX sparse file is `reg`, even one whose map
 * does not fit its data. An archive with any other entry of type `unknown`, or with one that nodes cannot
 * unpack, has no zTOC.
 */
export function ztocEntryType(type: EntryType): EntryType {
  return type === 'sparse' || type === 'unknown' ? 'reg' : type;
}

/** One file of a layer as its tar header describes it. All numbers are safe integers. */
export interface TocEntry {
  /** As in the archive: not cleaned; names of directories usually end with a slash. */
  readonly name: RawText;
  readonly type: EntryType;
  /** Where the data of the file starts, after all its headers. */
  readonly uncompressedOffset: number;
  /**
   * Size field of the header, or of the unpacked file if it is sparse. Links, directories and devices have no
   * data, whatever it says.
   */
  readonly uncompressedSize: number;
  /** Target of a symbolic or hard link, else empty. */
  readonly linkname: RawText;
  readonly mode: number;
  /** Unsigned 32 bits; larger numbers wrap. */
  readonly uid: number;
  readonly gid: number;
  readonly uname: RawText;
  readonly gname: RawText;
  /** RFC 3339 in UTC with up to nine decimals; empty if the year is not within 0 to 9999. */
  readonly modTime: string;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Of a sparse file: the parts that the archive holds. */
  readonly sparseMap?: SparseMap;
  /** All records of the entry's PAX header, sorted by key. Extended attributes are `SCHILY.xattr.<name>`. */
  readonly paxRecords: ReadonlyMap<RawText, RawText>;
}

/** A list that can be indexed like an array, without being one. */
export interface TocEntryList {
  readonly length: number;
  at(index: number): TocEntry | undefined;
}
