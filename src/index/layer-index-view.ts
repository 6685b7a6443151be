import type { ByteRange } from '../core/byte-range.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { ProvenBytes } from '../core/proven-bytes.ts';
import type { LayerIndex } from './layer-index.ts';
import type { RawText } from '../tar/raw-text.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';
import type { StoredWindow } from './stored-window.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

/**
 * What a layer can be read with: a complete index, or one that is still being built, which answers as soon as it can. A signal
 * ends the waiting of one caller, not the build.
 * @throws SpandrelError from every method: what made the build fail; INDEX_MALFORMED
 */
export interface LayerIndexView {
  readonly compression: LayerCompression;
  /** Size of the blob. */
  readonly layerBytes: ProvenBytes;
  /**
   * Names the build as long as the digest of the bytes that it reads has not been verified. What is read by such an index may be given to
   * whoever waits for it, and goes with the build if that fails.
   */
  readonly unverifiedBuild: string | undefined;
  /** @throws SpandrelError BLOB_CORRUPT once it is known that it was made of other bytes than the layer's */
  assertSound(): void;
  /**
   * The spans to read a range of the decompressed layer by, the first of which holds its first byte; none if the layer ends before
   * it. An index that is being built gives those that it has, one at least.
   */
  readSpans(range: ByteRange, signal?: AbortSignal): Promise<readonly ReadSpan[]>;
  /** A span of the zTOC. */
  span(id: number, signal?: AbortSignal): Promise<Span | undefined>;
  /**
   * Where there is what a read span refers to of the output before it. It does for the spans that follow as well if they are decoded
   * in one go.
   */
  window(span: ReadSpan): StoredWindow;
  /**
   * The entry at a path, which is cleaned first. A complete index knows the last one of several; one that is being built gives one that
   * it has seen, and another may come.
   */
  findFile(path: RawText, signal?: AbortSignal): Promise<TocEntry | undefined>;
  /**
   * The entry that a hard link leads to: the last one at its path that is ahead of it.
   */
  findLinked(link: TocEntry, signal?: AbortSignal): Promise<TocEntry | undefined>;
  finished(signal?: AbortSignal): Promise<LayerIndex>;
}
