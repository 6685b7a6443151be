import type { ByteRange } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import type { ProvenBytes } from '../core/proven-bytes.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { LayerIndex } from '../index/layer-index.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import type { RawText } from '../tar/raw-text.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';
import type { StoredWindow } from '../index/stored-window.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

/**
 * A large complete index that its readers do not hold in memory: a client may read a layer for an hour, and
 * an index may have a hundred megabytes. Each call gets the index again, mostly from the cache.
 */
export class EvictableIndex implements LayerIndexView {
  readonly compression: LayerCompression;
  readonly layerBytes: ProvenBytes;
  readonly unverifiedBuild = undefined;
  readonly #checksum: number;
  readonly #acquire: (signal?: AbortSignal) => Promise<LayerIndex>;
  /** Windows of the spans that were returned. */
  readonly #windows = new WeakMap<ReadSpan, StoredWindow>();

  /** @param acquire returns the index, rebuilt if it is gone */
  constructor(index: LayerIndex, acquire: (signal?: AbortSignal) => Promise<LayerIndex>) {
    this.compression = index.compression;
    this.layerBytes = index.layerBytes;
    this.#checksum = index.checksum;
    this.#acquire = acquire;
  }

  /** True if `index` has the same content. */
  isOf(index: LayerIndex): boolean {
    return index.checksum === this.#checksum;
  }

  assertSound(): void {
    // A complete index is built from verified bytes.
  }

  async readSpans(range: ByteRange, signal?: AbortSignal): Promise<readonly ReadSpan[]> {
    const index = await this.#acquire(signal);
    const spans = await index.readSpans(range);
    for (const span of spans) this.#windows.set(span, index.window(span));
    return spans;
  }

  async span(id: number, signal?: AbortSignal): Promise<Span | undefined> {
    return (await this.#acquire(signal)).span(id);
  }

  window(span: ReadSpan): StoredWindow {
    const window = this.#windows.get(span);
    if (window === undefined) throw new SpandrelError('INTERNAL', 'the span does not come from this index');
    return window;
  }

  async findFile(path: RawText, signal?: AbortSignal): Promise<TocEntry | undefined> {
    return (await this.#acquire(signal)).findFile(path);
  }

  async findLinked(link: TocEntry, signal?: AbortSignal): Promise<TocEntry | undefined> {
    return (await this.#acquire(signal)).findLinked(link);
  }

  finished(signal?: AbortSignal): Promise<LayerIndex> {
    return this.#acquire(signal);
  }
}
