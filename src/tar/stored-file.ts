import { SparseRegions } from './sparse-regions.ts';
import type { EntryType, TocEntry } from './toc-entry.ts';

/** The fields of an entry that say where its data are in the decompressed layer. */
export type StoredFile = Pick<TocEntry, 'type' | 'uncompressedOffset' | 'uncompressedSize' | 'sparseMap'>;

/** Regular files, in every form in which tar stores them. */
const READABLE_TYPES: readonly EntryType[] = ['reg', 'sparse', 'gnu-sparse', 'contiguous'];

export function isReadable({ type }: Pick<StoredFile, 'type'>): boolean {
  return READABLE_TYPES.includes(type);
}

/** Where the data of an entry end in the decompressed layer. */
export function storedEnd({ type, uncompressedOffset, uncompressedSize, sparseMap }: StoredFile): number {
  if (!isReadable({ type })) return uncompressedOffset;
  const bytes = sparseMap === undefined ? uncompressedSize : new SparseRegions(sparseMap).storedBytes;
  return uncompressedOffset + bytes;
}
