import type { LayerCompression } from '../core/media-types.ts';
import type { LayerIndex } from './layer-index.ts';
import type { RawText } from './raw-text.ts';
import type { Span } from './span.ts';
import type { TocEntry } from './ztoc.ts';

/**
 * What a layer can be read with: a complete index, or one that is still being built, which answers as soon as it can. A signal
 * ends the waiting of one caller, not the build.
 * @throws SpandrelError from every method: what made the build fail; INDEX_MALFORMED
 */
export interface LayerIndexView {
  readonly compression: LayerCompression;
  /** The span with this byte of the decompressed layer; `undefined` if the layer ends before it. */
  spanAt(uncompressedOffset: number, signal?: AbortSignal): Promise<Span | undefined>;
  span(id: number, signal?: AbortSignal): Promise<Span | undefined>;
  /** The output before a span that it may refer to: 32 KiB, or nothing. The caller owns the bytes. */
  window(span: Span): Promise<Uint8Array>;
  /**
   * The entry at a path, which is cleaned first. A complete index knows the last one of several; one that is being built gives the
   * first it has seen.
   */
  findFile(path: RawText, signal?: AbortSignal): Promise<TocEntry | undefined>;
  finished(signal?: AbortSignal): Promise<LayerIndex>;
}
