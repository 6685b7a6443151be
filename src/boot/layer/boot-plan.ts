import type { Digest } from '../../core/digest.ts';
import { TAR_BLOCK_BYTES } from '../../tar/tar-header.ts';

/** An entry of a layer's tar that a boot layer copies. Offsets in the decompressed layer. */
export interface CopiedEntry {
  /** Place in {@link BootPlan.layers}. */
  readonly layer: number;
  /** Where the headers start: the end of the entry before it. */
  readonly start: number;
  /** Where the data start, after all headers. */
  readonly dataStart: number;
  /** Where the data end, without padding. */
  readonly end: number;
}

/** What a boot layer consists of. The same plan always makes the same tar. */
export interface BootPlan {
  /** Layers that it copies from. */
  readonly layers: readonly Digest[];
  /** In the order of the tar: directories before what is in them, files before their hard links. */
  readonly entries: readonly CopiedEntry[];
}

/** Bytes of an entry in a tar, with its padding. */
export function entryBytes({ start, end }: Pick<CopiedEntry, 'start' | 'end'>): number {
  return Math.ceil((end - start) / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}
