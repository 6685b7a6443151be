import type { ByteRange } from '../core/byte-range.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { ProvenBytes } from '../core/proven-bytes.ts';
import type { LayerIndex } from './layer-index.ts';
import type { RawText } from '../tar/raw-text.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';
import type { StoredWindow } from './stored-window.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

/**
 * A complete index, or one that is being built, whose methods wait until they know the result. A signal ends
 * the wait of its caller, not the build.
 * @throws SpandrelError from every method: the error that made the build fail; INDEX_MALFORMED
 */
export interface LayerIndexView {
  readonly compression: LayerCompression;
  /** Size of the blob. */
  readonly layerBytes: ProvenBytes;
  /**
   * Id of the build, until the digest of the layer is verified. Bytes read through such an index may be given
   * to readers of this build only; if the build fails, they are discarded.
   */
  readonly unverifiedBuild: string | undefined;
  /** @throws SpandrelError BLOB_CORRUPT if the build has read other bytes than the layer's */
  assertSound(): void;
  /**
   * The spans that cover a range of the decompressed layer; the first one holds its first byte. Empty if the
   * layer ends before the range. While building, returns the spans found so far, at least one.
   */
  readSpans(range: ByteRange, signal?: AbortSignal): Promise<readonly ReadSpan[]>;
  /** A span of the zTOC. */
  span(id: number, signal?: AbortSignal): Promise<Span | undefined>;
  /**
   * The stored window that a read span needs. Spans decoded directly after it, in the same run, need none.
   */
  window(span: ReadSpan): StoredWindow;
  /**
   * The entry at a path, which is cleaned first. If a path occurs several times, a complete index returns the
   * last entry; one that is being built returns one that it has seen, though another may follow.
   */
  findFile(path: RawText, signal?: AbortSignal): Promise<TocEntry | undefined>;
  /** The target of a hard link: the last entry at its path that precedes it in the archive. */
  findLinked(link: TocEntry, signal?: AbortSignal): Promise<TocEntry | undefined>;
  finished(signal?: AbortSignal): Promise<LayerIndex>;
}
