import type { Digest } from '../core/digest.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { TocEntryList } from '../tar/toc-entry.ts';

/** The only version of the format. */
export const ZTOC_VERSION = '0.9';

/** The tool name that `soci` v0.10 to v0.15 writes. It is part of the zTOC, and so of its digest. */
export const ZTOC_BUILD_TOOL = 'AWS SOCI CLI v0.2';

/** Compressions of layers that can have a zTOC. */
export type ZtocCompression = Exclude<LayerCompression, 'zstd'>;

/** Table of contents and checkpoints of one layer (soci-snapshotter `ztoc/ztoc.go`). */
export interface Ztoc {
  readonly version: string;
  readonly buildTool: string;
  /** Size of the layer's blob in bytes. */
  readonly compressedArchiveSize: number;
  /** Offset where the tar reader stopped; bytes after the end of the archive do not count. */
  readonly uncompressedArchiveSize: number;
  readonly entries: TocEntryList;
  readonly compression: ZtocCompression;
  /** Number of spans minus one; -1 for an empty uncompressed layer. */
  readonly maxSpanId: number;
  /** Digests of the spans' compressed bytes. */
  readonly spanDigests: readonly Digest[];
  /** The encoded gzip or tar zinfo. */
  readonly checkpoints: Uint8Array;
}
